"""The tables; column names are the records' field names."""

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from twinfra.core.bus import outbox_table
from twinfra.core.database import UTCDateTime
from twinfra.core.workflow import workflow_table

METADATA = MetaData()
WORKFLOW = workflow_table(METADATA)
OUTBOX = outbox_table(METADATA)

DEPLOYMENTS = Table(
    "deployments",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("issuer", String(512), nullable=False),
    Column("sub", String(255), nullable=False),
    Column("group", String(255), nullable=False),
    Column("status", String(32), nullable=False),
    Column("status_reason", Text, nullable=False),
    Column("task", String(16), nullable=False),
    Column("template", Text, nullable=False),
    Column("parameters", JSON, nullable=False),
    Column("wishes", JSON, nullable=False),
    Column("permit", JSON, nullable=False),
    Column("outputs", JSON, nullable=False),
    Column("provider", String(64), nullable=True),
    Column("endpoint", String(512), nullable=True),
    Column("generation", Integer, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("deadline_at", UTCDateTime, nullable=True),
    Column("created_at", UTCDateTime, nullable=False),
    Column("updated_at", UTCDateTime, nullable=False),
    Index("deployments_owner", "sub", "created_at"),
    Index("deployments_group", "group", "created_at"),
    Index("deployments_status", "status", "updated_at"),
)

NODES = Table(
    "nodes",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("deployment", String(36), nullable=False),
    Column("name", String(255), nullable=False),
    Column("type", String(255), nullable=False),
    Column("role", String(16), nullable=False),
    Column("place", Integer, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("depends_on", JSON, nullable=False),
    Column("state", String(16), nullable=False),
    Column("armed", Boolean, nullable=False),
    Column("follow", JSON, nullable=False),
    Column("port", Integer, nullable=True),
    Column("active_run", String(36), nullable=True),
    Column("removed", Boolean, nullable=False),
    Column("created_at", UTCDateTime, nullable=False),
    Column("updated_at", UTCDateTime, nullable=False),
    UniqueConstraint("deployment", "name", name="nodes_name"),
)

RUNS = Table(
    "runs",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("deployment", String(36), nullable=False),
    Column("node", String(255), nullable=False),
    Column("number", Integer, nullable=False),
    Column("trigger", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("cause", String(255), nullable=True),
    Column("event", JSON, nullable=True),
    Column("cycle", Integer, nullable=False),
    Column("candidates", JSON, nullable=False),
    Column("pins", JSON, nullable=False),
    Column("intent", JSON, nullable=True),
    Column("cancel", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
    Column("exit_code", Integer, nullable=True),
    Column("deadline_at", UTCDateTime, nullable=True),
    Column("created_at", UTCDateTime, nullable=False),
    Column("updated_at", UTCDateTime, nullable=False),
    Column("ended_at", UTCDateTime, nullable=True),
    UniqueConstraint("deployment", "node", "number", name="runs_number"),
    UniqueConstraint("deployment", "node", "cause", name="runs_cause"),
    Index("runs_state", "state"),
)

ATTEMPTS = Table(
    "attempts",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("run", String(36), nullable=False),
    Column("deployment", String(36), nullable=False),
    Column("node", String(255), nullable=False),
    Column("number", Integer, nullable=False),
    Column("cycle", Integer, nullable=False),
    Column("target", JSON, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reached", String(16), nullable=False),
    Column("failure", String(32), nullable=True),
    Column("reason", Text, nullable=False),
    Column("exit_code", Integer, nullable=True),
    Column("native_id", String(255), nullable=False),
    Column("restarts", Integer, nullable=False),
    Column("log_tail", Text, nullable=False),
    Column("unseen_since", UTCDateTime, nullable=True),
    Column("gone", Boolean, nullable=False),
    Column("kept", Boolean, nullable=False),
    Column("deadline_at", UTCDateTime, nullable=True),
    Column("created_at", UTCDateTime, nullable=False),
    Column("ended_at", UTCDateTime, nullable=True),
    UniqueConstraint("run", "number", name="attempts_number"),
    Index("attempts_deployment", "deployment"),
    Index("attempts_state", "state"),
)

HOLDS = Table(
    "holds",
    METADATA,
    Column("attempt", String(36), primary_key=True),
    Column("did", String(300), primary_key=True),
    Column("rule", String(36), nullable=False),
    Index("holds_rule", "rule"),
)

PLACEMENTS = Table(
    "placements",
    METADATA,
    Column("run", String(36), primary_key=True),
    Column("cycle", Integer, primary_key=True),
    Column("deployment", String(36), nullable=False),
    Column("node", String(255), nullable=False),
    Column("at", UTCDateTime, nullable=False),
    Column("body", JSON, nullable=False),
    Index("placements_deployment", "deployment"),
)

POLICIES = Table(
    "policies",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("deployment", String(36), nullable=False),
    Column("name", String(255), nullable=False),
    Column("action", String(16), nullable=False),
    Column("node", String(255), nullable=False),
    Column("types", JSON, nullable=False),
    Column("condition", JSON, nullable=False),
    Column("path", String(1024), nullable=False),
    Column("coalesce", Boolean, nullable=False),
    Column("subscription", String(255), nullable=True),
    Column("removed", Boolean, nullable=False),
    Index("policies_deployment", "deployment"),
)

CALLS = Table(
    "calls",
    METADATA,
    Column("deployment", String(36), primary_key=True),
    Column("number", Integer, primary_key=True),
)

HISTORY = Table(
    "history",
    METADATA,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("deployment", String(36), nullable=False),
    Column("at", UTCDateTime, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("body", JSON, nullable=False),
    Index("history_deployment", "deployment", "seq"),
)

REPEATS = Table(
    "repeats",
    METADATA,
    Column("issuer", String(512), primary_key=True),
    Column("sub", String(255), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("deployment", String(36), nullable=False),
    Column("at", UTCDateTime, nullable=False),
)
