"""The first tables: jobs, files, tries, usage on its way, events on their way, durable work."""

import sqlalchemy as sa
from alembic import op

from twinfra.core.database import UTCDateTime

revision = "0001"
down_revision = None

BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "job",
        sa.Column("job_id", sa.String(36), primary_key=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("kind", sa.String(1), nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("issuer", sa.Text, nullable=False),
        sa.Column("sub", sa.Text, nullable=False),
        sa.Column("vo", sa.Text, nullable=False),
        sa.Column("client_id", sa.Text),
        sa.Column("actor", sa.Text),
        sa.Column("is_service", sa.Boolean, nullable=False),
        sa.Column("params", sa.JSON, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("submitted_at", UTCDateTime, nullable=False),
        sa.Column("finished_at", UTCDateTime),
    )
    op.create_index("job_by_state", "job", ["state", "submitted_at"])
    _files()
    op.create_table(
        "attempt",
        sa.Column(
            "file_id", BIG, sa.ForeignKey("file.file_id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("attempt", sa.Integer, primary_key=True),
        sa.Column("at", UTCDateTime, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("transferred_bytes", BIG, nullable=False),
    )
    op.create_table(
        "usage",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("record", sa.JSON, nullable=False),
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("event", sa.JSON, nullable=False),
    )
    _work()


def _files() -> None:
    op.create_table(
        "file",
        sa.Column("file_id", BIG, primary_key=True, autoincrement=True),
        sa.Column(
            "job_id", sa.String(36), sa.ForeignKey("job.job_id", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("file_index", sa.Integer, nullable=False),
        sa.Column("alternative", sa.Integer, nullable=False),
        sa.Column("source_url", sa.Text, nullable=False),
        sa.Column("dest_url", sa.Text, nullable=False),
        sa.Column("link", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("queued_at", UTCDateTime, nullable=False),
        sa.Column("expires_at", UTCDateTime, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("user_size_bytes", BIG),
        sa.Column("checksum", sa.String(80)),
        sa.Column("metadata", sa.JSON),
        sa.Column("activity", sa.Text, nullable=False),
        sa.Column("source_token", sa.Text),
        sa.Column("dest_token", sa.Text),
        sa.Column("size_bytes", BIG),
        sa.Column("transferred_bytes", BIG, nullable=False),
        sa.Column("copying", sa.Boolean, nullable=False),
        sa.Column("ours", sa.Boolean, nullable=False),
        sa.Column("not_before", UTCDateTime),
        sa.Column("started_at", UTCDateTime),
        sa.Column("finished_at", UTCDateTime),
    )
    op.create_index("file_by_job", "file", ["job_id", "file_index", "alternative"])
    op.create_index("file_by_queue", "file", ["state", "link", "priority", "file_id"])
    op.create_index("file_by_destination", "file", ["dest_url", "state"])


def _work() -> None:
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


def downgrade() -> None:
    for table in ("workflow", "outbox", "usage", "attempt", "file", "job"):
        op.drop_table(table)
