"""An index of phases: counting the pods that live must not read all of them."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("pods_phase", "pods", ["phase"])


def downgrade() -> None:
    op.drop_index("pods_phase", "pods")
