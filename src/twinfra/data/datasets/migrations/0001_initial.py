"""The first tables: who, what, where, rules and their work, usage, events on their way."""

import sqlalchemy as sa
from alembic import op

from twinfra.core.database import UTCDateTime

revision = "0001"
down_revision = None

BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")

TABLES = (
    "accounts",
    "identities",
    "scopes",
    "dids",
    "did_inputs",
    "contents",
    "rses",
    "rse_attributes",
    "rse_protocols",
    "rse_distances",
    "rse_usage",
    "rse_limits",
    "replicas",
    "bad_replicas",
    "rules",
    "locks",
    "wanted",
    "placements",
    "transfers",
    "requests",
    "source_failures",
    "usage_periods",
    "usage_records",
    "outbox",
    "workflow",
)


def upgrade() -> None:
    _identity()
    _dids()
    _rses()
    _rse_facts()
    _replicas()
    _rules()
    _locks()
    _requests()
    _usage()
    _work()


def downgrade() -> None:
    for table in reversed(TABLES):
        op.drop_table(table)


def _identity() -> None:
    op.create_table(
        "accounts",
        sa.Column("name", sa.String(25), primary_key=True),
        sa.Column("type", sa.String(8), nullable=False),
        sa.Column("created_at", UTCDateTime, nullable=False),
    )
    op.create_table(
        "identities",
        sa.Column("issuer", sa.String(255), primary_key=True),
        sa.Column("sub", sa.String(255), primary_key=True),
        sa.Column("account", sa.String(25), sa.ForeignKey("accounts.name"), nullable=False),
    )
    op.create_table(
        "scopes",
        sa.Column("name", sa.String(25), primary_key=True),
        sa.Column("account", sa.String(25), sa.ForeignKey("accounts.name"), nullable=False),
        sa.Column("created_at", UTCDateTime, nullable=False),
    )


def _dids() -> None:
    op.create_table(
        "dids",
        sa.Column("id", BIG, primary_key=True, autoincrement=True),
        sa.Column("scope", sa.String(25), sa.ForeignKey("scopes.name"), nullable=False),
        sa.Column("name", sa.String(250), nullable=False),
        sa.Column("type", sa.String(9), nullable=False),
        sa.Column("account", sa.String(25), nullable=False),
        sa.Column("size_bytes", sa.BigInteger),
        sa.Column("adler32", sa.String(8)),
        sa.Column("md5", sa.String(32)),
        sa.Column("is_open", sa.Boolean),
        sa.Column("monotonic", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("expires_at", UTCDateTime),
        sa.Column("meta", sa.JSON, nullable=False),
        sa.Column("created_at", UTCDateTime, nullable=False),
        sa.Column("updated_at", UTCDateTime, nullable=False),
        sa.Column("closed_at", UTCDateTime),
        sa.UniqueConstraint("scope", "name", name="dids_name"),
    )
    op.create_table(
        "did_inputs",
        sa.Column("did_id", BIG, sa.ForeignKey("dids.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("scope", sa.String(25), primary_key=True),
        sa.Column("name", sa.String(250), primary_key=True),
    )
    op.create_index("did_inputs_name", "did_inputs", ["scope", "name"])
    op.create_table(
        "contents",
        sa.Column("parent_id", BIG, sa.ForeignKey("dids.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("child_id", BIG, sa.ForeignKey("dids.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("child_type", sa.String(9), nullable=False),
        sa.Column("created_at", UTCDateTime, nullable=False),
    )
    op.create_index("contents_child", "contents", ["child_id"])


def _rses() -> None:
    op.create_table(
        "rses",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("uuid", sa.String(32), nullable=False),
        sa.Column("name", sa.String(30), nullable=False, unique=True),
        sa.Column("rse_type", sa.String(4), nullable=False),
        sa.Column("deterministic", sa.Boolean, nullable=False, server_default=sa.true()),
        sa.Column("volatile", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("staging_area", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("availability_read", sa.Boolean, nullable=False, server_default=sa.true()),
        sa.Column("availability_write", sa.Boolean, nullable=False, server_default=sa.true()),
        sa.Column("availability_delete", sa.Boolean, nullable=False, server_default=sa.true()),
        sa.Column("place", sa.JSON, nullable=False),
        sa.Column("created_at", UTCDateTime, nullable=False),
    )
    op.create_table(
        "rse_attributes",
        sa.Column(
            "rse_id", sa.Integer, sa.ForeignKey("rses.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("value", sa.JSON, nullable=False),
    )
    op.create_table(
        "rse_protocols",
        sa.Column(
            "rse_id", sa.Integer, sa.ForeignKey("rses.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("scheme", sa.String(16), primary_key=True),
        sa.Column("hostname", sa.String(255), primary_key=True),
        sa.Column("port", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("prefix", sa.String(1024), nullable=False),
        sa.Column("impl", sa.String(255), nullable=False),
        sa.Column("domains", sa.JSON, nullable=False),
        sa.Column("extended_attributes", sa.JSON, nullable=False),
    )


def _rse_facts() -> None:
    op.create_table(
        "rse_distances",
        sa.Column(
            "source_id", sa.Integer, sa.ForeignKey("rses.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column(
            "dest_id", sa.Integer, sa.ForeignKey("rses.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("distance", sa.Integer, nullable=False),
    )
    op.create_table(
        "rse_usage",
        sa.Column(
            "rse_id", sa.Integer, sa.ForeignKey("rses.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("source", sa.String(64), primary_key=True),
        sa.Column("used_bytes", sa.BigInteger),
        sa.Column("free_bytes", sa.BigInteger),
        sa.Column("files", sa.BigInteger),
        sa.Column("updated_at", UTCDateTime, nullable=False),
    )
    op.create_table(
        "rse_limits",
        sa.Column(
            "rse_id", sa.Integer, sa.ForeignKey("rses.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("value", sa.Float, nullable=False),
    )


def _replicas() -> None:
    op.create_table(
        "replicas",
        sa.Column("did_id", BIG, sa.ForeignKey("dids.id", ondelete="CASCADE"), primary_key=True),
        sa.Column(
            "rse_id", sa.Integer, sa.ForeignKey("rses.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("state", sa.String(21), nullable=False),
        sa.Column("path", sa.String(1024)),
        sa.Column("size_bytes", sa.BigInteger),
        sa.Column("account", sa.String(25), nullable=False),
        sa.Column("group_name", sa.String(255), nullable=False, server_default=""),
        sa.Column("deployment", sa.String(255), nullable=False, server_default=""),
        sa.Column("tombstone_at", UTCDateTime),
        sa.Column("created_at", UTCDateTime, nullable=False),
        sa.Column("updated_at", UTCDateTime, nullable=False),
    )
    op.create_index("replicas_rse", "replicas", ["rse_id", "state"])
    op.create_table(
        "bad_replicas",
        sa.Column("id", BIG, primary_key=True, autoincrement=True),
        sa.Column("did_id", BIG, sa.ForeignKey("dids.id", ondelete="CASCADE"), nullable=False),
        sa.Column(
            "rse_id", sa.Integer, sa.ForeignKey("rses.id", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("account", sa.String(25), nullable=False),
        sa.Column("created_at", UTCDateTime, nullable=False),
    )
    op.create_index("bad_replicas_replica", "bad_replicas", ["did_id", "rse_id"])


def _rules() -> None:
    op.create_table(
        "rules",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("did_id", BIG, sa.ForeignKey("dids.id", ondelete="CASCADE"), nullable=False),
        sa.Column("account", sa.String(25), nullable=False),
        sa.Column("copies", sa.Integer, nullable=False),
        sa.Column("rse_expression", sa.Text, nullable=False),
        sa.Column("grouping", sa.String(8), nullable=False),
        sa.Column("state", sa.String(11), nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("locks_ok", sa.Integer, nullable=False, server_default="0"),
        sa.Column("locks_replicating", sa.Integer, nullable=False, server_default="0"),
        sa.Column("locks_stuck", sa.Integer, nullable=False, server_default="0"),
        sa.Column("expires_at", UTCDateTime),
        sa.Column("locked", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("weight", sa.String(64)),
        sa.Column("source_replica_expression", sa.Text),
        sa.Column("activity", sa.String(64), nullable=False),
        sa.Column("comment", sa.Text),
        sa.Column("meta", sa.JSON, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("notify", sa.String(1), nullable=False),
        sa.Column("purge_replicas", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("ignore_availability", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("group_name", sa.String(255), nullable=False, server_default=""),
        sa.Column("deployment", sa.String(255), nullable=False, server_default=""),
        sa.Column("delegation", sa.JSON),
        sa.Column("stuck_at", UTCDateTime),
        sa.Column("repair_at", UTCDateTime),
        sa.Column("repairs", sa.Integer, nullable=False, server_default="0"),
        sa.Column("created_at", UTCDateTime, nullable=False),
        sa.Column("updated_at", UTCDateTime, nullable=False),
        sa.UniqueConstraint("did_id", "account", "rse_expression", "copies", name="rules_once"),
    )
    op.create_index("rules_account", "rules", ["account"])


def _locks() -> None:
    op.create_table(
        "locks",
        sa.Column(
            "rule_id",
            sa.String(36),
            sa.ForeignKey("rules.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("did_id", BIG, sa.ForeignKey("dids.id", ondelete="CASCADE"), primary_key=True),
        sa.Column(
            "rse_id", sa.Integer, sa.ForeignKey("rses.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("state", sa.String(11), nullable=False),
        sa.Column("size_bytes", sa.BigInteger),
        sa.Column("reason", sa.Text),
        sa.Column("created_at", UTCDateTime, nullable=False),
    )
    op.create_index("locks_replica", "locks", ["did_id", "rse_id"])
    op.create_index("locks_state", "locks", ["rule_id", "state"])
    op.create_table(
        "wanted",
        sa.Column(
            "rule_id",
            sa.String(36),
            sa.ForeignKey("rules.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("did_id", BIG, sa.ForeignKey("dids.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("cluster", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "placements",
        sa.Column(
            "rule_id",
            sa.String(36),
            sa.ForeignKey("rules.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("cluster", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column(
            "rse_id", sa.Integer, sa.ForeignKey("rses.id", ondelete="CASCADE"), primary_key=True
        ),
    )


def _requests() -> None:
    op.create_table(
        "transfers",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("rule_id", sa.String(36), nullable=False),
        sa.Column(
            "rse_id", sa.Integer, sa.ForeignKey("rses.id", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("job_id", sa.String(64)),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("created_at", UTCDateTime, nullable=False),
        sa.Column("submitted_at", UTCDateTime),
    )
    op.create_index("transfers_job", "transfers", ["job_id"])
    op.create_table(
        "requests",
        sa.Column("id", BIG, primary_key=True, autoincrement=True),
        sa.Column("did_id", BIG, sa.ForeignKey("dids.id", ondelete="CASCADE"), nullable=False),
        sa.Column(
            "rse_id", sa.Integer, sa.ForeignKey("rses.id", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("rule_id", sa.String(36), nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("next_try_at", UTCDateTime),
        sa.Column("transfer_id", sa.String(36)),
        sa.Column("reason", sa.Text),
        sa.Column("created_at", UTCDateTime, nullable=False),
        sa.Column("updated_at", UTCDateTime, nullable=False),
        sa.UniqueConstraint("did_id", "rse_id", name="requests_replica"),
    )
    op.create_index("requests_rule", "requests", ["rule_id", "state"])
    op.create_index("requests_transfer", "requests", ["transfer_id"])
    op.create_table(
        "source_failures",
        sa.Column(
            "request_id", BIG, sa.ForeignKey("requests.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column(
            "rse_id", sa.Integer, sa.ForeignKey("rses.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("strikes", sa.Integer, nullable=False),
        sa.Column("excluded", sa.Boolean, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
    )


def _usage() -> None:
    op.create_table(
        "usage_periods",
        sa.Column(
            "rse_id", sa.Integer, sa.ForeignKey("rses.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("account", sa.String(25), primary_key=True),
        sa.Column("group_name", sa.String(255), primary_key=True),
        sa.Column("deployment", sa.String(255), primary_key=True),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("files", sa.BigInteger, nullable=False),
        sa.Column("since", UTCDateTime, nullable=False),
    )
    op.create_table(
        "usage_records",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("body", sa.JSON, nullable=False),
        sa.Column("created_at", UTCDateTime, nullable=False),
    )


def _work() -> None:
    op.create_table(
        "outbox",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("event", sa.JSON, nullable=False),
    )
    op.create_table(
        "workflow",
        sa.Column("kind", sa.String(64), primary_key=True),
        sa.Column("key", sa.String(255), primary_key=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("step", sa.String(64), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("data", sa.JSON, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("next_run_at", UTCDateTime),
        sa.Column("lease_until", UTCDateTime),
        sa.Column("wakes", sa.Integer, nullable=False),
        sa.Column("cancelled", sa.Integer, nullable=False),
        sa.Column("created_at", UTCDateTime, nullable=False),
        sa.Column("updated_at", UTCDateTime, nullable=False),
    )
    op.create_index("workflow_due", "workflow", ["state", "next_run_at"])
