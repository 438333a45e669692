"""Revisions of the deployments tables, applied in order at start."""
