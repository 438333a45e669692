"""The table of usage records."""

import sqlalchemy as sa
from alembic import op

from twinfra.core.database import UTCDateTime

revision = "0001"
down_revision = None

INDEXES = {
    "ix_usage_records_page": ["ended_at", "id"],
    "ix_usage_records_group": ["group_name", "ended_at"],
    "ix_usage_records_person": ["sub", "ended_at"],
    "ix_usage_records_deployment": ["deployment"],
    "ix_usage_records_month": ["month", "site"],
}


def upgrade() -> None:
    op.create_table(
        "usage_records",
        sa.Column("id", sa.String(255), primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("site", sa.String(255), nullable=False),
        sa.Column("month", sa.String(7), nullable=False),
        sa.Column("iss", sa.String(255)),
        sa.Column("sub", sa.String(255)),
        sa.Column("group_name", sa.String(255)),
        sa.Column("deployment", sa.String(255)),
        sa.Column("started_at", UTCDateTime, nullable=False),
        sa.Column("ended_at", UTCDateTime, nullable=False),
        sa.Column("received_at", UTCDateTime, nullable=False),
        sa.Column("sender", sa.String(255), nullable=False),
        sa.Column("wall_s", sa.BigInteger, nullable=False),
        sa.Column("cpu_s", sa.BigInteger, nullable=False),
        sa.Column("core_s", sa.BigInteger, nullable=False),
        sa.Column("gpu_s", sa.Float, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("record", sa.JSON, nullable=False),
        sa.CheckConstraint("wall_s >= 0 AND cpu_s >= 0 AND size_bytes >= 0", name="not_negative"),
        sa.CheckConstraint("kind IN ('job', 'storage', 'transfer')", name="known_kind"),
    )
    for name, columns in INDEXES.items():
        op.create_index(name, "usage_records", columns)


def downgrade() -> None:
    op.drop_table("usage_records")
