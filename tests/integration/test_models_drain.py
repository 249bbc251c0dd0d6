"""The drain on a real PostgreSQL: every record once, in order of its sequence, whatever is repeated or broken."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.orm import Session

from engine.domain.orders import Leg, Order, OrderStatus, Side
from engine.domain.run import ExitReason, Latch, Position, Run, RunId, RunStatus
from engine.domain.strategy import StopMode
from engine.strategies import Draft
from models import drain, schema
from models.database import Sessions, open_database, sessions_of
from models.drain import START, Cursor, Fenced
from models.records import PAYLOAD_LIMIT, DeadLetter, Record, parse
from models.repositories import Account, Accounts, Alerts, Epoch, History, Runs, Strategies
from models.secrets import Credentials, Encrypted

DAY = date(2026, 1, 5)
NOW = datetime(2026, 1, 5, 4, 10, tzinfo=UTC)
ENTRY = {
    "client_order_id": "EE00000010009FF01E001",
    "leg": "entry",
    "side": "buy",
    "attempt": 1,
    "quantity": 10,
    "filled_quantity": 0,
    "average_price": "0",
    "status": "accepted",
    "broker_order_id": "2601050000000000001",
    "filled_at": None,
    "send_by": "2026-01-05T04:10:01+00:00",
    "settles_at": "2026-01-05T04:10:14+00:00",
    "updated_at": "2026-01-05T09:40:00.25+05:30",
    "reason": "",
    "given_up": False,
    "granted_at": "2026-01-05T04:09:59+00:00",
    "session_ends": "2026-01-05T10:00:00+00:00",
    "stages": {"claim": 0.41, "send": 3.2},
}
FILLED = ENTRY | {
    "status": "filled",
    "filled_quantity": 10,
    "average_price": "1500.333333333333333333333333",
    "filled_at": "2026-01-05T04:10:00+00:00",
}
ALERT = {"severity": "critical", "code": "token_dead", "message": "log in again"}


@pytest.fixture
def sessions(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sessions]:
    """Sessions on a migrated, empty database."""
    monkeypatch.setattr(Encrypted, "_cipher", None)
    Encrypted.use("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")
    schema.upgrade(database_url)
    database = open_database(database_url)
    yield sessions_of(database)
    database.dispose()


@pytest.fixture
def run(sessions: Sessions) -> Run:
    """A stored run of a stored strategy."""
    Accounts(sessions).add(Account("tenant-1", "main", "kite", "", "", Credentials()))
    draft = Draft("INFY-0", "tenant-1", "", "NSE:INFY", 10, time(9, 40), time(14, 30), Decimal(1400))
    (strategy,) = Strategies(sessions).add([draft])
    run = Run(RunId(strategy.id, DAY), strategy, NOW, NOW.replace(hour=9), NOW.replace(hour=10), stop_units=140000)
    Runs(sessions).create(run)
    return run


def _record(run: RunId | str, seq: int, *, epoch: int = 1, **fields: Any) -> Record:
    body: dict[str, Any] = {
        "run": str(run),
        "epoch": epoch,
        "seq": seq,
        "kind": "order_submitted",
        "event_id": f"event-{seq}",
        "event_type": "BUY",
        "outcome": "submitted",
        "market_time": None,
        "real_time": NOW.isoformat(),
        "tenant": "tenant-1",
        "state": None,
        "orders": [],
        "alerts": [],
    }
    parsed = parse(f"1-{seq}", json.dumps(body | fields), NOW)
    assert isinstance(parsed, Record), parsed
    return parsed


def _state(status: str = "active", position: str = "none", reason: str | None = None) -> dict[str, Any]:
    return {"status": status, "position": position, "exit_reason": reason, "failure": ""}


def _apply(
    sessions: Sessions, *entries: Record | DeadLetter, behind: str = "1-1", epoch: int = 1
) -> Sequence[Record | DeadLetter]:
    with sessions() as session:
        return drain.apply(session, entries, Cursor(epoch, behind))


def _cursor(sessions: Sessions) -> Cursor:
    with sessions() as session:
        return drain.cursor(session)


def _stored(sessions: Sessions, run: Run) -> Run:
    stored = Runs(sessions).get(run.id)
    assert stored is not None
    return stored


def _contents(sessions: Sessions) -> dict[str, list[str]]:
    tables = ("records", "orders", "runs", "strategies", "alerts", "dead_letters", "drain_cursor")
    with sessions() as session:
        return {table: sorted(session.scalars(text(f"SELECT {table}::text FROM {table}")).all()) for table in tables}


def test_a_record_becomes_history_order_and_state(sessions: Sessions, run: Run) -> None:
    bought = _record(run.id, 1, state=_state(position="bought"), orders=[FILLED], alerts=[ALERT])
    _apply(sessions, bought, behind="5-0")
    order = Order(
        client_order_id="EE00000010009FF01E001",
        leg=Leg.ENTRY,
        side=Side.BUY,
        attempt=1,
        quantity=10,
        status=OrderStatus.FILLED,
        send_by=NOW.replace(second=1),
        settles_at=NOW.replace(second=14),
        broker_order_id="2601050000000000001",
        filled_quantity=10,
        average_price=Decimal("1500.333333333333333333333333"),
        filled_at=NOW,
        updated_at=NOW.replace(microsecond=250_000),
        granted_at=NOW - timedelta(seconds=1),
        session_ends=NOW.replace(hour=10, minute=0),
    )
    stored = _stored(sessions, run)
    assert stored == replace(run, orders=(order,))
    assert stored.position is Position.BOUGHT
    assert Runs(sessions).orders(run.id) == (order,)
    assert Runs(sessions).stages(run.id) == {order.client_order_id: {"claim": 0.41, "send": 3.2}}
    (entry,) = History(sessions).records(run=str(run.id))
    assert (entry.event_id, entry.tenant, entry.body["orders"]) == ("event-1", "tenant-1", [FILLED])
    (alert,) = Alerts(sessions).list("tenant-1")
    assert (alert.code, alert.run, alert.at, alert.acked_at) == ("token_dead", str(run.id), NOW, None)
    assert _cursor(sessions) == Cursor(1, "5-0")


def test_draining_a_batch_again_changes_nothing(sessions: Sessions, run: Run) -> None:
    letter = DeadLetter("1:9", NOW, "postback", "bad checksum", "{}")
    batch: list[Record | DeadLetter] = [
        _record(run.id, 1, orders=[ENTRY], state=_state(), alerts=[ALERT]),
        _record(run.id, 2, orders=[FILLED], state=_state(position="bought")),
        letter,
    ]
    _apply(sessions, *batch)
    before = _contents(sessions)
    _apply(sessions, *batch)
    _apply(sessions, *reversed(batch))
    assert _contents(sessions) == before
    assert [len(before[table]) for table in ("records", "orders", "alerts", "dead_letters")] == [2, 1, 1, 1]


class Crash(Exception):
    """Raised in the place of a process that ends there."""


def _crash(session: Session) -> None:
    raise Crash


def test_a_crash_before_the_commit_leaves_rows_and_cursor_and_the_next_try_completes_both(
    sessions: Sessions, run: Run
) -> None:
    _apply(sessions, _record(run.id, 1, orders=[ENTRY], state=_state()), behind="1-0")
    before = _contents(sessions)
    second = _record(run.id, 2, orders=[FILLED], state=_state(position="bought"))
    with sessions() as session:
        event.listen(session, "before_commit", _crash)
        with pytest.raises(Crash):
            drain.apply(session, [second], Cursor(1, "2-0"))
    assert _contents(sessions) == before
    _apply(sessions, second, behind="2-0")
    assert _stored(sessions, run).position is Position.BOUGHT
    assert _cursor(sessions) == Cursor(1, "2-0")


def test_a_run_never_goes_back_to_an_older_state(sessions: Sessions, run: Run) -> None:
    _apply(sessions, _record(run.id, 5, orders=[FILLED], state=_state(position="bought")))
    _apply(sessions, _record(run.id, 4, orders=[ENTRY], state=_state()))
    stored = _stored(sessions, run)
    assert [order.status for order in stored.orders] == [OrderStatus.FILLED]
    with sessions() as session:
        assert session.scalar(text("SELECT position FROM runs")) == "bought"
    assert [entry.seq for entry in History(sessions).records(run=str(run.id))] == [4, 5]


def test_within_one_batch_the_sequence_decides_and_not_the_place(sessions: Sessions, run: Run) -> None:
    _apply(
        sessions,
        _record(run.id, 2, orders=[FILLED], state=_state(position="bought")),
        _record(run.id, 1, orders=[ENTRY], state=_state()),
    )
    assert [order.filled_quantity for order in _stored(sessions, run).orders] == [10]


def test_a_later_epoch_counts_its_sequence_anew(sessions: Sessions, run: Run) -> None:
    _apply(sessions, _record(run.id, 90, orders=[ENTRY], state=_state()))
    _apply(sessions, _record(run.id, 1, epoch=2, orders=[FILLED], state=_state(position="bought")), epoch=2)
    assert [order.filled_quantity for order in _stored(sessions, run).orders] == [10]


def test_an_order_only_an_older_record_tells_of_is_still_kept(sessions: Sessions, run: Run) -> None:
    _apply(sessions, _record(run.id, 2, state=_state()))
    _apply(sessions, _record(run.id, 1, orders=[ENTRY], state=_state()))
    assert [order.status for order in _stored(sessions, run).orders] == [OrderStatus.ACCEPTED]


@pytest.mark.parametrize("status", [RunStatus.STOPPED, RunStatus.FAILED, RunStatus.MISSED])
def test_the_end_of_a_run_is_the_status_of_its_strategy(sessions: Sessions, run: Run, status: RunStatus) -> None:
    strategies = Strategies(sessions)
    _apply(sessions, _record(run.id, 1, state=_state()))
    assert strategies.statuses() == {run.id.strategy_id: RunStatus.ACTIVE}
    _apply(sessions, _record(run.id, 2, state=_state(status, "sold", "schedule")))
    assert strategies.statuses() == {run.id.strategy_id: status}
    assert strategies.unarmed(DAY) == []
    assert Runs(sessions).open() == []
    stored = _stored(sessions, run)
    assert (stored.status, stored.exit_reason) == (status, ExitReason.SCHEDULE)


@pytest.mark.parametrize("status", [RunStatus.STOPPED, RunStatus.FAILED, RunStatus.MISSED])
def test_the_end_of_a_run_does_not_end_a_strategy_that_repeats(sessions: Sessions, run: Run, status: RunStatus) -> None:
    with sessions.begin() as session:
        session.execute(text("UPDATE strategies SET repeat = 'daily'"))
    _apply(sessions, _record(run.id, 1, state=_state(status)))
    assert Strategies(sessions).statuses() == {run.id.strategy_id: RunStatus.ACTIVE}
    assert [each.id for each in Strategies(sessions).unarmed(DAY + timedelta(days=1))] == [run.id.strategy_id]


def test_the_end_of_an_older_run_does_not_end_a_strategy_that_runs_again(sessions: Sessions, run: Run) -> None:
    again = replace(run, id=RunId(run.id.strategy_id, DAY, 2))
    Runs(sessions).create(again)
    _apply(sessions, _record(run.id, 1, state=_state("failed")))
    assert Strategies(sessions).statuses() == {run.id.strategy_id: RunStatus.ACTIVE}
    _apply(sessions, _record(again.id, 1, state=_state("stopped")))
    assert Strategies(sessions).statuses() == {run.id.strategy_id: RunStatus.STOPPED}


@pytest.mark.parametrize(
    ("position", "order", "is_open"),
    [
        ("bought", FILLED, True),
        ("none", ENTRY, True),
        ("none", ENTRY | {"given_up": True}, True),
        ("none", ENTRY | {"status": "expired"}, False),
    ],
)
def test_a_failed_run_stays_open_while_it_holds_or_may_still_fill(
    sessions: Sessions, run: Run, position: str, order: dict[str, Any], is_open: bool
) -> None:
    _apply(sessions, _record(run.id, 1, state=_state("failed", position), orders=[order]))
    assert [found.id for found in Runs(sessions).open()] == ([run.id] if is_open else [])


def test_a_record_of_an_unknown_run_is_kept_and_stops_nothing(sessions: Sessions, run: Run) -> None:
    stranger = _record("999-20260105-1", 1, orders=[ENTRY], state=_state("failed"), alerts=[ALERT])
    _apply(sessions, stranger, _record(run.id, 1, state=_state("stopped")))
    assert [entry.run for entry in History(sessions).records(tenant="tenant-1")] != []
    assert len(History(sessions).records(run="999-20260105-1")) == 1
    assert [alert.run for alert in Alerts(sessions).list()] == ["999-20260105-1"]
    assert _stored(sessions, run).status is RunStatus.STOPPED


def test_an_order_id_cannot_wander_to_another_run(sessions: Sessions, run: Run) -> None:
    other = replace(run, id=RunId(run.id.strategy_id, DAY, 2))
    Runs(sessions).create(other)
    _apply(sessions, _record(run.id, 1, orders=[FILLED]))
    _apply(sessions, _record(other.id, 9, orders=[ENTRY]))
    assert [order.status for order in Runs(sessions).orders(run.id)] == [OrderStatus.FILLED]
    assert Runs(sessions).orders(other.id) == ()


def test_what_postgresql_refuses_becomes_a_dead_letter_and_the_rest_is_stored(sessions: Sessions, run: Run) -> None:
    with sessions.begin() as session:
        session.execute(text("ALTER TABLE orders ADD CHECK (reason <> 'a word of tomorrow')"))
    refused = _record(
        run.id, 1, orders=[ENTRY | {"attempt": 2, "client_order_id": "E2", "reason": "a word of tomorrow"}]
    )
    _apply(sessions, refused, _record(run.id, 2, orders=[FILLED], state=_state(position="bought")))
    (letter,) = History(sessions).dead_letters()
    assert letter.source == "drain"
    assert [entry.seq for entry in History(sessions).records(run=str(run.id))] == [2]
    assert _cursor(sessions) == Cursor(1, "1-1")
    before = _contents(sessions)
    _apply(sessions, refused)
    assert _contents(sessions) == before


def test_who_stores_is_told_what_is_new_and_what_became_of_it(sessions: Sessions, run: Run) -> None:
    with sessions.begin() as session:
        session.execute(text("ALTER TABLE records ADD CHECK (kind <> 'a word of tomorrow')"))
    letter, record = parse("1-7", b"{not json", NOW), _record(run.id, 1)
    assert list(_apply(sessions, letter, letter, record, record)) == [letter, record]
    refused, later = _record(run.id, 2, kind="a word of tomorrow"), _record(run.id, 3)
    new = _apply(sessions, letter, record, refused, later)
    assert [entry.source if isinstance(entry, DeadLetter) else entry.seq for entry in new] == ["drain", 3]
    assert list(_apply(sessions, letter, record, refused, later)) == []


def test_a_dead_letter_of_the_stream_is_stored_once_and_cut(sessions: Sessions) -> None:
    body = {"kind": "dead_letter", "run": "", "epoch": 1, "seq": 7, "real_time": NOW.isoformat()}
    letter = parse("1-7", json.dumps(body | {"source": "queue", "reason": "no run", "payload": "x" * 9_000}), NOW)
    _apply(sessions, letter)
    _apply(sessions, letter)
    (stored,) = History(sessions).dead_letters()
    assert (stored.source, stored.reason, len(stored.payload)) == ("queue", "no run", PAYLOAD_LIMIT)
    assert History(sessions).records() == []


#: Stream entries nobody could have meant.
UNREADABLE = [
    b"",
    b"\xff\xfe",
    b"{not json",
    b"[]",
    b"null",
    b'{"run": "1-20260105-1"}',
    b'{"run": "r", "epoch": -1, "seq": 1, "kind": "k", "real_time": "2026-01-05T00:00:00Z"}',
    b'{"run": "r", "epoch": 1, "seq": 9223372036854775808, "kind": "k", "real_time": "2026-01-05T00:00:00Z"}',
    b'{"run": "r", "epoch": 1, "seq": 1, "kind": "k", "real_time": "2026-01-05T00:00:00"}',
    b'{"run": "r", "epoch": 1, "seq": 1, "kind": "k", "real_time": "0001-01-01T00:00:00+05:30"}',
    b'{"run": "r", "epoch": NaN, "seq": 1, "kind": "k", "real_time": "2026-01-05T00:00:00Z"}',
    b'{"run": "r", "epoch": 1, "seq": 1, "kind": "k", "real_time": "2026-01-05T00:00:00Z", "event_id": "%s"}'
    % (b"x" * 3_000),
    b"[" * 100_000,
    b'{"kind": "dead_letter", "payload": "\\u0000"}',
]


@pytest.mark.parametrize("entry", UNREADABLE)
def test_an_unreadable_entry_is_a_dead_letter(entry: bytes) -> None:
    parsed = parse("1700000000000-3", entry, NOW)
    assert isinstance(parsed, DeadLetter)
    assert (parsed.key, parsed.at, parsed.source) == ("stream:1700000000000-3", NOW, "stream")
    assert parsed.reason
    assert len(parsed.payload) <= PAYLOAD_LIMIT


def test_unreadable_entries_stop_nothing(sessions: Sessions, run: Run) -> None:
    broken = [parse(f"1-{n}", entry, NOW) for n, entry in enumerate(UNREADABLE)]
    _apply(sessions, *broken, _record(run.id, 1, state=_state("stopped")))
    assert len(History(sessions).dead_letters()) == len(UNREADABLE)
    assert _stored(sessions, run).status is RunStatus.STOPPED


def test_text_postgresql_cannot_hold_is_replaced(sessions: Sessions, run: Run) -> None:
    alert = ALERT | {"message": "a NUL \0, half a pair \ud800, and a whole one \U0001f4c8"}
    _apply(sessions, _record(run.id, 1, alerts=[alert], extra={"\0": "\0"}))
    (stored,) = Alerts(sessions).list()
    assert stored.message == "a NUL \ufffd, half a pair \ufffd, and a whole one \U0001f4c8"
    (entry,) = History(sessions).records()
    assert entry.body["extra"] == {"\ufffd": "\ufffd"}


def test_what_lua_writes_for_nothing_is_read_as_nothing(sessions: Sessions, run: Run) -> None:
    record = _record(run.id, 1, orders={}, alerts={}, market_time="", state=_state(reason=""))
    assert (record.orders, record.alerts, record.market_time) == ((), (), None)
    _apply(sessions, record)
    assert _stored(sessions, run).exit_reason is None


def test_a_drainer_of_an_older_epoch_is_fenced_out(sessions: Sessions, run: Run) -> None:
    epoch = Epoch(sessions)
    assert _cursor(sessions) == START
    epoch.advance("redis-a")
    _apply(sessions, _record(run.id, 1, state=_state()), behind="1-0")
    epoch.advance("redis-b")
    before = _contents(sessions)
    with pytest.raises(Fenced, match="epoch 1, the engine of epoch 2"):
        _apply(sessions, _record(run.id, 2, state=_state("stopped")), behind="2-0")
    assert _contents(sessions) == before
    _apply(sessions, _record(run.id, 2, state=_state("stopped")), behind="2-0", epoch=2)
    assert _stored(sessions, run).status is RunStatus.STOPPED


def test_records_are_read_back_oldest_first_and_no_further_than_asked(sessions: Sessions, run: Run) -> None:
    _apply(sessions, *(_record(run.id, seq) for seq in range(1, 8)))
    assert [entry.seq for entry in History(sessions).records(run=str(run.id), limit=3)] == [5, 6, 7]
    assert [entry.seq for entry in History(sessions).records(tenant="tenant-1", limit=2)] == [6, 7]
    assert History(sessions).records(tenant="tenant-2") == []


LATCH = {"price": "9400", "time": "1767585600000001", "event": "sl:x:7", "seen_at": "1767585600500000"}


def test_a_breach_and_a_users_stop_outlive_the_live_state(sessions: Sessions, run: Run) -> None:
    _apply(sessions, _record(run.id, 1, kind="latched", latch=LATCH))
    _apply(sessions, _record(run.id, 2, kind="stop_requested", stop_requested="leave"))
    _apply(sessions, _record(run.id, 3, state=_state("active", "bought")))
    (known,) = Runs(sessions).open()
    seen_at = datetime(2026, 1, 5, 4, 0, 0, 500_000, tzinfo=UTC)
    breach = Latch(9400, datetime(2026, 1, 5, 4, 0, 0, 1, tzinfo=UTC), "sl:x:7", seen_at)
    assert known.latch == breach
    latched_at = seen_at + timedelta(milliseconds=2)
    _apply(sessions, _record(run.id, 4, latch=LATCH | {"latched_at": "1767585600502000"}))
    assert _stored(sessions, run).latch == replace(breach, latched_at=latched_at)
    assert known.stop_requested is StopMode.LEAVE


def test_a_breach_that_was_dropped_at_the_first_fill_is_dropped_here_too(sessions: Sessions, run: Run) -> None:
    latched, dropped = _record(run.id, 1, latch=LATCH), _record(run.id, 2, latch_dropped=True)
    _apply(sessions, latched)
    _apply(sessions, dropped)
    assert _stored(sessions, run).latch is None
    again = replace(run, id=RunId(run.id.strategy_id, DAY, 2))
    Runs(sessions).create(again)
    both = [_record(again.id, n, **what) for n, what in ((1, {"latch": LATCH}), (2, {"latch_dropped": True}))]
    _apply(sessions, *reversed(both))
    assert _stored(sessions, again).latch is None
