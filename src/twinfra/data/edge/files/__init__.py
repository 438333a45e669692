"""The files of a site: never opened outside the root, written as drafts, checksummed once."""
