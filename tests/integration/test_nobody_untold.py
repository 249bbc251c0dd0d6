"""What nobody would notice is told: a fill of a run that has ended, a trade that could not be armed, a day missed."""

import time as time_module
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import pytest
from redis import Redis
from sqlalchemy import text

from engine.bootstrap import _Past
from engine.domain.broker import Instrument
from engine.domain.events import EventType
from engine.domain.orders import Leg, OrderStatus, Side
from engine.domain.recurrence import Recurrence
from engine.domain.run import Run, RunId, RunStatus, client_order_id
from engine.domain.strategy import AbortPolicy, Strategy
from engine.orderstream import OrderStream, Unjudged
from engine.recovery import Recoverer
from engine.runtime import keys
from engine.strategies import Draft
from models import schema
from models.database import Sessions, open_database, sessions_of
from models.durable import DurableState
from models.repositories.accounts import Account, Accounts
from models.repositories.runs import Runs
from models.repositories.strategies import Strategies
from models.secrets import Credentials, Encrypted
from tests.builders import BUY_AT, CLOSES, DAY, DEPLOYMENT, SELL_AT, STOP, SYMBOL, book_entry, evidence, exit_, strategy
from tests.desk import SECRET_KEY
from tests.integration.test_recovery import SETTLE, Recovery
from tests.livestate import ACCOUNT, RUN, open_live_state, watched
from tests.world import World


@pytest.fixture
def recovery(redis: Redis, redis_url: str) -> Recovery:
    return Recovery(World(open_live_state(redis, redis_url)))


@pytest.fixture
def sessions(database_url: str) -> Iterator[Sessions]:
    schema.upgrade(database_url)
    Encrypted.use(SECRET_KEY)
    database = open_database(database_url)
    opened = sessions_of(database)
    Accounts(opened).add(Account("alpha", "main", "kite", "", "", Credentials()))
    yield opened
    database.dispose()


def ended_flat(recovery: Recovery) -> World:
    """A run that bought and sold, and ended."""
    world = recovery.recovered().world
    world.clock.market = BUY_AT
    watched(world.live.redis, ACCOUNT.market)
    world.serve(EventType.BUY, "buy")
    world.push(world.broker.fill("B1"))
    world.clock.market = SELL_AT
    world.serve(EventType.SELL, "sell")
    world.push(world.broker.fill("B2"))
    assert world.ended()["position"] == "sold"
    return world


def test_what_a_run_knew_as_it_ended_is_told_to_nobody_again(recovery: Recovery) -> None:
    world = ended_flat(recovery)
    for entry in world.broker.orders():
        assert world.stream.on_update(entry, 1)
        # What was told before comes late.
        early = replace(entry.evidence, status=OrderStatus.ACCEPTED, filled_quantity=0)
        assert world.stream.on_update(book_entry(early, side=entry.side), 1)
    assert world.alerts() == []


@pytest.mark.parametrize("status", [OrderStatus.FILLED, OrderStatus.ACCEPTED, OrderStatus.CANCELED])
def test_an_order_of_a_run_that_has_ended_is_a_critical_alert_told_once(
    recovery: Recovery, status: OrderStatus
) -> None:
    world = ended_flat(recovery)
    late = exit_(OrderStatus.UNKNOWN, attempt=2)
    filled = 10 if status is OrderStatus.FILLED else 4 if status is OrderStatus.CANCELED else 0
    for _ in range(3):
        world.stream.on_update(book_entry(evidence(late, status, filled), side=Side.SELL), 1)
    (told,) = [alert for record in world.live.records() for alert in record.get("alerts", [])]
    assert (told["severity"], told["code"]) == ("critical", "fill_after_end")
    assert late.client_order_id in told["message"]


def test_another_accounts_word_of_it_is_nobodys(recovery: Recovery) -> None:
    world = ended_flat(recovery)
    late = exit_(OrderStatus.UNKNOWN, attempt=2)
    world.stream.on_update(book_entry(evidence(late, OrderStatus.FILLED, 10), side=Side.SELL), 2)
    assert world.alerts() == []


def stored(sessions: Sessions, status: RunStatus) -> Run:
    (spec,) = Strategies(sessions).add([draft("one", trading_date=DAY)])
    run = Run(RunId(spec.id, DAY), spec, BUY_AT, SELL_AT, CLOSES, STOP, status=status)
    Runs(sessions).create(run)
    with sessions.begin() as session:
        session.execute(text("UPDATE runs SET status = :status"), {"status": status})
    return run


@pytest.mark.parametrize(("status", "alerts"), [(RunStatus.STOPPED, 1), (RunStatus.ACTIVE, 0)])
def test_a_run_that_only_the_database_knows_is_looked_up(
    recovery: Recovery, sessions: Sessions, status: RunStatus, alerts: int
) -> None:
    world, run = recovery.world, stored(sessions, status)
    recovery.open()
    past = _Past(DurableState(sessions))
    stream = OrderStream(world.live.store, world.publisher, world.clock, DEPLOYMENT, world.log, past)
    late = exit_(OrderStatus.UNKNOWN)
    told = evidence(late, OrderStatus.FILLED, 10)
    told = replace(told, client_order_id=client_order_id(DEPLOYMENT, run.id, Leg.EXIT, 1))
    stream.on_update(book_entry(told, side=Side.SELL), run.strategy.account_id)
    assert len(world.alerts()) == alerts


def test_while_the_database_is_away_it_is_judged_later(recovery: Recovery, sessions: Sessions) -> None:
    world, run = recovery.world, stored(sessions, RunStatus.STOPPED)
    recovery.open()
    gone = sessions_of(open_database("postgresql://nobody@127.0.0.1:1/none"))
    stream = OrderStream(
        world.live.store, world.publisher, world.clock, DEPLOYMENT, world.log, _Past(DurableState(gone))
    )
    told = evidence(exit_(OrderStatus.UNKNOWN), OrderStatus.FILLED, 10)
    with pytest.raises(Unjudged):
        stream.on_update(book_entry(told, side=Side.SELL), run.strategy.account_id)


def draft(name: str, **changes: object) -> Draft:
    base = Draft(name, "alpha", "", SYMBOL, 10, time(9, 30), time(14, 30), Decimal("95.00"))
    return replace(base, **changes)  # type: ignore[arg-type]


def test_dates_that_passed_without_a_run_are_missed(sessions: Sessions) -> None:
    strategies = Strategies(sessions)
    once, daily, _later, _any = strategies.add(
        [
            draft("once", trading_date=DAY),
            draft("daily", repeat=Recurrence()),
            draft("later", trading_date=DAY + timedelta(days=9)),
            draft("any"),
        ]
    )
    with sessions.begin() as session:
        session.execute(text("UPDATE strategies SET created_at = :at"), {"at": datetime(2026, 1, 4, tzinfo=UTC)})
    ran = Run(RunId(daily.id, DAY), daily, BUY_AT, SELL_AT, CLOSES, STOP)
    Runs(sessions).create(ran)
    with sessions.begin() as session:
        session.execute(text("UPDATE runs SET updated_at = :at"), {"at": datetime(2026, 1, 5, 12, tzinfo=UTC)})
    found = strategies.missed(DAY + timedelta(days=3))
    assert [(each.id, day) for each, day, _ in found] == [
        (once.id, DAY),
        (daily.id, DAY + timedelta(days=1)),
        (daily.id, DAY + timedelta(days=2)),
    ]
    assert strategies.missed(DAY) == []


class Gaps:
    """The dates that passed without a run."""

    def __init__(self, *found: tuple[Strategy, date]) -> None:
        self.found = found

    def missed(self, day: date) -> Sequence[tuple[Strategy, date, datetime]]:
        return [(each, missed, datetime(2026, 1, 1, tzinfo=UTC)) for each, missed in self.found if missed < day]


def recoverer_of(recovery: Recovery, gaps: Gaps) -> Recoverer:
    world = recovery.world
    return Recoverer(
        recovery.durable, world.live.store, world.live.epoch, world.brokers, world.timers,
        recovery.recoverer._calendar, world.clock, DEPLOYMENT, SETTLE, world.log, missed=gaps,
    )  # fmt: skip


def test_a_trade_whose_whole_day_the_engine_was_down_is_told_of_as_missed(recovery: Recovery) -> None:
    world = recovery.world
    # A Monday without a run; the Sunday before it was never one.
    sunday = DAY - timedelta(days=1)
    weekly = strategy(id=8, repeat=Recurrence(), trading_date=None)
    recovery.durable.strategies.clear()
    recovery.recoverer = recoverer_of(recovery, Gaps((strategy(), DAY), (weekly, DAY), (weekly, sunday)))
    world.clock.market = BUY_AT + timedelta(days=1, minutes=-10)
    recovery.recovered()
    recovery.recoverer.arm()
    assert sorted(recovery.durable.rows) == [RUN, "8-20260105-1"]
    world.sweep()
    assert world.sides() == []
    assert world.alerts() == ["missed", "missed"]
    messages = {alert["message"] for record in world.live.records() for alert in record.get("alerts", [])}
    assert messages == {"not bought: not_armed (engine_was_down)"}
    assert world.ended()["status"] == "missed"


@pytest.mark.parametrize("was_up", [True, False])
def test_a_date_on_which_an_earlier_run_was_held_is_told_once_as_held_back_and_has_no_run(
    recovery: Recovery, was_up: bool
) -> None:
    daily = strategy(repeat=Recurrence(), trading_date=None, on_abort=AbortPolicy.FREEZE)
    recovery.durable.strategies = [daily]
    gaps = Gaps((daily, DAY + timedelta(days=1)), (daily, DAY + timedelta(days=2)))
    recovery.recoverer = recoverer_of(recovery, gaps)
    world = recovery.recovered().world
    world.clock.market = BUY_AT
    world.serve(EventType.BUY, "buy")
    world.push(world.broker.fill("B1"))
    recovery.durable.rows[RUN] = held = world.run()
    assert held.held == 10
    for _ in range(2):
        world.clock.advance(86400)
        if was_up:
            recovery.recoverer.arm()
    world.clock.advance(86400)
    recovery.recoverer.arm()
    recovery.start()
    recovery.recoverer = recoverer_of(recovery, gaps)
    recovery.recoverer.arm()
    assert [*recovery.durable.rows] == [RUN]
    assert world.alerts() == ["held_back"] * (3 if was_up else 2)
    messages = [alert["message"] for record in world.live.records() for alert in record.get("alerts", [])]
    assert all(f"run {RUN}, which holds 10," in message for message in messages)
    if not was_up:
        assert "got no run on 2026-01-06, 2026-01-07: " in messages[0]


def history_of(sessions: Sessions, recovery: Recovery, until: date | None) -> tuple[Recoverer, Run]:
    """A recoverer over PostgreSQL, whose daily strategy has an open run of DAY that was written on that day."""
    days = Recurrence(until=until)
    (daily,) = Strategies(sessions).add([draft("daily", repeat=days)])
    left = Run(RunId(daily.id, DAY), daily, BUY_AT, SELL_AT, CLOSES, STOP)
    Runs(sessions).create(left)
    with sessions.begin() as session:
        session.execute(text("UPDATE strategies SET created_at = :at"), {"at": datetime(2026, 1, 4, tzinfo=UTC)})
        session.execute(text("UPDATE runs SET updated_at = :at"), {"at": datetime(2026, 1, 5, 12, tzinfo=UTC)})
    recovery.open()
    durable, world = DurableState(sessions), recovery.world
    found = Recoverer(
        durable, world.live.store, world.live.epoch, world.brokers, world.timers,
        recovery.recoverer._calendar, world.clock, DEPLOYMENT, SETTLE, world.log, missed=durable,
    )  # fmt: skip
    return found, left


def runs_of(sessions: Sessions, strategy_id: int) -> dict[date, Run]:
    return {run.id.trading_date: run for run in Runs(sessions).of_strategies([strategy_id])}


def test_a_date_that_passed_while_an_idle_run_was_open_is_missed_once_that_one_has_ended(
    recovery: Recovery, sessions: Sessions
) -> None:
    world = recovery.world
    world.clock.market = BUY_AT + timedelta(days=2, minutes=-30)
    recoverer, left = history_of(sessions, recovery, until=None)
    for _ in range(3):
        recoverer.arm()
    assert [*runs_of(sessions, left.strategy.id)] == [DAY]
    assert world.alerts() == []
    with sessions.begin() as session:
        session.execute(text("UPDATE runs SET status = 'missed', updated_at = now()"))
    for _ in range(3):
        recoverer.arm()
    found = runs_of(sessions, left.strategy.id)
    assert found[DAY + timedelta(days=1)].failure == f"run {left.id} was still open"
    assert found.keys() == {DAY, DAY + timedelta(days=1)}


def test_a_last_date_that_passed_while_an_earlier_run_was_open_is_told_though_no_run_can_follow(
    recovery: Recovery, sessions: Sessions
) -> None:
    world = recovery.world
    world.clock.market = BUY_AT + timedelta(days=2, minutes=-30)
    recoverer, left = history_of(sessions, recovery, until=DAY + timedelta(days=1))
    for _ in range(3):
        recoverer.arm()
    assert [*runs_of(sessions, left.strategy.id)] == [DAY]
    assert world.alerts() == ["held_back"]


def test_a_missed_day_whose_row_the_history_refused_once_is_told_of_all_the_same(
    recovery: Recovery, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, durable = recovery.world, recovery.durable
    durable.strategies.clear()
    recovery.recoverer = recoverer_of(recovery, Gaps((strategy(), DAY)))
    world.clock.market = BUY_AT + timedelta(days=1, minutes=-10)
    unarmed = durable.unarmed

    def refusing(_day: date) -> Sequence[Strategy]:
        # What it is asked after: by then the row is stored.
        assert sorted(durable.rows) == [RUN]
        monkeypatch.setattr(durable, "unarmed", unarmed)
        raise ConnectionError

    monkeypatch.setattr(durable, "unarmed", refusing)
    with pytest.raises(ConnectionError):
        recovery.recovered()
    recovery.recoverer.arm()
    world.sweep()
    assert world.alerts() == ["missed"]


@pytest.mark.parametrize("why", ["token_dead", "unreachable", "symbol"])
def test_one_that_cannot_be_armed_by_its_time_is_told_once_and_its_row_says_why(recovery: Recovery, why: str) -> None:
    world = recovery.world
    if why == "symbol":
        world.broker.listed = (Instrument("NSE:OTHER", 2, Decimal("0.05"), 1),)
    else:
        setattr(world.broker, why, True)
    world.clock.market = BUY_AT - timedelta(minutes=30)
    recovery.recovered()
    assert "not_armed" not in world.alerts()
    world.clock.advance(26 * 60)
    for _ in range(3):
        recovery.recoverer.arm()
        world.clock.advance(1)
    # What it lacks is told when that is seen.
    gone = ["symbol_gone"] if why == "symbol" else []
    assert world.alerts() == [*gone, "not_armed"]
    assert recovery.durable.rows == {}
    world.clock.advance(5 * 60)
    recovery.recoverer.arm()
    world.sweep()
    (row,) = recovery.durable.rows.values()
    assert ("cannot be read" in row.failure) is (why != "symbol")
    assert ("not an instrument" in row.failure) is (why == "symbol")
    assert (world.ended()["status"], world.alerts()) == ("missed", [*gone, "not_armed", "missed"])
    assert world.sides() == []


def test_one_whose_login_comes_in_time_is_bought(recovery: Recovery) -> None:
    world = recovery.world
    world.broker.token_dead = True
    world.clock.market = BUY_AT + timedelta(seconds=20)
    recovery.recovered()
    assert (world.alerts(), recovery.durable.rows) == (["not_armed"], {})
    world.broker.token_dead = False
    # The pause between two tries is over.
    recovery.recoverer._arming._instruments._passed = lambda: time_module.monotonic() + 60
    recovery.recoverer.arm()
    watched(world.live.redis, ACCOUNT.market)
    assert world.serve(EventType.BUY, "buy") == "submitted: accepted"
    assert world.live.redis.exists(keys.runtime(RUN)) == 1
