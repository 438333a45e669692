"""Alembic revisions of the datasets service's tables, oldest first; run by ``core.database``."""
