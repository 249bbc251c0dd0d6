"""Arming: which strategies get a run, and on which date."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from engine.calendar import Calendar, Override, OverrideKind
from engine.domain.broker import BookEntry, Instrument
from engine.domain.moment import Moment
from engine.domain.orders import OrderStatus
from engine.domain.routing import Alert
from engine.domain.run import Run, RunId
from engine.domain.schedule import Times
from engine.domain.strategy import Strategy
from engine.ports import AccountState, Armed
from engine.recovery import Recoverer
from tests.builders import entry, run

TODAY = date(2026, 1, 5)
MORNING, EVENING = datetime(2026, 1, 5, 4, tzinfo=UTC), datetime(2026, 1, 5, 12, tzinfo=UTC)
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

    def open_runs(self) -> Sequence[Run]:
        return self.open


class Broker:
    """Lists one instrument."""

    def instruments(self, exchange: str) -> Iterable[Instrument]:
        return [Instrument("NSE:INFY", 1, Decimal("0.05"), 1)]

    def orders(self) -> Sequence[BookEntry]:
        return []


@pytest.mark.parametrize(
    ("now", "trading_date", "runs"),
    [
        (MORNING, None, 1),
        (MORNING, TODAY, 1),
        # Without a date it waits for the next session; with one it must be seen to have been missed.
        (EVENING, None, 0),
        (EVENING, TODAY, 1),
    ],
)
def test_a_strategy_without_a_date_gets_no_run_once_the_session_is_over(
    now: datetime, trading_date: date | None, runs: int
) -> None:
    strategy = Strategy(
        1, "first", "acme", 1, "NSE:INFY", 10, time(10), time(15), Decimal(1500), trading_date=trading_date
    )
    database = Database(strategy)
    nothing: Any = SimpleNamespace(write_account=lambda _account: None)
    brokers: Any = SimpleNamespace(of=lambda _account, _version: Broker())
    clock: Any = SimpleNamespace(now=lambda: Moment(now, now))
    durable: Any = database
    recoverer = Recoverer(
        durable, nothing, nothing, brokers, nothing, Calendar(), clock, "EE", timedelta(0), lambda *_, **__: None
    )
    recoverer.arm()
    assert len(database.created) == runs


@pytest.mark.parametrize(
    ("now", "held", "sessions"),
    [
        # Before the next session, in it, and after it; then a run that is flat.
        (datetime(2026, 1, 6, 3, tzinfo=UTC), 10, 0),
        (datetime(2026, 1, 6, 4, tzinfo=UTC), 10, 1),
        (datetime(2026, 1, 6, 11, tzinfo=UTC), 10, 0),
        (MORNING, 10, 0),
        (datetime(2026, 1, 6, 4, tzinfo=UTC), 0, 0),
    ],
)
def test_a_run_left_holding_goes_on_in_the_next_session(now: datetime, held: int, sessions: int) -> None:
    prolonged: list[tuple[RunId, datetime]] = []
    store: Any = SimpleNamespace(
        write_account=lambda _account: None,
        arm=lambda _run, _due, **_: Armed.CREATED,
        prolong=lambda run_id, closes_at, _due: prolonged.append((run_id, closes_at)),
    )
    left = run(entry(OrderStatus.FILLED if held else OrderStatus.REJECTED, held))
    database: Any = Database(left.strategy, open=[left])
    timers: Any = SimpleNamespace(schedule=lambda _run, _now: None)
    brokers: Any = SimpleNamespace(of=lambda _account, _version: Broker())
    clock: Any = SimpleNamespace(now=lambda: Moment(now, now))
    recoverer = Recoverer(
        database, store, store, brokers, timers, Calendar(), clock, "EE", timedelta(0), lambda *_, **__: None
    )
    recoverer.arm()
    recoverer.arm()
    assert prolonged == [(left.id, datetime(2026, 1, 6, 10, tzinfo=UTC))] * sessions


CLOSED = Override("NSE", TODAY, OverrideKind.CLOSED)
EVENING_ONLY = Override("NSE", TODAY, OverrideKind.SPECIAL, time(18), time(19))
SHORT = Override("NSE", TODAY, OverrideKind.SPECIAL, time(9, 15), time(12, 12))
NEXT_YEAR = datetime(2027, 1, 4, 4, tzinfo=UTC)


def _utc(hour: int, minute: int = 0) -> datetime:
    return Calendar().to_utc("NSE", TODAY, time(hour, minute))


@pytest.mark.parametrize(
    ("overrides", "trading_date", "now", "times", "told"),
    [
        ([], TODAY, MORNING, Times(_utc(10), _utc(15), _utc(15, 30)), []),
        ([SHORT], TODAY, MORNING, Times(_utc(10), _utc(12), _utc(12, 12)), ["moved"]),
        ([SHORT], None, MORNING, Times(_utc(10), _utc(12), _utc(12, 12)), ["moved"]),
        # Its own date is gone: it gets a run that ends as missed, and is told of then.
        ([CLOSED], TODAY, MORNING, Times(_utc(10), _utc(15), _utc(10)), []),
        ([EVENING_ONLY], TODAY, MORNING, Times(_utc(10), _utc(15), _utc(10)), []),
        # Without a date it waits for a session it fits.
        ([CLOSED], None, MORNING, None, []),
        ([EVENING_ONLY], None, MORNING, None, ["waits"]),
        # Nobody knows whether it is a trading day: it waits for the operator's word.
        ([], None, NEXT_YEAR, None, ["year_unconfirmed"]),
        ([], NEXT_YEAR.date(), NEXT_YEAR, None, ["year_unconfirmed"]),
    ],
)
def test_a_session_that_changed_before_arming_moves_or_cancels_and_somebody_is_told(
    overrides: list[Override], trading_date: date | None, now: datetime, times: Times | None, told: list[str]
) -> None:
    alerts: list[Alert] = []
    strategy = Strategy(
        1, "first", "acme", 1, "NSE:INFY", 10, time(10), time(15), Decimal(1500), trading_date=trading_date
    )
    database: Any = Database(strategy)
    store: Any = SimpleNamespace(write_account=lambda _account: None, alert=lambda _tenant, alert: alerts.append(alert))
    brokers: Any = SimpleNamespace(of=lambda _account, _version: Broker())
    clock: Any = SimpleNamespace(now=lambda: Moment(now, now))
    recoverer = Recoverer(
        database, store, store, brokers, store, Calendar(overrides), clock, "EE", timedelta(0), lambda *_, **__: None
    )
    recoverer.arm()
    recoverer.arm()
    assert [Times.of(each) for each in database.created[:1]] == ([times] if times else [])
    assert [alert.code for alert in alerts] == told
