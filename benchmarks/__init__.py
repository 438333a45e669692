"""Benchmarks: each measures a peer in the same run; see ``harness``."""
