"""Whose login an account has, as its broker calls them: one login is one account.

Frozen; imports no model.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("accounts", sa.Column("broker_user", sa.Text(), nullable=True))
    op.create_unique_constraint("uq_accounts_broker_broker_user", "accounts", ["broker", "broker_user"])


def downgrade() -> None:
    op.drop_constraint("uq_accounts_broker_broker_user", "accounts")
    op.drop_column("accounts", "broker_user")
