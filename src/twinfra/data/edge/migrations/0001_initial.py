"""The first tables: entries, outbox, facts, channels, subscriptions."""

import sqlalchemy as sa
from alembic import op

from twinfra.core.database import UTCDateTime

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "entries",
        sa.Column("path", sa.Text, primary_key=True),
        sa.Column("parent", sa.Text, nullable=False),
        sa.Column("directory", sa.Boolean, nullable=False),
        sa.Column("inode", sa.BigInteger),
        sa.Column("size_bytes", sa.BigInteger),
        sa.Column("mtime_ns", sa.BigInteger),
        sa.Column("adler32", sa.String(8)),
        sa.Column("md5", sa.String(32)),
        sa.Column("sha256", sa.String(64)),
    )
    op.create_index("entries_by_parent", "entries", ["parent"])
    number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "outbox",
        sa.Column("id", number, primary_key=True, autoincrement=True),
        sa.Column("change", sa.String(8), nullable=False),
        sa.Column("directory", sa.Boolean, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("at", UTCDateTime, nullable=False),
        sa.Column("size_bytes", sa.BigInteger),
        sa.Column("mtime_ns", sa.BigInteger),
        sa.Column("adler32", sa.String(8)),
        sa.Column("md5", sa.String(32)),
        sa.Column("sha256", sa.String(64)),
        sa.Column("cookie", sa.String(32)),
        sqlite_autoincrement=True,
    )
    op.create_index("outbox_by_time", "outbox", ["at"])
    op.create_table(
        "facts",
        sa.Column("key", sa.String(32), primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    op.create_table(
        "channels",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("client_id", sa.Text),
        sa.Column("timeout_s", sa.Integer, nullable=False),
    )
    op.create_index("channels_by_owner", "channels", ["owner"])
    op.create_table(
        "subscriptions",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column(
            "channel",
            sa.String(64),
            sa.ForeignKey("channels.id", ondelete="CASCADE"),
            nullable=False,
        ),
        sa.Column("selector", sa.JSON, nullable=False),
        sa.Column("since", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("channel", "id", name="subscriptions_by_id"),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    for table in ("subscriptions", "channels", "facts", "outbox", "entries"):
        op.drop_table(table)
