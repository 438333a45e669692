"""Usage records of every job, byte and service."""
