"""The edge's tables: entries, the outbox of their changes, event channels and subscriptions."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from twinfra.core.database import UTCDateTime

metadata = MetaData()

entries = Table(
    "entries",
    metadata,
    Column("path", Text, primary_key=True),
    Column("parent", Text, nullable=False),
    Column("directory", Boolean, nullable=False),
    Column("inode", BigInteger),
    Column("size_bytes", BigInteger),
    Column("mtime_ns", BigInteger),
    Column("adler32", String(8)),
    Column("md5", String(32)),
    Column("sha256", String(64)),
    Index("entries_by_parent", "parent"),
)

outbox = Table(
    "outbox",
    metadata,
    Column(
        "id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
    ),
    Column("change", String(8), nullable=False),
    Column("directory", Boolean, nullable=False),
    Column("path", Text, nullable=False),
    Column("at", UTCDateTime, nullable=False),
    Column("size_bytes", BigInteger),
    Column("mtime_ns", BigInteger),
    Column("adler32", String(8)),
    Column("md5", String(32)),
    Column("sha256", String(64)),
    Column("cookie", String(32)),
    Index("outbox_by_time", "at"),
    sqlite_autoincrement=True,  # an id is never used again, however much is pruned
)

facts = Table(
    "facts",
    metadata,
    Column("key", String(32), primary_key=True),
    Column("value", Text, nullable=False),
)

channels = Table(
    "channels",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("owner", Text, nullable=False),
    Column("client_id", Text),
    Column("timeout_s", Integer, nullable=False),
    Index("channels_by_owner", "owner"),
)

subscriptions = Table(
    "subscriptions",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("id", String(64), nullable=False),
    Column("channel", String(64), ForeignKey("channels.id", ondelete="CASCADE"), nullable=False),
    Column("selector", JSON, nullable=False),
    Column("since", BigInteger, nullable=False),
    UniqueConstraint("channel", "id", name="subscriptions_by_id"),
    sqlite_autoincrement=True,
)
