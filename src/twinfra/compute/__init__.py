"""Federated compute: a pod reaches a site and runs there as a container job."""
