"""Alembic files of the notification service's tables."""
