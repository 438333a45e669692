"""The first table of the API server."""

import sqlalchemy as sa
from alembic import op

from twinfra.core.database import UTCDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "statuses",
        sa.Column("uid", sa.String(64), primary_key=True),
        sa.Column("owner_issuer", sa.Text, nullable=False),
        sa.Column("owner_sub", sa.Text, nullable=False),
        sa.Column("owner_group", sa.Text, nullable=False),
        sa.Column("status", sa.JSON, nullable=True),
        sa.Column("updated_at", UTCDateTime, nullable=False),
    )
    op.create_index("statuses_updated_at", "statuses", ["updated_at"])


def downgrade() -> None:
    op.drop_table("statuses")
