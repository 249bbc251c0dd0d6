"""Stores a batch of the stream's records and the cursor behind them in one transaction; repeating it changes nothing.

The only writer of orders and of a run's status. Knows neither Redis nor how the stream is read.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import ColumnElement, Table, column, exists, null, select, tuple_, update, values
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.orm import Session, aliased

from engine.domain.run import RunStatus
from models.history_tables import AlertRow, DeadLetterRow, DrainCursorRow, EngineEpochRow, RecordRow
from models.records import PAYLOAD_LIMIT, DeadLetter, OrderState, Record, RunState
from models.tables import OrderRow, RunRow, StrategyRow

Entry = Record | DeadLetter


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far the stream is drained, and the epoch of the drainer that says so."""

    epoch: int
    stream_id: str


#: Where a stream that was never drained is read from.
START = Cursor(epoch=0, stream_id="0-0")


#: What a record changes of its run, in the order `_move_runs` lists it.
_MOVED = ("id", *RunState.model_fields, "updated_at", "last_epoch", "last_seq")


class Fenced(Exception):
    """Raised when a drainer of an older epoch tries to write: a recoverer has taken over since."""

    def __init__(self, mine: int, theirs: int) -> None:
        super().__init__(f"this drainer is of epoch {mine}, the engine of epoch {theirs}")


def cursor(session: Session) -> Cursor:
    """Where the next batch starts; `START` before the first."""
    with session.begin():
        row = session.get(DrainCursorRow, 1)
        return Cursor(row.epoch, row.stream_id) if row else START


def apply(session: Session, entries: Sequence[Entry], behind: Cursor) -> Sequence[Entry]:
    """Store `entries` and move the cursor to `behind`, in one transaction that is committed on return.

    Entries stored before are left alone. Returns the others as they were stored: what PostgreSQL refused as the dead
    letter it became. Raises Fenced where the engine's epoch is later than `behind.epoch`.
    """
    with session.begin():
        _check_fence(session, behind.epoch)
        try:
            with session.begin_nested():
                new = _store(session, entries)
        except (DataError, IntegrityError):
            new = _store_singly(session, entries)
        place = {"epoch": behind.epoch, "stream_id": behind.stream_id}
        moved = insert(DrainCursorRow).values(id=1, **place)
        session.execute(moved.on_conflict_do_update(index_elements=["id"], set_=place))
    return new


def _check_fence(session: Session, epoch: int) -> None:
    # The share lock holds a recoverer's `advance` back until this batch is in, and this batch until that is.
    current = session.scalar(select(EngineEpochRow.n).with_for_update(read=True))
    stored = session.scalar(select(DrainCursorRow.epoch))
    newest = max(current or 0, stored or 0)
    if newest > epoch:
        raise Fenced(epoch, newest)


def _store_singly(session: Session, entries: Sequence[Entry]) -> list[Entry]:
    """Each entry by itself, so that one PostgreSQL refuses becomes a dead letter and does not stop the others."""
    new: list[Entry] = []
    for entry in entries:
        try:
            with session.begin_nested():
                new += _store(session, [entry])
        except (DataError, IntegrityError) as error:
            if isinstance(entry, Record):
                new += _store(session, [_refused(entry, str(error.orig))])
    return new


def _refused(record: Record, reason: str) -> DeadLetter:
    run, epoch, seq = record.key
    payload = record.model_dump_json(exclude={"body"})[:PAYLOAD_LIMIT]
    return DeadLetter(f"{run}:{epoch}:{seq}", record.real_time, "drain", reason, payload)


def _store(session: Session, entries: Sequence[Entry]) -> list[Entry]:
    """Store `entries`; returns those that were not stored before."""
    letters = {entry.key: entry for entry in entries if isinstance(entry, DeadLetter)}
    refused = [letters[key] for key in _store_dead_letters(session, letters.values())]
    records = {entry.key: entry for entry in entries if isinstance(entry, Record)}
    new = [records[key] for key in _store_records(session, records.values())]
    _store_alerts(session, new)
    known = _known_runs(session, {record.run for record in new})
    in_order = sorted((r for r in new if r.run in known), key=lambda record: (record.epoch, record.seq))
    _store_orders(session, in_order)
    _move_runs(session, in_order)
    _keep_requests(session, in_order)
    _end_strategies(session, {record.run for record in in_order if record.state})
    return [*refused, *new]


def _store_dead_letters(session: Session, letters: Iterable[DeadLetter]) -> Sequence[str]:
    """Store `letters`; answers the keys of those that were not stored before."""
    rows = [
        {
            "key": each.key,
            "at": each.at,
            "source": each.source,
            "reason": each.reason,
            "payload": each.payload,
        }
        for each in letters
    ]
    if not rows:
        return []
    statement = insert(DeadLetterRow).on_conflict_do_nothing(index_elements=["key"])
    return session.scalars(statement.returning(DeadLetterRow.key), rows).all()


def _store_records(session: Session, records: Iterable[Record]) -> list[tuple[str, int, int]]:
    """Store `records`; answers the keys of those that were not stored before."""
    columns = set(RecordRow.__table__.columns.keys())
    rows = [record.model_dump(include=columns) for record in records]
    if not rows:
        return []
    statement = insert(RecordRow).on_conflict_do_nothing()
    stored = session.execute(statement.returning(RecordRow.run, RecordRow.epoch, RecordRow.seq), rows)
    return [(run, epoch, seq) for run, epoch, seq in stored]


def _store_alerts(session: Session, records: Iterable[Record]) -> None:
    rows = [
        {**alert.model_dump(), "at": record.real_time, "tenant": record.tenant, "run": record.run}
        for record in records
        for alert in record.alerts
    ]
    if rows:
        session.execute(insert(AlertRow), rows)


def _known_runs(session: Session, runs: set[str]) -> set[str]:
    return set(session.scalars(select(RunRow.id).where(RunRow.id.in_(runs))))


def _store_orders(session: Session, records: Sequence[Record]) -> None:
    newest: dict[str, tuple[Record, OrderState]] = {}
    stages: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for record in records:
        for order in record.orders:
            newest[order.client_order_id] = (record, order)
            stages[order.client_order_id] |= order.stages
    rows = [
        order.model_dump()
        | {"stages": stages[coid], "run": record.run, "last_epoch": record.epoch, "last_seq": record.seq}
        for coid, (record, order) in newest.items()
    ]
    if rows:
        session.execute(_order_upsert(), rows)


def _order_upsert() -> Insert:
    statement = insert(OrderRow)
    new = statement.excluded
    # `run` is compared, never set: an order id another run reports must not move to it.
    kept = {"client_order_id", "run"}
    changed: dict[str, ColumnElement[Any]] = {
        each.name: new[each.name] for each in _table(OrderRow).columns if each.name not in kept
    }
    # A later record of an order tells its state, not again how long its sending took.
    changed["stages"] = OrderRow.stages.op("||")(new.stages)
    newer = tuple_(new.last_epoch, new.last_seq) > tuple_(OrderRow.last_epoch, OrderRow.last_seq)
    return statement.on_conflict_do_update(
        index_elements=["client_order_id"], set_=changed, where=newer & (new.run == OrderRow.run)
    )


def _move_runs(session: Session, records: Sequence[Record]) -> None:
    newest = {record.run: (record, record.state) for record in records if record.state}
    if not newest:
        return
    columns = [_table(RunRow).columns[name] for name in _MOVED]
    rows = [
        (run, *state.model_dump().values(), record.real_time, record.epoch, record.seq)
        for run, (record, state) in newest.items()
    ]
    new = values(*(column(each.name, each.type) for each in columns), name="new").data(rows).columns
    session.execute(
        update(RunRow)
        .where(RunRow.id == new.id, tuple_(RunRow.last_epoch, RunRow.last_seq) < tuple_(new.last_epoch, new.last_seq))
        .values({name: new[name] for name in _MOVED if name != "id"})
        .execution_options(synchronize_session=False)
    )


def _keep_requests(session: Session, records: Sequence[Record]) -> None:
    """What was asked of a run from outside: a breach seen, or dropped at its first fill, and a user's stop."""
    asked: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    for record in records:
        if record.latch is not None or record.latch_dropped:
            asked[record.run]["latch"] = record.latch.model_dump() if record.latch else null()
        if record.stop_requested is not None:
            asked[record.run]["stop_requested"] = record.stop_requested
    for run, values_asked in asked.items():
        session.execute(update(RunRow).where(RunRow.id == run).values(values_asked))


def _end_strategies(session: Session, runs: set[str]) -> None:
    """Give each strategy that trades once the status of its newest run, where that is among `runs` and has ended."""
    if not runs:
        return
    later = aliased(RunRow)
    is_superseded = exists().where(
        later.strategy_id == RunRow.strategy_id,
        tuple_(later.trading_date, later.n) > tuple_(RunRow.trading_date, RunRow.n),
    )
    session.execute(
        update(StrategyRow)
        .where(
            StrategyRow.id == RunRow.strategy_id,
            StrategyRow.repeat.is_(None),
            RunRow.id.in_(runs),
            RunRow.status != RunStatus.ACTIVE,
            ~is_superseded,
        )
        .values(status=RunRow.status)
        .execution_options(synchronize_session=False)
    )


def _table(row: type[OrderRow | RunRow]) -> Table:
    return cast("Table", row.__table__)
