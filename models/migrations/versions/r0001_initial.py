"""The first schema: tenants, accounts, strategies, runs, orders, history and bookkeeping. Frozen; imports no model."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    _create_accounts()
    _create_strategies()
    _create_runs()
    _create_orders()
    _create_records()
    _create_alerts()
    _create_bookkeeping()


def _enum(name: str, *values: str) -> sa.Enum:
    return sa.Enum(*values, name=name, native_enum=False, create_constraint=True, length=20)


def _create_accounts() -> None:
    op.create_table(
        "tenants",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", MOMENT, server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_tenants"),
        sa.UniqueConstraint("name", name="uq_tenants_name"),
    )
    op.create_table(
        "accounts",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("broker", sa.Text(), nullable=False),
        sa.Column("base_url", sa.Text(), nullable=False),
        sa.Column("ws_url", sa.Text(), nullable=False),
        sa.Column("credentials", sa.Text(), nullable=False),
        sa.Column("rates", JSONB(), nullable=False),
        sa.Column("state", _enum("state", "ready", "token_dead", "disabled"), nullable=False),
        sa.Column("created_at", MOMENT, server_default=sa.func.now(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_accounts_tenants"),
        sa.PrimaryKeyConstraint("id", name="pk_accounts"),
        sa.UniqueConstraint("tenant_id", "id", name="uq_accounts_tenant_id_id"),
        sa.UniqueConstraint("tenant_id", "name", name="uq_accounts_tenant_id_name"),
    )


def _create_strategies() -> None:
    op.create_table(
        "strategies",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("quantity", sa.Integer(), nullable=False),
        sa.Column("buy_time", sa.Time(), nullable=False),
        sa.Column("sell_time", sa.Time(), nullable=False),
        sa.Column("stop_loss", sa.Numeric(), nullable=False),
        sa.Column("product", _enum("product", "intraday", "delivery", "margin"), nullable=False),
        sa.Column("order_type", _enum("order_type", "market", "limit"), nullable=False),
        sa.Column("on_abort", _enum("on_abort", "protect", "flatten", "freeze"), nullable=False),
        sa.Column("trading_date", sa.Date(), nullable=True),
        sa.Column("status", _enum("status", "active", "stopped", "failed", "missed"), nullable=False),
        sa.Column("created_at", MOMENT, server_default=sa.func.now(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "account_id"], ["accounts.tenant_id", "accounts.id"], name="fk_strategies_accounts"
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_strategies_tenants"),
        sa.PrimaryKeyConstraint("id", name="pk_strategies"),
        sa.UniqueConstraint(
            "tenant_id",
            "name",
            "trading_date",
            name="uq_strategies_tenant_id_name_trading_date",
            postgresql_nulls_not_distinct=True,
        ),
    )
    op.create_index("ix_strategies_account_id", "strategies", ["account_id"], unique=False)
    op.create_index(
        "ix_strategies_trading_date",
        "strategies",
        ["trading_date"],
        unique=False,
        postgresql_where="status = 'active'",
    )


def _create_runs() -> None:
    op.create_table(
        "runs",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("strategy_id", sa.BigInteger(), nullable=False),
        sa.Column("trading_date", sa.Date(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("buy_at", MOMENT, nullable=False),
        sa.Column("sell_at", MOMENT, nullable=False),
        sa.Column("stop_units", sa.BigInteger(), nullable=False),
        sa.Column("status", _enum("status", "active", "stopped", "failed", "missed"), nullable=False),
        sa.Column("position", _enum("position", "none", "bought", "sold", "exited_by_sl"), nullable=False),
        sa.Column(
            "exit_reason",
            _enum("exit_reason", "schedule", "stop_loss", "force_stop", "safety_abort"),
            nullable=True,
        ),
        sa.Column("failure", sa.Text(), nullable=False),
        sa.Column("updated_at", MOMENT, server_default=sa.func.now(), nullable=False),
        sa.Column("last_epoch", sa.BigInteger(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["strategy_id"], ["strategies.id"], name="fk_runs_strategies"),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
        sa.UniqueConstraint("strategy_id", "trading_date", "n", name="uq_runs_strategy_id_trading_date_n"),
    )
    op.create_index(
        "ix_runs_status", "runs", ["status"], unique=False, postgresql_where="status IN ('active', 'failed')"
    )


def _create_orders() -> None:
    op.create_table(
        "orders",
        sa.Column("client_order_id", sa.Text(), nullable=False),
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("leg", _enum("leg", "entry", "exit"), nullable=False),
        sa.Column("side", _enum("side", "buy", "sell"), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("quantity", sa.Integer(), nullable=False),
        sa.Column("filled_quantity", sa.Integer(), nullable=False),
        sa.Column("average_price", sa.Numeric(), nullable=False),
        sa.Column(
            "status",
            _enum(
                "status",
                "sending",
                "accepted",
                "partially_filled",
                "filled",
                "rejected",
                "cancel_pending",
                "canceled",
                "expired",
                "unknown",
            ),
            nullable=False,
        ),
        sa.Column("broker_order_id", sa.Text(), nullable=False),
        sa.Column("filled_at", MOMENT, nullable=True),
        sa.Column("send_by", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("given_up", sa.Boolean(), nullable=False),
        sa.Column("stages", JSONB(), nullable=False),
        sa.Column("last_epoch", sa.BigInteger(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name="fk_orders_runs"),
        sa.PrimaryKeyConstraint("client_order_id", name="pk_orders"),
    )
    op.create_index("ix_orders_run", "orders", ["run"], unique=False)


def _create_records() -> None:
    op.create_table(
        "records",
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("event_type", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("market_time", MOMENT, nullable=True),
        sa.Column("real_time", MOMENT, nullable=False),
        sa.Column("body", JSONB(), nullable=False),
        sa.PrimaryKeyConstraint("run", "epoch", "seq", name="pk_records"),
    )
    op.create_index("ix_records_event_id", "records", ["event_id"], unique=False)
    op.create_index("ix_records_real_time", "records", ["real_time"], unique=False)
    op.create_index("ix_records_tenant_real_time", "records", ["tenant", "real_time"], unique=False)


def _create_alerts() -> None:
    op.create_table(
        "alerts",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("acked_at", MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_alerts"),
    )
    op.create_index("ix_alerts_at", "alerts", ["at"], unique=False)
    op.create_index("ix_alerts_open", "alerts", ["at"], unique=False, postgresql_where="acked_at IS NULL")
    op.create_index("ix_alerts_tenant_at", "alerts", ["tenant", "at"], unique=False)
    op.create_table(
        "dead_letters",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_dead_letters"),
        sa.UniqueConstraint("key", name="uq_dead_letters_key"),
    )
    op.create_index("ix_dead_letters_at", "dead_letters", ["at"], unique=False)


def _create_bookkeeping() -> None:
    op.create_table(
        "drain_cursor",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("stream_id", sa.Text(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_drain_cursor_single")),
        sa.PrimaryKeyConstraint("id", name="pk_drain_cursor"),
    )
    op.create_table(
        "engine_epoch",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.Column("redis_run_id", sa.Text(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_engine_epoch_single")),
        sa.PrimaryKeyConstraint("id", name="pk_engine_epoch"),
    )
    op.create_table(
        "calendar_overrides",
        sa.Column("exchange", sa.Text(), nullable=False),
        sa.Column("date", sa.Date(), nullable=False),
        sa.Column("kind", _enum("kind", "closed", "special"), nullable=False),
        sa.Column("opens", sa.Time(), nullable=True),
        sa.Column("closes", sa.Time(), nullable=True),
        sa.Column("note", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "kind = 'closed' AND num_nulls(opens, closes) = 2"
            " OR kind = 'special' AND num_nulls(opens, closes) = 0 AND opens < closes",
            name=op.f("ck_calendar_overrides_hours"),
        ),
        sa.PrimaryKeyConstraint("exchange", "date", name="pk_calendar_overrides"),
    )
    op.create_table(
        "confirmed_years",
        sa.Column("exchange", sa.Text(), nullable=False),
        sa.Column("year", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("confirmed_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("exchange", "year", name="pk_confirmed_years"),
    )
