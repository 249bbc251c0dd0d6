"""What a loss of the live state must not take: a session's end, a breach, a user's stop, when a doubt settles.

Frozen; imports no model.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0002"
down_revision = "0001"

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("runs", sa.Column("closes_at", MOMENT, nullable=True))
    op.execute("UPDATE runs SET closes_at = (trading_date + time '15:30') AT TIME ZONE 'Asia/Kolkata'")
    op.alter_column("runs", "closes_at", nullable=False)
    op.add_column("runs", sa.Column("latch", JSONB(), nullable=True))
    modes = sa.Enum("close", "leave", name="stop_requested", native_enum=False, create_constraint=True, length=20)
    op.add_column("runs", sa.Column("stop_requested", modes, nullable=True))
    op.add_column("orders", sa.Column("settles_at", MOMENT, nullable=True))
    # The longest any broker took before this revision.
    op.execute("UPDATE orders SET settles_at = send_by + interval '13 seconds'")
    op.alter_column("orders", "settles_at", nullable=False)
