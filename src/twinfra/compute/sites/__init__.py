"""Back ends that place keepers: one file per batch system."""
