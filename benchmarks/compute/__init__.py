"""Benchmarks of the room `compute`."""
