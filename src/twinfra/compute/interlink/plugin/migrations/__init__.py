"""Alembic revisions of the plug-in's tables."""
