"""Drivers that make a node of a template real: one file per driver."""
