"""Alembic files of accounting's tables."""
