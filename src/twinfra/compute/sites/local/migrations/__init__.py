"""Alembic revisions of the local back end's tables."""
