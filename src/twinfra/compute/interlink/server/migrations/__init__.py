"""Alembic revisions of the API server's tables."""
