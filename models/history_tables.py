"""The tables of what happened and of the engine's own bookkeeping: records, alerts, cursor, epoch, calendar.

History names runs and tenants as text, without foreign keys: what happened is kept even where its run is unknown.
"""

from datetime import date, datetime, time
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Index
from sqlalchemy.orm import Mapped, mapped_column

from engine.calendar import OverrideKind
from models.base import Base, enum_column


class RecordRow(Base):
    """One transition, as its script wrote it into the stream; `body` is the whole record."""

    __tablename__ = "records"
    __table_args__ = (Index(None, "tenant", "real_time"), Index(None, "real_time"), Index(None, "event_id"))

    run: Mapped[str] = mapped_column(primary_key=True)
    epoch: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    tenant: Mapped[str]
    kind: Mapped[str]
    event_id: Mapped[str]
    event_type: Mapped[str]
    outcome: Mapped[str]
    market_time: Mapped[datetime | None]
    real_time: Mapped[datetime]
    body: Mapped[dict[str, Any]]


class AlertRow(Base):
    """Something a human must see; `tenant` and `run` are "" where it concerns none."""

    __tablename__ = "alerts"
    __table_args__ = (
        Index(None, "at"),
        Index(None, "tenant", "at"),
        Index("ix_alerts_open", "at", postgresql_where="acked_at IS NULL"),
    )

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    at: Mapped[datetime]
    severity: Mapped[str]
    code: Mapped[str]
    tenant: Mapped[str]
    run: Mapped[str]
    message: Mapped[str]
    acked_at: Mapped[datetime | None]


class DeadLetterRow(Base):
    """Input that was refused; `key` makes a second draining of it harmless."""

    __tablename__ = "dead_letters"
    __table_args__ = (Index(None, "at"),)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    key: Mapped[str] = mapped_column(unique=True)
    at: Mapped[datetime]
    source: Mapped[str]
    reason: Mapped[str]
    payload: Mapped[str]


class DrainCursorRow(Base):
    """How far the stream is drained; a single row."""

    __tablename__ = "drain_cursor"
    __table_args__ = (CheckConstraint("id = 1", name="single"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    epoch: Mapped[int] = mapped_column(BigInteger)
    stream_id: Mapped[str]


class EngineEpochRow(Base):
    """The epoch and the Redis it belongs to; a single row."""

    __tablename__ = "engine_epoch"
    __table_args__ = (CheckConstraint("id = 1", name="single"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    n: Mapped[int] = mapped_column(BigInteger)
    redis_run_id: Mapped[str]


class CalendarOverrideRow(Base):
    """An operator's word about one date of one exchange."""

    __tablename__ = "calendar_overrides"
    __table_args__ = (
        CheckConstraint(
            "kind = 'closed' AND num_nulls(opens, closes) = 2"
            " OR kind = 'special' AND num_nulls(opens, closes) = 0 AND opens < closes",
            name="hours",
        ),
    )

    exchange: Mapped[str] = mapped_column(primary_key=True)
    day: Mapped[date] = mapped_column("date", primary_key=True)
    kind: Mapped[OverrideKind] = mapped_column(enum_column(OverrideKind, "kind"))
    opens: Mapped[time | None]
    closes: Mapped[time | None]
    note: Mapped[str]


class ConfirmedYearRow(Base):
    """A year whose holidays somebody compared with the exchange's circular."""

    __tablename__ = "confirmed_years"

    exchange: Mapped[str] = mapped_column(primary_key=True)
    year: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    confirmed_by: Mapped[str]
