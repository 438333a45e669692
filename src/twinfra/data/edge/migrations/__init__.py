"""Alembic revisions of the edge's database."""
