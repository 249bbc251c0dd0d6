"""Recurring strategies: the days they trade on, and until when; absent, they trade once.

Frozen; imports no model.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("strategies", sa.Column("repeat", sa.Text(), nullable=True))
    op.add_column("strategies", sa.Column("until", sa.Date(), nullable=True))
    op.create_check_constraint("recurrence", "strategies", "until IS NULL OR repeat IS NOT NULL")
    op.create_index(
        "ix_strategies_until",
        "strategies",
        ["until"],
        unique=False,
        postgresql_where="status = 'active' AND until IS NOT NULL",
    )


def downgrade() -> None:
    # Without their recurrence they would be taken for strategies that have yet to trade once.
    op.execute("UPDATE strategies SET status = 'stopped' WHERE repeat IS NOT NULL")
    op.drop_index("ix_strategies_until", "strategies")
    op.drop_constraint("ck_strategies_recurrence", "strategies")
    op.drop_column("strategies", "until")
    op.drop_column("strategies", "repeat")
