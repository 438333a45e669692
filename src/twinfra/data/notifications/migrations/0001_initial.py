"""The first tables: subscriptions, triggers, cursors of sites, events on their way."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from twinfra.core.database import UTCDateTime

revision = "0001"
down_revision = None

BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    _owned(
        "subscription",
        sa.Column("types", sa.JSON, nullable=False),
        sa.Column("filter", sa.JSON, nullable=False),
        sa.Column("sink_url", sa.Text, nullable=False),
    )
    _owned(
        "trigger",
        sa.Column("site", sa.String(64), nullable=False),
        sa.Column("path_prefix", sa.Text, nullable=False),
        sa.Column("dataset", sa.Text, nullable=False),
        sa.Column("pattern", sa.Text),
        sa.Column("existing", sa.Integer, nullable=False),
    )
    op.create_table(
        "cursor",
        sa.Column("site", sa.String(64), primary_key=True),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("updated_at", UTCDateTime, nullable=False),
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("event", sa.JSON, nullable=False),
    )


def _owned(name: str, *columns: sa.Column[Any]) -> None:
    op.create_table(
        name,
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("issuer", sa.Text, nullable=False),
        sa.Column("sub", sa.Text, nullable=False),
        sa.Column("group", sa.Text),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("created_at", UTCDateTime, nullable=False),
        sa.Column("follow_from", UTCDateTime),
        sa.Column("grant", sa.JSON),
        sa.Column("epoch", sa.String(64)),
        sa.Column("sequence", BIG, nullable=False),
        sa.Column("count", BIG, nullable=False),
        sa.Column("event_id", sa.Text),
        sa.Column("at", UTCDateTime),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("dropped", sa.Integer, nullable=False),
        sa.Column("last_error", sa.Text),
        *columns,
    )
    op.create_index(f"{name}_by_owner", name, ["issuer", "sub", "name"], unique=True)


def downgrade() -> None:
    for table in ("outbox", "cursor", "trigger", "subscription"):
        op.drop_table(table)
