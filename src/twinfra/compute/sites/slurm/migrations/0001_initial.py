"""The first table of the Slurm back end."""

import sqlalchemy as sa
from alembic import op

from twinfra.core.database import UTCDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("name", sa.String(128), nullable=False, unique=True),
        sa.Column("native_id", sa.String(32), nullable=True),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("job_dir", sa.Text, nullable=False),
        sa.Column("grace_s", sa.Float, nullable=False),
        sa.Column("state", sa.String(16), nullable=True),
        sa.Column("reason", sa.String(128), nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("exit_code", sa.Integer, nullable=True),
        sa.Column("node", sa.String(256), nullable=False),
        sa.Column("pod", sa.JSON, nullable=True),
        sa.Column("cancel_asked_at", UTCDateTime, nullable=True),
        sa.Column("submitted_at", UTCDateTime, nullable=False),
        sa.Column("started_at", UTCDateTime, nullable=True),
        sa.Column("finished_at", UTCDateTime, nullable=True),
    )
    op.create_index("jobs_state", "jobs", ["state"])
    op.create_index("jobs_native_id", "jobs", ["native_id"])


def downgrade() -> None:
    op.drop_table("jobs")
