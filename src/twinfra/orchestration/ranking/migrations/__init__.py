"""Alembic revisions of ranking's tables."""
