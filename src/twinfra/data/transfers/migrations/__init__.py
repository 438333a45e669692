"""Alembic files of the transfer service's tables."""
