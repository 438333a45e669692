"""The tables of the datasets service, the same on SQLite and PostgreSQL.

Names are resolved to numbers once, at the door of the store: contents, replicas and locks join on
integers. Nothing here runs SQL; the neighbours do.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    true,
)

from twinfra.core.bus import outbox_table
from twinfra.core.database import UTCDateTime
from twinfra.core.workflow import workflow_table

metadata = MetaData()
BIG = BigInteger().with_variant(Integer, "sqlite")


def _did(name: str = "did_id", *, key: bool = False) -> Column[int]:
    return Column(
        name, BIG, ForeignKey("dids.id", ondelete="CASCADE"), primary_key=key, nullable=False
    )


def _rse(name: str = "rse_id", *, key: bool = False) -> Column[int]:
    return Column(
        name, Integer, ForeignKey("rses.id", ondelete="CASCADE"), primary_key=key, nullable=False
    )


outbox = outbox_table(metadata)
workflow = workflow_table(metadata)

accounts = Table(
    "accounts",
    metadata,
    Column("name", String(25), primary_key=True),
    Column("type", String(8), nullable=False),
    Column("created_at", UTCDateTime, nullable=False),
)
identities = Table(
    "identities",
    metadata,
    Column("issuer", String(255), primary_key=True),
    Column("sub", String(255), primary_key=True),
    Column("account", String(25), ForeignKey("accounts.name"), nullable=False),
)
scopes = Table(
    "scopes",
    metadata,
    Column("name", String(25), primary_key=True),
    Column("account", String(25), ForeignKey("accounts.name"), nullable=False),
    Column("created_at", UTCDateTime, nullable=False),
)
dids = Table(
    "dids",
    metadata,
    Column("id", BIG, primary_key=True, autoincrement=True),
    Column("scope", String(25), ForeignKey("scopes.name"), nullable=False),
    Column("name", String(250), nullable=False),
    Column("type", String(9), nullable=False),
    Column("account", String(25), nullable=False),
    Column("size_bytes", BigInteger),
    Column("adler32", String(8)),
    Column("md5", String(32)),
    Column("is_open", Boolean),
    Column("monotonic", Boolean, nullable=False, server_default=false()),
    Column("expires_at", UTCDateTime),
    Column("meta", JSON, nullable=False),
    Column("created_at", UTCDateTime, nullable=False),
    Column("updated_at", UTCDateTime, nullable=False),
    Column("closed_at", UTCDateTime),
    UniqueConstraint("scope", "name", name="dids_name"),
)
did_inputs = Table(
    "did_inputs",
    metadata,
    _did(key=True),
    Column("scope", String(25), primary_key=True),
    Column("name", String(250), primary_key=True),
    Index("did_inputs_name", "scope", "name"),
)
contents = Table(
    "contents",
    metadata,
    _did("parent_id", key=True),
    _did("child_id", key=True),
    Column("child_type", String(9), nullable=False),
    Column("created_at", UTCDateTime, nullable=False),
    Index("contents_child", "child_id"),
)
rses = Table(
    "rses",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("uuid", String(32), nullable=False),
    Column("name", String(30), nullable=False, unique=True),
    Column("rse_type", String(4), nullable=False),
    Column("deterministic", Boolean, nullable=False, server_default=true()),
    Column("volatile", Boolean, nullable=False, server_default=false()),
    Column("staging_area", Boolean, nullable=False, server_default=false()),
    Column("availability_read", Boolean, nullable=False, server_default=true()),
    Column("availability_write", Boolean, nullable=False, server_default=true()),
    Column("availability_delete", Boolean, nullable=False, server_default=true()),
    Column("place", JSON, nullable=False),
    Column("created_at", UTCDateTime, nullable=False),
)
rse_attributes = Table(
    "rse_attributes",
    metadata,
    _rse(key=True),
    Column("key", String(64), primary_key=True),
    Column("value", JSON, nullable=False),
)
rse_protocols = Table(
    "rse_protocols",
    metadata,
    _rse(key=True),
    Column("scheme", String(16), primary_key=True),
    Column("hostname", String(255), primary_key=True),
    Column("port", Integer, primary_key=True, autoincrement=False),
    Column("prefix", String(1024), nullable=False),
    Column("impl", String(255), nullable=False),
    Column("domains", JSON, nullable=False),
    Column("extended_attributes", JSON, nullable=False),
)
rse_distances = Table(
    "rse_distances",
    metadata,
    _rse("source_id", key=True),
    _rse("dest_id", key=True),
    Column("distance", Integer, nullable=False),
)
rse_usage = Table(
    "rse_usage",
    metadata,
    _rse(key=True),
    Column("source", String(64), primary_key=True),
    Column("used_bytes", BigInteger),
    Column("free_bytes", BigInteger),
    Column("files", BigInteger),
    Column("updated_at", UTCDateTime, nullable=False),
)
rse_limits = Table(
    "rse_limits",
    metadata,
    _rse(key=True),
    Column("name", String(64), primary_key=True),
    Column("value", Float, nullable=False),
)
replicas = Table(
    "replicas",
    metadata,
    _did(key=True),
    _rse(key=True),
    Column("state", String(21), nullable=False),
    Column("path", String(1024)),
    Column("size_bytes", BigInteger),
    Column("account", String(25), nullable=False),
    Column("group_name", String(255), nullable=False, server_default=""),
    Column("deployment", String(255), nullable=False, server_default=""),
    Column("tombstone_at", UTCDateTime),
    Column("created_at", UTCDateTime, nullable=False),
    Column("updated_at", UTCDateTime, nullable=False),
    Index("replicas_rse", "rse_id", "state"),
)
bad_replicas = Table(
    "bad_replicas",
    metadata,
    Column("id", BIG, primary_key=True, autoincrement=True),
    _did(),
    _rse(),
    Column("state", String(10), nullable=False),
    Column("reason", Text, nullable=False),
    Column("account", String(25), nullable=False),
    Column("created_at", UTCDateTime, nullable=False),
    Index("bad_replicas_replica", "did_id", "rse_id"),
)
rules = Table(
    "rules",
    metadata,
    Column("id", String(36), primary_key=True),
    _did(),
    Column("account", String(25), nullable=False),
    Column("copies", Integer, nullable=False),
    Column("rse_expression", Text, nullable=False),
    Column("grouping", String(8), nullable=False),
    Column("state", String(11), nullable=False),
    Column("error", Text),
    Column("locks_ok", Integer, nullable=False, server_default="0"),
    Column("locks_replicating", Integer, nullable=False, server_default="0"),
    Column("locks_stuck", Integer, nullable=False, server_default="0"),
    Column("expires_at", UTCDateTime),
    Column("locked", Boolean, nullable=False, server_default=false()),
    Column("weight", String(64)),
    Column("source_replica_expression", Text),
    Column("activity", String(64), nullable=False),
    Column("comment", Text),
    Column("meta", JSON, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("notify", String(1), nullable=False),
    Column("purge_replicas", Boolean, nullable=False, server_default=false()),
    Column("ignore_availability", Boolean, nullable=False, server_default=false()),
    Column("group_name", String(255), nullable=False, server_default=""),
    Column("deployment", String(255), nullable=False, server_default=""),
    Column("delegation", JSON),
    Column("stuck_at", UTCDateTime),
    Column("repair_at", UTCDateTime),
    Column("repairs", Integer, nullable=False, server_default="0"),
    Column("created_at", UTCDateTime, nullable=False),
    Column("updated_at", UTCDateTime, nullable=False),
    UniqueConstraint("did_id", "account", "rse_expression", "copies", name="rules_once"),
    Index("rules_account", "account"),
)
locks = Table(
    "locks",
    metadata,
    Column("rule_id", String(36), ForeignKey("rules.id", ondelete="CASCADE"), primary_key=True),
    _did(key=True),
    _rse(key=True),
    Column("state", String(11), nullable=False),
    Column("size_bytes", BigInteger),
    Column("reason", Text),
    Column("created_at", UTCDateTime, nullable=False),
    Index("locks_replica", "did_id", "rse_id"),
    Index("locks_state", "rule_id", "state"),
)
wanted = Table(
    "wanted",
    metadata,
    Column("rule_id", String(36), ForeignKey("rules.id", ondelete="CASCADE"), primary_key=True),
    _did(key=True),
    Column("cluster", BigInteger, nullable=False),
)
placements = Table(
    "placements",
    metadata,
    Column("rule_id", String(36), ForeignKey("rules.id", ondelete="CASCADE"), primary_key=True),
    Column("cluster", BigInteger, primary_key=True, autoincrement=False),
    _rse(key=True),
)
transfers = Table(
    "transfers",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("rule_id", String(36), nullable=False),
    _rse(),
    Column("job_id", String(64)),
    Column("state", String(10), nullable=False),
    Column("created_at", UTCDateTime, nullable=False),
    Column("submitted_at", UTCDateTime),
    Index("transfers_job", "job_id"),
)
requests = Table(
    "requests",
    metadata,
    Column("id", BIG, primary_key=True, autoincrement=True),
    _did(),
    _rse(),
    Column("rule_id", String(36), nullable=False),
    Column("state", String(10), nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("next_try_at", UTCDateTime),
    Column("transfer_id", String(36)),
    Column("reason", Text),
    Column("created_at", UTCDateTime, nullable=False),
    Column("updated_at", UTCDateTime, nullable=False),
    UniqueConstraint("did_id", "rse_id", name="requests_replica"),
    Index("requests_rule", "rule_id", "state"),
    Index("requests_transfer", "transfer_id"),
)
source_failures = Table(
    "source_failures",
    metadata,
    Column("request_id", BIG, ForeignKey("requests.id", ondelete="CASCADE"), primary_key=True),
    _rse(key=True),
    Column("strikes", Integer, nullable=False),
    Column("excluded", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
)
usage_periods = Table(
    "usage_periods",
    metadata,
    _rse(key=True),
    Column("account", String(25), primary_key=True),
    Column("group_name", String(255), primary_key=True),
    Column("deployment", String(255), primary_key=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("files", BigInteger, nullable=False),
    Column("since", UTCDateTime, nullable=False),
)
usage_records = Table(
    "usage_records",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("body", JSON, nullable=False),
    Column("created_at", UTCDateTime, nullable=False),
)
