"""The twinfra command: one file per command group."""
