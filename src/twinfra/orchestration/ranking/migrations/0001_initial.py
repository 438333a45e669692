"""Answers."""

import sqlalchemy as sa
from alembic import op

from twinfra.core.database import UTCDateTime

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "rankings",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("at", UTCDateTime, nullable=False),
        sa.Column("group", sa.String(255), nullable=False),
        sa.Column("asked_by", sa.String(255), nullable=False),
        sa.Column("deployment", sa.String(255)),
        sa.Column("body", sa.JSON, nullable=False),
    )
    op.create_index("ix_rankings_at", "rankings", ["at"])
    op.create_index("ix_rankings_deployment_at", "rankings", ["deployment", "at"])


def downgrade() -> None:
    op.drop_table("rankings")
