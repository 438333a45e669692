"""Statuses, ended jobs, outbox."""

import sqlalchemy as sa
from alembic import op

from twinfra.core.database import UTCDateTime

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "site_statuses",
        sa.Column("site", sa.String(63), primary_key=True),
        sa.Column("up", sa.Boolean, nullable=False),
        sa.Column("reason", sa.String(2000), nullable=False),
        sa.Column("since", UTCDateTime, nullable=False),
        sa.Column("checked_at", UTCDateTime),
        sa.Column("probe_failure_rate", sa.Float, nullable=False),
    )
    op.create_table(
        "job_outcomes",
        sa.Column("key", sa.String(255), primary_key=True),
        sa.Column("site", sa.String(63), nullable=False),
        sa.Column("at", UTCDateTime, nullable=False),
        sa.Column("failed", sa.Boolean, nullable=False),
    )
    op.create_index("ix_job_outcomes_site_at", "job_outcomes", ["site", "at"])
    op.create_table(
        "outbox",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("event", sa.JSON, nullable=False),
    )


def downgrade() -> None:
    for table in ("outbox", "job_outcomes", "site_statuses"):
        op.drop_table(table)
