"""The tables of strategies: tenants, accounts, strategies, runs and their orders. Knows no query."""

from datetime import date, datetime, time
from decimal import Decimal
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from engine.domain.orders import Leg, OrderStatus, OrderType, Product, Side
from engine.domain.run import ExitReason, Position, RunStatus
from engine.domain.strategy import AbortPolicy, StopMode
from models.base import Base, enum_column
from models.secrets import Credentials, Encrypted


class AccountState(StrEnum):
    """Whether an account may trade."""

    READY = "ready"
    #: Its access token is dead; a login makes it ready again.
    TOKEN_DEAD = "token_dead"  # noqa: S105 - a state, not a secret
    #: Switched off by an operator.
    DISABLED = "disabled"


class TenantRow(Base):
    """One customer; everything below belongs to exactly one."""

    __tablename__ = "tenants"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class AccountRow(Base):
    """One account of a tenant at a broker. `rates`: orders a window, where they differ from the broker's."""

    __tablename__ = "accounts"
    __table_args__ = (
        UniqueConstraint("tenant_id", "name"),
        UniqueConstraint("tenant_id", "id"),
        # One login under two accounts would be two pools of the same shares.
        UniqueConstraint("broker", "broker_user"),
    )

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    tenant_id: Mapped[int] = mapped_column(ForeignKey("tenants.id"))
    name: Mapped[str]
    broker: Mapped[str]
    base_url: Mapped[str]
    ws_url: Mapped[str]
    credentials: Mapped[Credentials] = mapped_column(Encrypted)
    rates: Mapped[dict[str, Any]]
    state: Mapped[AccountState] = mapped_column(enum_column(AccountState, "state"))
    #: When it was last given an access token, real time.
    token_issued_at: Mapped[datetime | None]
    #: Whose login it is, as its broker calls them; None until a login told.
    broker_user: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class StrategyRow(Base):
    """A strategy as the tenant gave it.

    `status` is that of its only run once that has ended; one that repeats is active until a user or `until` ends it.
    """

    __tablename__ = "strategies"
    __table_args__ = (
        # The tenant is part of the key, so that no strategy can trade on another tenant's account.
        ForeignKeyConstraint(["tenant_id", "account_id"], ["accounts.tenant_id", "accounts.id"]),
        UniqueConstraint("tenant_id", "name", "trading_date", postgresql_nulls_not_distinct=True),
        CheckConstraint("until IS NULL OR repeat IS NOT NULL", name="recurrence"),
        Index(None, "trading_date", postgresql_where="status = 'active'"),
        Index(None, "until", postgresql_where="status = 'active' AND until IS NOT NULL"),
    )

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    tenant_id: Mapped[int] = mapped_column(ForeignKey("tenants.id"))
    account_id: Mapped[int] = mapped_column(BigInteger, index=True)
    name: Mapped[str]
    symbol: Mapped[str]
    quantity: Mapped[int]
    #: The exchange's wall times.
    buy_time: Mapped[time]
    sell_time: Mapped[time]
    stop_loss: Mapped[Decimal]
    product: Mapped[Product] = mapped_column(enum_column(Product, "product"))
    order_type: Mapped[OrderType] = mapped_column(enum_column(OrderType, "order_type"))
    on_abort: Mapped[AbortPolicy] = mapped_column(enum_column(AbortPolicy, "on_abort"))
    trading_date: Mapped[date | None]
    #: The name of its recurrence; absent, it trades once.
    repeat: Mapped[str | None]
    until: Mapped[date | None]
    status: Mapped[RunStatus] = mapped_column(enum_column(RunStatus, "status"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class RunRow(Base):
    """One run. Created when it is armed; from then on only the drain writes it."""

    __tablename__ = "runs"
    __table_args__ = (
        UniqueConstraint("strategy_id", "trading_date", "n"),
        Index(None, "status", postgresql_where="status IN ('active', 'failed')"),
    )

    #: "strategy-yyyymmdd-n"
    id: Mapped[str] = mapped_column(primary_key=True)
    strategy_id: Mapped[int] = mapped_column(ForeignKey("strategies.id"))
    trading_date: Mapped[date]
    n: Mapped[int]
    #: Market time.
    buy_at: Mapped[datetime]
    sell_at: Mapped[datetime]
    closes_at: Mapped[datetime]
    stop_units: Mapped[int] = mapped_column(BigInteger)
    status: Mapped[RunStatus] = mapped_column(enum_column(RunStatus, "status"))
    position: Mapped[Position] = mapped_column(enum_column(Position, "position"))
    exit_reason: Mapped[ExitReason | None] = mapped_column(enum_column(ExitReason, "exit_reason"))
    failure: Mapped[str]
    #: The breach that is to be served, as its record told it.
    latch: Mapped[dict[str, Any] | None]
    stop_requested: Mapped[StopMode | None] = mapped_column(enum_column(StopMode, "stop_requested"))
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    #: The record this row was last written from; an older one never overwrites it.
    last_epoch: Mapped[int] = mapped_column(BigInteger, default=0)
    last_seq: Mapped[int] = mapped_column(BigInteger, default=0)


class OrderRow(Base):
    """One attempt of one leg of a run, as far as it was ever proven."""

    __tablename__ = "orders"

    client_order_id: Mapped[str] = mapped_column(primary_key=True)
    run: Mapped[str] = mapped_column(ForeignKey("runs.id"), index=True)
    leg: Mapped[Leg] = mapped_column(enum_column(Leg, "leg"))
    side: Mapped[Side] = mapped_column(enum_column(Side, "side"))
    attempt: Mapped[int]
    quantity: Mapped[int]
    filled_quantity: Mapped[int]
    average_price: Mapped[Decimal]
    status: Mapped[OrderStatus] = mapped_column(enum_column(OrderStatus, "status"))
    broker_order_id: Mapped[str]
    #: Market time, as `granted_at` and `session_ends`; `send_by`, `settles_at` and `updated_at` are real time.
    filled_at: Mapped[datetime | None]
    send_by: Mapped[datetime]
    settles_at: Mapped[datetime]
    updated_at: Mapped[datetime | None]
    reason: Mapped[str]
    given_up: Mapped[bool]
    granted_at: Mapped[datetime | None]
    session_ends: Mapped[datetime | None]
    #: Stage -> real milliseconds it took.
    stages: Mapped[dict[str, Any]]
    last_epoch: Mapped[int] = mapped_column(BigInteger)
    last_seq: Mapped[int] = mapped_column(BigInteger)
