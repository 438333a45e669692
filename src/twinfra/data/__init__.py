"""Federated data: storage, transfers, datasets, notifications and the edge."""
