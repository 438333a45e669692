"""Alembic revisions of monitoring's tables."""
