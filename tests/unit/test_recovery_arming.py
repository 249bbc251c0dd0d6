"""Arming: which strategies get a run, and on which date."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from engine.calendar import Calendar, Override, OverrideKind
from engine.domain.broker import BookEntry, Instrument
from engine.domain.moment import Moment
from engine.domain.orders import Order, OrderStatus
from engine.domain.recurrence import Recurrence
from engine.domain.routing import Alert
from engine.domain.run import Run, RunStatus
from engine.domain.schedule import Times
from engine.domain.strategy import Strategy
from engine.ports import AccountState, Armed
from engine.recovery import Recoverer
from tests.builders import chosen_of, entry, run

TODAY = date(2026, 1, 5)
MORNING, EVENING = datetime(2026, 1, 5, 4, tzinfo=UTC), datetime(2026, 1, 5, 12, tzinfo=UTC)
INFY = Strategy(1, "first", "acme", 1, "NSE:INFY", 10, time(10), time(15), Decimal(1500))
ACCOUNT = AccountState(1, "acme", "paper", "paper", "http://paper", "", "", "")


@dataclass
class Database:
    """The `Durable` port over one strategy nobody has armed."""

    strategy: Strategy
    created: list[Run] = field(default_factory=list)
    open: list[Run] = field(default_factory=list)

    def accounts(self) -> Sequence[AccountState]:
        return [ACCOUNT]

    def unarmed(self, day: date) -> Sequence[Strategy]:
        return [self.strategy]

    def create_runs(self, runs: Sequence[Run]) -> None:
        self.created.extend(runs)

    def open_runs(self, *, of: Collection[int] | None = None, before: date | None = None) -> Sequence[Run]:
        return chosen_of(self.open, of, before)


class Broker:
    """Lists one instrument."""

    def instruments(self, exchange: str) -> Iterable[Instrument]:
        return [Instrument("NSE:INFY", 1, Decimal("0.05"), 1)]

    def orders(self) -> Sequence[BookEntry]:
        return []


@pytest.mark.parametrize(
    ("now", "trading_date", "repeat", "runs"),
    [
        (MORNING, None, None, 1),
        (MORNING, TODAY, None, 1),
        # Without a date it waits for the next session; with one it must be seen to have been missed.
        (EVENING, None, None, 0),
        (EVENING, TODAY, None, 1),
        (MORNING, None, Recurrence(), 1),
        (EVENING, None, Recurrence(), 0),
        (EVENING, TODAY - timedelta(days=7), Recurrence(), 0),
        (EVENING, TODAY, Recurrence(), 1),
    ],
)
def test_a_strategy_without_this_very_date_gets_no_run_once_the_session_is_over(
    now: datetime, trading_date: date | None, repeat: Recurrence | None, runs: int
) -> None:
    database = Database(replace(INFY, trading_date=trading_date, repeat=repeat))
    _recoverer(database, now).arm()
    assert len(database.created) == runs


#: How a run of yesterday is left open: its orders and its state, and whether that is worth an alert.
LEFT_OPEN: list[tuple[tuple[Order, ...], dict[str, Any], int]] = [
    ((entry(OrderStatus.FILLED, 10),), {}, 1),
    ((entry(OrderStatus.FILLED, 10),), {"status": RunStatus.FAILED, "failure": "not_covered"}, 1),
    ((entry(OrderStatus.UNKNOWN),), {}, 1),
    # An engine that was down: it will be missed at once.
    ((), {}, 0),
]


@pytest.mark.parametrize(("orders", "state", "alerts"), LEFT_OPEN)
def test_a_strategy_whose_earlier_run_is_open_gets_no_run_and_that_is_told_once_a_day(
    orders: tuple[Order, ...], state: dict[str, Any], alerts: int
) -> None:
    left = run(*orders, spec=replace(INFY, repeat=Recurrence()), **state)
    database = Database(left.strategy, open=[left])
    told: list[Alert] = []
    tomorrow, later = (_recoverer(database, MORNING + timedelta(days=days), told) for days in (1, 2))
    for recoverer in (tomorrow, later):
        recoverer.arm()
        recoverer.arm()
    assert database.created == []
    assert [alert.code for alert in told] == ["held_back"] * alerts * 2
    assert all(str(left.id) in alert.message for alert in told)
    database.open.clear()
    later.arm()
    assert [each.id.trading_date for each in database.created] == [TODAY + timedelta(days=2)]


#: Earlier runs that hold nothing and should have ended: never served, failed with an exit nobody settles, denied.
IDLE: list[tuple[tuple[Order, ...], dict[str, Any]]] = [
    ((), {}),
    ((entry(OrderStatus.REJECTED),), {}),
    ((entry(OrderStatus.CANCELED),), {"status": RunStatus.FAILED, "failure": "attempt_unsettled"}),
]


@pytest.mark.parametrize(("orders", "state"), IDLE)
def test_a_strategy_held_back_by_a_run_that_holds_nothing_is_told_of_as_its_time_is_near(
    orders: tuple[Order, ...], state: dict[str, Any]
) -> None:
    left = run(*orders, spec=replace(INFY, repeat=Recurrence()), **state)
    database, told = Database(left.strategy, open=[left]), list[Alert]()
    tomorrow = MORNING + timedelta(days=1)
    for minutes, alerts in ((0, 0), (24, 0), (25, 1), (26, 1), (40, 1)):
        _recoverer(database, tomorrow + timedelta(minutes=minutes), told).arm()
        # Another recoverer each time: the live state remembers what was told.
        assert len({alert.message for alert in told}) == alerts
    assert {alert.code for alert in told} == {"held_back"}
    assert database.created == []


def test_on_a_day_without_a_session_nothing_is_held_back() -> None:
    left = run(entry(OrderStatus.FILLED, 10), spec=replace(INFY, repeat=Recurrence()))
    told: list[Alert] = []
    _recoverer(Database(left.strategy, open=[left]), MORNING + timedelta(days=5), told).arm()
    assert told == []


def test_a_strategy_whose_symbol_is_listed_no_more_is_told_of_once_a_day() -> None:
    told: list[Alert] = []
    database = Database(replace(INFY, symbol="NSE:GONE", repeat=Recurrence()))
    recoverer = _recoverer(database, MORNING, told)
    for _ in range(3):
        recoverer.arm()
    assert database.created == []
    assert [(alert.severity, alert.code) for alert in told] == [("critical", "symbol_gone")]


def test_a_position_whose_symbol_is_listed_no_more_is_told_of_that_day() -> None:
    left = run(entry(OrderStatus.FILLED, 10), spec=replace(INFY, id=9, symbol="NSE:GONE"))
    told: list[Alert] = []
    recoverer = _recoverer(Database(replace(INFY, trading_date=TODAY), open=[left]), MORNING, told)
    for _ in range(3):
        recoverer.arm()
    (alert,) = told
    assert (alert.severity, alert.code) == ("critical", "symbol_gone")
    assert "NSE:GONE" in alert.message
    assert "it holds 10" in alert.message


def test_a_year_nobody_confirmed_trades_nothing_stops_no_recovery_and_is_told_once() -> None:
    left = run(entry(OrderStatus.FILLED, 10), spec=replace(INFY, id=7))
    database = Database(replace(INFY, repeat=Recurrence()), open=[left])
    told: list[Alert] = []
    recoverer = _recoverer(database, datetime(2027, 1, 4, 4, tzinfo=UTC), told)
    assert [recoverer.arm(), recoverer.arm()] == [1, 0]
    assert database.created == []
    assert [alert.code for alert in told] == ["year_unconfirmed"]


def _recoverer(
    database: Database, now: datetime, told: list[Alert] | None = None, overrides: Iterable[Override] = ()
) -> Recoverer:
    """A recoverer at market time `now`, whose alerts are added to `told`."""

    def alert_once(_tenant: str, alert: Alert, _name: str) -> bool:
        if told is not None:
            told.append(alert)
        return True

    store: Any = SimpleNamespace(
        write_account=lambda _account: None,
        arm=lambda _run, _due, **_: Armed.CREATED,
        account_of=lambda _run: None,
        alert_once=alert_once,
    )
    durable: Any = database
    timers: Any = SimpleNamespace(schedule=lambda _run, _now: None)
    brokers: Any = SimpleNamespace(of=lambda _account, _version: Broker())
    clock: Any = SimpleNamespace(now=lambda: Moment(now, now))
    parts = (durable, store, store, brokers, timers, Calendar(overrides), clock, "EE", timedelta(0))
    return Recoverer(*parts, lambda *_, **__: None)


CLOSED = Override("NSE", TODAY, OverrideKind.CLOSED)
EVENING_ONLY = Override("NSE", TODAY, OverrideKind.SPECIAL, time(18), time(19))
SHORT = Override("NSE", TODAY, OverrideKind.SPECIAL, time(9, 15), time(12, 12))
NEXT_YEAR = datetime(2027, 1, 4, 4, tzinfo=UTC)
#: One with this very date, one that trades daily, and one that does from this very date on.
DATED, DAILY = replace(INFY, trading_date=TODAY), replace(INFY, repeat=Recurrence())
DAILY_SINCE = replace(DAILY, trading_date=TODAY)


def _utc(hour: int, minute: int = 0) -> datetime:
    return Calendar().to_utc("NSE", TODAY, time(hour, minute))


@pytest.mark.parametrize(
    ("overrides", "spec", "now", "times", "told"),
    [
        ([], DATED, MORNING, Times(_utc(10), _utc(15), _utc(15, 30)), []),
        ([SHORT], DATED, MORNING, Times(_utc(10), _utc(12), _utc(12, 12)), ["moved"]),
        ([SHORT], INFY, MORNING, Times(_utc(10), _utc(12), _utc(12, 12)), ["moved"]),
        ([SHORT], DAILY, MORNING, Times(_utc(10), _utc(12), _utc(12, 12)), ["moved"]),
        # Its own date is gone: it gets a run that ends as missed, and is told of then.
        ([CLOSED], DATED, MORNING, Times(_utc(10), _utc(15), _utc(10)), []),
        ([EVENING_ONLY], DATED, MORNING, Times(_utc(10), _utc(15), _utc(10)), []),
        # Without a date, or with others, it waits for a session it fits.
        ([CLOSED], INFY, MORNING, None, []),
        ([CLOSED], DAILY, MORNING, None, []),
        ([CLOSED], DAILY_SINCE, MORNING, None, []),
        ([EVENING_ONLY], INFY, MORNING, None, ["waits"]),
        ([EVENING_ONLY], DAILY, MORNING, None, ["waits"]),
        ([EVENING_ONLY], DAILY_SINCE, MORNING, None, ["waits"]),
        # Nobody knows whether it is a trading day: it waits for the operator's word.
        ([], INFY, NEXT_YEAR, None, ["year_unconfirmed"]),
        ([], DAILY, NEXT_YEAR, None, ["year_unconfirmed"]),
        ([], replace(INFY, trading_date=NEXT_YEAR.date()), NEXT_YEAR, None, ["year_unconfirmed"]),
    ],
)
def test_a_session_that_changed_before_arming_moves_or_cancels_and_somebody_is_told(
    overrides: list[Override], spec: Strategy, now: datetime, times: Times | None, told: list[str]
) -> None:
    alerts: list[Alert] = []
    database = Database(spec)
    recoverer = _recoverer(database, now, alerts, overrides)
    recoverer.arm()
    recoverer.arm()
    assert [Times.of(each) for each in database.created[:1]] == ([times] if times else [])
    assert [alert.code for alert in alerts] == told
