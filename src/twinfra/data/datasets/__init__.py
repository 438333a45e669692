"""Datasets, replicas and rules behind the Rucio REST interface."""
