"""Alembic revisions of the catalogue's tables."""
