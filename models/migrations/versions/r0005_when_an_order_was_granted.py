"""When an order was granted, and when the session ends that it was sent in: what a rebuilt run must know of it.

Frozen; imports no model.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("orders", sa.Column("granted_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("orders", sa.Column("session_ends", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("orders", "session_ends")
    op.drop_column("orders", "granted_at")
