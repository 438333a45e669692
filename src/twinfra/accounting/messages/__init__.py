"""Usage in the formats of the field, one file each: projections of our records, no more."""
