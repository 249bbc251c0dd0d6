"""The recoverer on the real live state: opened once, rebuilt when lost, and no account waits for another."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from redis import Redis

from broker_connector.registry import BROKERS
from engine import bootstrap
from engine.calendar import Calendar, Override
from engine.config import Settings
from engine.domain.events import EventType
from engine.domain.orders import SEND_WITHIN, Leg, OrderStatus, Side
from engine.domain.recurrence import Recurrence
from engine.domain.run import Position, Run, RunId, RunStatus, parse_client_order_id
from engine.domain.strategy import Strategy
from engine.overnight import Overnight
from engine.ports import AccountState
from engine.recovery import Recoverer
from engine.runtime import keys
from engine.runtime.word import CalendarWord
from engine.telling import Told
from tests.builders import (
    BUY_AT,
    DAY,
    DEPLOYMENT,
    QUANTITY,
    SELL_AT,
    STOP,
    SYMBOL,
    chosen_of,
    entry,
    exit_,
    latch,
    run,
    strategy,
)
from tests.fakes import DEAD_TOKEN, Answer, FakeBroker
from tests.livestate import ACCOUNT, RUN, open_live_state, watched
from tests.world import World

E = EventType
SETTLE = timedelta(seconds=13)
MINE, OTHERS = strategy(), strategy(id=8, account_id=2, tenant="beta")
SECOND = replace(ACCOUNT, id=2, tenant="beta")


@dataclass
class MemoryDurable:
    """The `Durable` port: rows in lists."""

    strategies: list[Strategy] = field(default_factory=list)
    rows: dict[str, Run] = field(default_factory=dict)
    epochs: list[tuple[int, str]] = field(default_factory=list)
    listed: list[AccountState] = field(default_factory=lambda: [ACCOUNT])

    def epoch(self) -> tuple[int, str] | None:
        return self.epochs[-1] if self.epochs else None

    def advance_epoch(self, redis_run_id: str) -> int:
        self.epochs.append((len(self.epochs) + 1, redis_run_id))
        return len(self.epochs)

    def accounts(self) -> Sequence[AccountState]:
        return self.listed

    def unarmed(self, day: date) -> Sequence[Strategy]:
        has_run = {
            row.id.strategy_id
            for row in self.rows.values()
            if row.id.trading_date == day or row.strategy.repeat is None
        }
        return [each for each in self.strategies if each.trades_on(day) and each.id not in has_run]

    def create_runs(self, runs: Sequence[Run]) -> None:
        self.rows |= {str(each.id): each for each in runs if str(each.id) not in self.rows}

    def drain(self, epoch: int) -> None:
        """Rows are written by the tests themselves."""

    def open_runs(self, *, of: Collection[int] | None = None, before: date | None = None) -> Sequence[Run]:
        return chosen_of([each for each in self.rows.values() if not each.is_terminal], of, before)


class Recovery:
    """A recoverer process over a world: `start` is a new process, `open` and `arm` are what it does."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.durable = MemoryDurable([MINE])
        # As every test begins: a server nobody has opened.
        world.live.redis.flushall()
        world.clock.market = BUY_AT - timedelta(minutes=1)
        self.start()

    def start(self) -> None:
        world = self.world
        self.recoverer = Recoverer(
            self.durable,
            world.live.store,
            world.live.epoch,
            world.brokers,
            world.timers,
            Calendar(),
            world.clock,
            DEPLOYMENT,
            SETTLE,
            world.log,
        )

    def open(self) -> timedelta:
        """Open the store; the real time it took."""
        before = self.world.clock.real
        self.recoverer.open(lambda: self.world.clock.real, self.world.clock.sleep_until)
        # Listeners say that they watch as soon as it is open.
        watched(self.world.live.redis, ACCOUNT.market)
        return self.world.clock.real - before

    def overnight(self) -> Overnight:
        """What the sweeper's process looks with; one that has just started, and knows no calendar but what was kept."""
        world, days, word = self.world, Calendar(), CalendarWord(self.world.live.redis)
        told = Told(world.live.store, world.log)
        return Overnight(world.live.store, days, lambda: word.teach(days), world.clock, told, world.log)

    def say(self, *overrides: Override, confirmed: Iterable[tuple[str, int]] = ()) -> None:
        """What a recoverer's process keeps of the operator's word."""
        CalendarWord(self.world.live.redis).keep(Calendar(overrides, confirmed))

    def recovered(self) -> "Recovery":
        self.open()
        self.recoverer.arm()
        watched(self.world.live.redis, ACCOUNT.market)
        return self


@pytest.fixture
def recovery(redis: Redis, redis_url: str) -> Recovery:
    return Recovery(World(open_live_state(redis, redis_url)))


def _bought_and_lost(recovery: Recovery, filled: int | None = None) -> World:
    """A run that bought, drained or not as the test says, whose Redis then was flushed."""
    world = recovery.recovered().world
    world.clock.market = BUY_AT
    assert world.serve(E.BUY, "buy") == "submitted: accepted"
    if filled is not None:
        world.push(world.broker.fill("B1", filled))
    world.live.redis.flushall()
    return world


def test_the_first_start_opens_epoch_one_at_once_and_arms_todays_strategies(recovery: Recovery) -> None:
    assert recovery.open() == timedelta(0)
    assert recovery.recoverer.arm() == 1
    world = recovery.world
    assert world.live.epoch.stored() == (1, world.live.epoch.run_id())
    armed = world.run()
    assert (armed.buy_at, armed.sell_at, armed.stop_units) == (BUY_AT, SELL_AT, STOP)
    assert world.timers.scheduled == [armed.id]
    assert world.live.store.account(1) == ACCOUNT
    assert world.live.armed(SYMBOL) == set()


def test_a_mere_restart_raises_no_epoch_and_changes_no_run(recovery: Recovery) -> None:
    recovery.recovered()
    before = recovery.world.run()
    recovery.start()
    assert recovery.open() == timedelta(0)
    recovery.recoverer.arm()
    assert len(recovery.durable.epochs) == 1
    # Its book is read again, nothing else.
    assert replace(recovery.world.run(), dirty=False) == before
    assert "epoch_kept" in recovery.world.log.actions()


def test_arming_again_changes_nothing(recovery: Recovery) -> None:
    recovery.recovered()
    before = recovery.world.live.fields()
    assert recovery.recoverer.arm() == 0
    assert recovery.world.live.fields() == before
    assert len(recovery.world.timers.scheduled) == 1


def test_a_strategy_added_during_the_day_is_armed_by_the_next_round(recovery: Recovery) -> None:
    recovery.recovered()
    recovery.durable.strategies.append(strategy(id=9))
    assert recovery.recoverer.arm() == 1
    assert recovery.world.live.run("9-20260105-1").strategy.id == 9


@pytest.mark.parametrize("day", [date(2026, 1, 4), DAY + timedelta(days=1)])
def test_a_strategy_of_another_day_is_not_armed(recovery: Recovery, day: date) -> None:
    recovery.durable.strategies[:] = [strategy(trading_date=day)]
    recovery.open()
    assert recovery.recoverer.arm() == 0


def test_a_symbol_the_broker_does_not_list_is_not_armed_and_keeps_no_other_waiting(recovery: Recovery) -> None:
    recovery.durable.strategies.insert(0, strategy(id=6, symbol="NSE:NOBODY"))
    recovery.recovered()
    assert set(recovery.durable.rows) == {RUN}
    assert recovery.world.run().id.strategy_id == 7


@pytest.mark.parametrize("same_process", [True, False])
def test_a_flushed_redis_is_rebuilt_under_the_next_epoch_with_the_book_adopted(
    recovery: Recovery, same_process: bool
) -> None:
    world = _bought_and_lost(recovery)
    world.broker.fill("B1")
    if not same_process:
        recovery.start()
    # A call under way when Redis went may still reach the broker.
    assert recovery.open() == SETTLE
    recovery.recoverer.arm()
    assert world.live.epoch.stored() == (2, world.live.epoch.run_id())
    assert world.live.store.account(1) == ACCOUNT
    assert world.timers.scheduled == [run().id] * 2
    world.sweep()
    assert (world.run().position, world.run().held) == (Position.BOUGHT, QUANTITY)
    world.breach(STOP)
    world.sweep()
    world.pass_time(2)
    assert [side for side, _ in world.sides()] == [Side.BUY, Side.SELL]


@pytest.mark.parametrize("kind", [E.BUY, E.RETRY, E.ORDER_UPDATE, E.STOPLOSS])
def test_no_event_after_a_loss_buys_again_what_is_in_the_book(recovery: Recovery, kind: EventType) -> None:
    world = _bought_and_lost(recovery)
    recovery.recovered()
    for number in range(5):
        world.serve(kind, f"after-{number}")
        world.sweep()
    assert world.sides() == [(Side.BUY, QUANTITY)]
    assert world.run().orders[0].status is OrderStatus.ACCEPTED


def test_a_rebuilt_run_looks_at_its_book_at_once_whatever_is_known_of_its_orders(recovery: Recovery) -> None:
    world = _bought_and_lost(recovery)
    recovery.open()
    now = world.clock.real
    told = entry(OrderStatus.ACCEPTED, broker_order_id="B1", send_by=now, settles_at=now, updated_at=now)
    recovery.durable.rows[RUN] = run(told)
    world.broker.fill("B1")
    recovery.recoverer.arm()
    world.sweep()
    assert world.run().held == QUANTITY


def test_what_the_ledger_still_held_is_in_the_rebuilt_run(recovery: Recovery, monkeypatch: pytest.MonkeyPatch) -> None:
    world = _bought_and_lost(recovery)
    drained: list[int] = []

    def drain(epoch: int) -> None:
        drained.append(epoch)
        recovery.durable.rows[RUN] = run(entry(OrderStatus.FILLED, 10), latch=latch())

    monkeypatch.setattr(recovery.durable, "drain", drain)
    recovery.recovered()
    assert drained == [2]
    assert (world.run().held, world.run().latch) == (QUANTITY, latch())


def test_a_server_that_kept_its_state_is_rebuilt_all_the_same(recovery: Recovery) -> None:
    world = recovery.recovered().world
    recovery.durable.rows[RUN] = run(entry(OrderStatus.FILLED, 10))
    # It lost its epoch alone, and what it holds of the run is older than what is stored.
    world.live.lose_epoch()
    recovery.start()
    recovery.recovered()
    assert (world.live.epoch.stored() or (0,))[0] == 2
    assert world.run().held == QUANTITY


def test_a_recoverer_as_it_is_composed_waits_for_the_slowest_broker(
    recovery: Recovery, redis_url: str, own_logging: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    _bought_and_lost(recovery)
    monkeypatch.setattr(bootstrap, "DurableState", lambda *_: recovery.durable)
    shared = bootstrap.parts("recoverer", Settings.model_validate({"REDIS_URL": redis_url}))
    unused: Any = None
    now, waits = recovery.world.clock.real, list[datetime]()
    bootstrap.recoverer(shared, unused, Calendar()).open(lambda: now, waits.append)
    shared.redis.close()
    profiles = [broker.profile for broker in BROKERS.values()]
    longest = max(profile.answer_timeout + profile.grace for profile in profiles)
    assert longest >= 1
    # An attempt granted just before may be sent for a while.
    assert waits == [now + SEND_WITHIN + timedelta(seconds=longest)]


def test_the_next_attempt_after_a_loss_has_the_next_number(recovery: Recovery) -> None:
    world = _bought_and_lost(recovery)
    world.broker.end("B1", OrderStatus.CANCELED)
    recovery.recovered()
    world.pass_time(2)
    assert [sent.client_order_id[-3:] for sent in world.broker.sent] == ["001", "002"]


def test_orders_the_history_knows_and_the_book_has_forgotten_are_kept(recovery: Recovery) -> None:
    recovery.recovered()
    recovery.durable.rows[RUN] = run(entry(OrderStatus.FILLED, QUANTITY))
    recovery.world.live.redis.flushall()
    recovery.recovered()
    assert recovery.world.run().held == QUANTITY
    assert recovery.world.live.armed(SYMBOL) == {RUN}


def test_until_its_book_is_read_an_account_stays_down_alone(recovery: Recovery) -> None:
    world = recovery.world
    world.brokers.by_account[2] = FakeBroker(world.clock)
    recovery.durable.listed.append(SECOND)
    recovery.durable.strategies.append(OTHERS)
    recovery.recovered()
    world.live.redis.flushall()
    world.broker.unreachable = True
    recovery.open()
    assert recovery.recoverer.arm() == 1
    assert world.live.store.run("8-20260105-1") is not None
    assert world.live.store.run(RUN) is None
    world.broker.unreachable = False
    assert recovery.recoverer.arm() == 1
    assert world.live.store.run(RUN) is not None


@pytest.mark.parametrize("illness", ["unreachable", "token_dead"])
def test_an_account_that_cannot_list_instruments_keeps_no_other_from_being_armed(
    recovery: Recovery, illness: str
) -> None:
    world = recovery.world
    world.brokers.by_account[2] = FakeBroker(world.clock)
    recovery.durable.listed.append(SECOND)
    recovery.durable.strategies.append(OTHERS)
    setattr(world.broker, illness, True)
    recovery.recovered()
    assert world.live.store.run("8-20260105-1") is not None
    setattr(world.broker, illness, False)
    recovery.recoverer.arm()
    assert world.live.store.run(RUN) is not None


@pytest.mark.parametrize("fails", [False, True], ids=["", "PostgreSQL fails first"])
def test_an_exit_that_waits_for_a_token_is_due_as_soon_as_there_is_one(
    recovery: Recovery, monkeypatch: pytest.MonkeyPatch, *, fails: bool
) -> None:
    world = recovery.recovered().world
    world.clock.market = BUY_AT
    world.serve(E.BUY, "buy")
    world.push(world.broker.fill("B1"))
    recovery.durable.rows[RUN] = world.run()
    world.breach(STOP)
    world.broker.answers.append(Answer(DEAD_TOKEN))
    world.serve(E.STOPLOSS, "sl")
    assert world.run().exit_retry_at is not None
    recovery.durable.listed[0] = replace(recovery.durable.listed[0], version="v2")

    def ends(**_: object) -> list[Run]:
        raise ConnectionError

    if fails:
        with monkeypatch.context() as away:
            away.setattr(recovery.durable, "open_runs", ends)
            with pytest.raises(ConnectionError):
                recovery.recoverer.refresh_accounts()
    recovery.recoverer.refresh_accounts()
    assert world.run().exit_retry_at is None
    world.sweep()
    assert world.sides()[1:] == [(Side.SELL, QUANTITY)] * 2


def test_a_run_that_ended_is_not_armed_again(recovery: Recovery) -> None:
    world = recovery.recovered().world
    world.live.store.signal(run().id, {"stop_requested": "close"}, world.clock.real)
    world.serve(E.FORCE_STOP, "stop")
    recovery.start()
    recovery.open()
    assert recovery.recoverer.arm() == 0
    assert world.live.fields() == {}


def test_the_next_days_run_waits_for_one_that_holds_and_then_trades_under_ids_of_its_own(recovery: Recovery) -> None:
    recovery.durable.strategies = [strategy(repeat=Recurrence())]
    world = recovery.recovered().world
    world.clock.market = BUY_AT
    world.serve(E.BUY, "buy")
    world.push(world.broker.fill("B1"))
    recovery.durable.rows[RUN] = held = world.run()
    assert held.held == QUANTITY
    world.clock.advance(timedelta(days=1).total_seconds())
    recovery.recoverer.arm()
    assert recovery.recoverer.arm() == 0
    assert [*recovery.durable.rows] == [RUN]
    assert world.alerts() == ["held_back"]
    recovery.say()
    assert recovery.overnight().look() == 1
    world.live.store.signal(held.id, {"stop_requested": "close"}, world.clock.real)
    world.serve(E.FORCE_STOP, "stop")
    world.push(world.broker.fill("B2"))
    assert world.ended()["status"] == "stopped"
    recovery.durable.rows[RUN] = replace(
        held, status=RunStatus.STOPPED, orders=(*held.orders, exit_(OrderStatus.FILLED, QUANTITY))
    )
    assert recovery.recoverer.arm() == 1
    second = RunId(held.id.strategy_id, DAY + timedelta(days=1))
    assert world.timers.scheduled == [held.id, second]
    # Kept for as long as this run needs it, not only for as long as the tombstone of the one before.
    assert world.live.redis.ttl(keys.strategy(second.strategy_id)) == -1
    assert world.serve(E.BUY, "buy-again", second) == "submitted: accepted"
    sent = [request.client_order_id for request in world.broker.sent]
    assert len(set(sent)) == len(sent) == 3
    assert parse_client_order_id(DEPLOYMENT, sent[-1]) == (second, Leg.ENTRY, 1)


def test_a_changed_account_is_written_anew_and_an_unchanged_one_is_not(recovery: Recovery) -> None:
    recovery.recovered()
    recovery.durable.listed[0] = replace(ACCOUNT, version="v2", secrets="new")
    recovery.recoverer.refresh_accounts()
    assert recovery.world.live.store.account(1) == recovery.durable.listed[0]
    recovery.world.live.redis.delete(keys.account(1))
    recovery.recoverer.refresh_accounts()
    assert recovery.world.live.store.account(1) is None
