"""One POSIX-like way to reach any storage: one file per protocol."""
