"""Alembic files of the issuer's tables."""
