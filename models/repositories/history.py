"""What happened, read back: records, alerts and dead letters. Writes only what the stream cannot carry."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, update

from models.database import Sessions
from models.history_tables import AlertRow, DeadLetterRow, RecordRow

#: Rows a reading answers at most unless told.
LIMIT = 200


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One transition of a run; `body` is the whole record."""

    run: str
    epoch: int
    seq: int
    tenant: str
    kind: str
    event_id: str
    event_type: str
    outcome: str
    market_time: datetime | None
    real_time: datetime
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Alert:
    """Something a human must see. Times are real; `tenant` and `run` are "" where it concerns none."""

    id: int
    at: datetime
    severity: str
    code: str
    message: str
    tenant: str
    run: str
    acked_at: datetime | None


@dataclass(frozen=True, slots=True)
class StoredDeadLetter:
    """Input that was refused, and why. `key` is its place in the stream."""

    id: int
    key: str
    at: datetime
    source: str
    reason: str
    payload: str


class History:
    """The records and dead letters."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def records(self, run: str | None = None, tenant: str | None = None, limit: int = LIMIT) -> Sequence[HistoryEntry]:
        """The newest `limit` records, of all or of one run or tenant, oldest first."""
        statement = select(RecordRow).limit(limit)
        if tenant is not None:
            statement = statement.where(RecordRow.tenant == tenant)
        if run is not None:
            statement = statement.where(RecordRow.run == run)
            statement = statement.order_by(RecordRow.epoch.desc(), RecordRow.seq.desc())
        else:
            statement = statement.order_by(RecordRow.real_time.desc(), RecordRow.run.desc(), RecordRow.seq.desc())
        with self._sessions() as session:
            return [_to_entry(row) for row in reversed(session.scalars(statement).all())]

    def dead_letters(self, limit: int = LIMIT) -> Sequence[StoredDeadLetter]:
        """The newest `limit` refused inputs, newest first."""
        statement = select(DeadLetterRow).order_by(DeadLetterRow.at.desc(), DeadLetterRow.id.desc()).limit(limit)
        with self._sessions() as session:
            return [
                StoredDeadLetter(row.id, row.key, row.at, row.source, row.reason, row.payload)
                for row in session.scalars(statement)
            ]


class Alerts:
    """The alerts."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def add(self, at: datetime, severity: str, code: str, message: str, *, tenant: str = "", run: str = "") -> int:
        """Store an alert no record carries (of a feed, of Redis itself); answers its id."""
        row = AlertRow(at=at, severity=severity, code=code, message=message, tenant=tenant, run=run, acked_at=None)
        with self._sessions.begin() as session:
            session.add(row)
        return row.id

    def list(self, tenant: str | None = None, *, unacked: bool = False, limit: int = LIMIT) -> Sequence[Alert]:
        """The newest `limit` alerts, newest first; of `tenant`, and only those no one has seen, if asked."""
        statement = select(AlertRow).order_by(AlertRow.at.desc(), AlertRow.id.desc()).limit(limit)
        if tenant is not None:
            statement = statement.where(AlertRow.tenant == tenant)
        if unacked:
            statement = statement.where(AlertRow.acked_at.is_(None))
        with self._sessions() as session:
            return [_to_alert(row) for row in session.scalars(statement)]

    def told_last(self, code: str, or_else: str) -> set[str]:
        """Tenants whose newest alert of these two codes is `code`."""
        newest = select(func.max(AlertRow.id)).where(AlertRow.code.in_([code, or_else])).group_by(AlertRow.tenant)
        with self._sessions() as session:
            return {*session.scalars(select(AlertRow.tenant).where(AlertRow.id.in_(newest), AlertRow.code == code))}

    def ack(self, alert_id: int, at: datetime) -> bool:
        """Mark an alert as seen at real time `at`; whether it was there and unseen."""
        statement = update(AlertRow).where(AlertRow.id == alert_id, AlertRow.acked_at.is_(None))
        with self._sessions.begin() as session:
            return session.scalar(statement.values(acked_at=at).returning(AlertRow.id)) is not None


def _to_entry(row: RecordRow) -> HistoryEntry:
    return HistoryEntry(
        run=row.run,
        epoch=row.epoch,
        seq=row.seq,
        tenant=row.tenant,
        kind=row.kind,
        event_id=row.event_id,
        event_type=row.event_type,
        outcome=row.outcome,
        market_time=row.market_time,
        real_time=row.real_time,
        body=row.body,
    )


def _to_alert(row: AlertRow) -> Alert:
    return Alert(row.id, row.at, row.severity, row.code, row.message, row.tenant, row.run, row.acked_at)
