"""The order in which a lost store is rebuilt: no low, no call under way and no healthy account is lost to it."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from redis import Redis

from engine.domain.broker import BookEntry
from engine.domain.events import EventType
from engine.domain.feed import FeedPolicy, SymbolGuard
from engine.domain.orders import OrderStatus, Side
from engine.domain.run import Latch
from engine.domain.ticks import Tick
from engine.listener import Listener
from engine.ports import StoreClosed
from engine.recovery import LONGEST_WAIT, Recoverer
from engine.runtime import codec, keys
from tests.builders import DEPLOYMENT, SESSION, STOP, SYMBOL, book_entry, entry, evidence, run, strategy, tick
from tests.fakes import FakeBroker
from tests.integration.test_recovery import SECOND, SETTLE, Recovery
from tests.livestate import ACCOUNT, RUN, open_live_state, watched
from tests.world import World

S = timedelta(seconds=1)
GOOD = 10_000


@pytest.fixture
def recovery(redis: Redis, redis_url: str) -> Iterator[Recovery]:
    live = open_live_state(redis, redis_url)
    yield Recovery(World(live))
    live.store.close()
    live.client.close()


def listener_of(world: World) -> Listener:
    guard = SymbolGuard(FeedPolicy(), SESSION)
    return Listener(world.live.store, ACCOUNT.market, world.clock, lambda _: guard, world.log)


def held_and_lost(recovery: Recovery) -> Listener:
    """A run that bought, stored as such, whose Redis was flushed; the listener watched all the while."""
    world = recovery.recovered().world
    world.clock.market = run().buy_at
    watched(world.live.redis, ACCOUNT.market)
    world.serve(EventType.BUY, "buy")
    world.push(world.broker.fill("B1"))
    recovery.durable.rows[RUN] = world.run()
    listener = Listener(
        world.live.store, ACCOUNT.market, world.clock, lambda _: SymbolGuard(FeedPolicy(), SESSION), world.log
    )
    watch(listener, world, tick(GOOD, 900))
    world.live.redis.flushall()
    return listener


def watch(listener: Listener, world: World, *ticks: Tick) -> int:
    return listener.on_frame(ticks, world.clock.real)


@pytest.mark.parametrize("when", ["closed", "open"])
def test_a_low_told_before_its_run_is_armed_is_sold(recovery: Recovery, when: str) -> None:
    listener, world = held_and_lost(recovery), recovery.world
    world.clock.advance(5)
    if when == "open":
        recovery.open()
        listener.on_pause()
    assert watch(listener, world, tick(STOP, 901)) == 0
    assert watch(listener, world, tick(GOOD, 902)) == 0
    if when == "closed":
        recovery.open()
    # Whatever the listener kept is played in before anything is armed.
    listener.on_pause()
    assert world.live.armed(SYMBOL) == set()
    recovery.recoverer.arm()
    assert world.run().latch is not None
    world.sweep()
    world.pass_time(2)
    assert [side for side, _ in world.sides()] == [Side.BUY, Side.SELL]


def test_a_low_kept_by_a_listener_that_comes_late_counts_where_the_run_held_by_then(recovery: Recovery) -> None:
    listener, world = held_and_lost(recovery), recovery.world
    other = Listener(
        world.live.store, ACCOUNT.market, world.clock, lambda _: SymbolGuard(FeedPolicy(), SESSION), world.log
    )
    world.clock.advance(5)
    assert watch(other, world, tick(STOP, 901), tick(GOOD, 902)) == 0
    recovery.recovered()
    world.sweep()
    # The first saw nothing but the last tick.
    assert watch(listener, world, tick(GOOD, 903)) == 0
    assert other.on_pause() == 1


def test_a_low_from_before_the_run_bought_sells_nothing(recovery: Recovery) -> None:
    world = recovery.world
    recovery.open()
    world.price(STOP)
    world.clock.advance(60)
    bought_at = world.clock.market
    recovery.durable.rows[RUN] = run(entry(OrderStatus.FILLED, 10, granted_at=bought_at, filled_at=bought_at))
    recovery.recoverer.arm()
    assert world.run().latch is None
    assert world.live.armed(SYMBOL) == {RUN}


def test_a_lower_price_from_before_the_run_bought_hides_no_breach_since(recovery: Recovery) -> None:
    world = recovery.world
    recovery.open()
    world.clock.market = run().buy_at
    world.price(STOP - 100)
    world.clock.advance(60)
    filled_at = world.clock.market
    for price in (STOP - 10, STOP, GOOD):
        world.clock.advance(5)
        world.price(price)
    recovery.durable.rows[RUN] = run(entry(OrderStatus.FILLED, 10, granted_at=filled_at, filled_at=filled_at))
    recovery.recoverer.arm()
    latch = world.run().latch
    assert latch is not None
    assert (latch.price, latch.exchange_time) == (STOP - 10, filled_at + 5 * S)


def test_a_breach_between_the_first_fill_and_the_last_counts_where_only_the_last_is_told(recovery: Recovery) -> None:
    world = recovery.world
    recovery.open()
    world.clock.market = granted_at = run().buy_at + timedelta(minutes=1)
    world.clock.advance(5)
    world.price(STOP)
    breached_at = world.clock.market
    world.clock.advance(5)
    world.price(GOOD)
    filled_at = world.clock.market
    recovery.durable.rows[RUN] = run(entry(OrderStatus.FILLED, 10, granted_at=granted_at, filled_at=filled_at))
    recovery.recoverer.arm()
    latch = world.run().latch
    assert latch is not None
    assert latch.exchange_time == breached_at


def test_a_breach_told_before_a_latched_run_is_armed_counts_at_its_first_fill(recovery: Recovery) -> None:
    world = recovery.world
    recovery.open()
    world.clock.market = latched_at = run().buy_at
    world.clock.advance(30)
    filled_at = world.clock.market
    world.clock.advance(5)
    world.price(STOP)
    breached_at = world.clock.market
    world.clock.advance(5)
    world.price(GOOD)
    buying = run(entry(OrderStatus.ACCEPTED))
    recovery.durable.rows[RUN] = replace(buying, latch=Latch(STOP - 10, latched_at, "sl:first"))
    recovery.recoverer.arm()
    assert world.live.fields()["breached_at"] == str(codec.to_us(breached_at))
    filled = evidence(world.run().orders[0], OrderStatus.FILLED, 10, filled_at=filled_at)
    world.push(book_entry(filled))
    assert world.run().latch is not None


@pytest.mark.parametrize("step", [1, -1, 0])
def test_a_low_is_kept_until_its_run_is_armed_however_many_prices_follow(recovery: Recovery, step: int) -> None:
    world = recovery.world
    recovery.open()
    world.clock.market = filled_at = run().buy_at
    world.clock.advance(60)
    world.price(STOP - 50)
    for n in range(1_100):
        world.clock.advance(0.5)
        # Rising, falling, and both in turn.
        world.price(STOP + 2_000 + (step * n if step else (n if n % 2 else -n)))
    assert world.live.redis.zcard(keys.traded(ACCOUNT.market, SYMBOL)) <= 512
    recovery.durable.rows[RUN] = run(entry(OrderStatus.FILLED, 10, filled_at=filled_at))
    recovery.recoverer.arm()
    latch = world.run().latch
    assert latch is not None
    assert latch.price == STOP - 50


def test_the_listener_follows_symbols_whose_runs_cannot_be_armed_yet(recovery: Recovery) -> None:
    held_and_lost(recovery)
    recovery.world.broker.unreachable = True
    recovery.open()
    assert recovery.recoverer.arm() == 0
    assert recovery.world.live.store.symbols(ACCOUNT.market) == {SYMBOL}


@pytest.mark.parametrize(
    ("settles_in", "went_ago", "waits"),
    [
        # Nobody knows when it went: just now.
        (None, None, SETTLE),
        # Longer ago than any call takes.
        (None, 60, timedelta(0)),
        (None, 5, SETTLE - 5 * S),
        # By its own deadline, which is later, or past.
        (30, 60, 30 * S),
        (30, None, 30 * S),
        (-5, 60, timedelta(0)),
        # What a wrong clock wrote.
        (86400, 0, LONGEST_WAIT),
    ],
)
def test_calls_under_way_are_waited_for_from_their_own_deadline(
    recovery: Recovery, settles_in: int | None, went_ago: int | None, waits: timedelta
) -> None:
    world = recovery.recovered().world
    now = world.clock.real
    if settles_in is not None:
        recovery.durable.rows[RUN] = run(entry(OrderStatus.UNKNOWN, settles_at=now + settles_in * S))
    world.live.redis.flushall()
    went_at = None if went_ago is None else now - went_ago * S
    recovery.recoverer.open(lambda: world.clock.real, world.clock.sleep_until, lambda: True, went_at)
    assert world.clock.real - now == waits


@pytest.mark.parametrize("loses", ["lock", "epoch"])
def test_a_recoverer_that_another_replaced_while_it_waited_opens_nothing(recovery: Recovery, loses: str) -> None:
    world = recovery.recovered().world
    world.live.redis.flushall()

    def sleep_until(real: datetime) -> None:
        world.clock.sleep_until(real)
        if loses == "epoch":
            recovery.durable.advance_epoch("whoever took over")
        world.live.redis.set("runtime:of-the-other", "armed")

    recovery.recoverer.open(lambda: world.clock.real, sleep_until, lambda: loses != "lock")
    assert world.live.epoch.stored() is None
    assert world.live.redis.exists("runtime:of-the-other") == 1
    assert "recovery_left" in world.log.actions()


def test_a_server_that_is_swapped_once_more_meanwhile_is_opened_under_its_own_name(
    recovery: Recovery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the history does not know it, the next recoverer rebuilds it again, and what it took until then is lost."""
    world = recovery.recovered().world
    world.live.redis.flushall()
    epoch, current = world.live.epoch, world.live.epoch.run_id()
    monkeypatch.setattr(epoch, "run_id", lambda: "the one before")

    def sleep_until(real: datetime) -> None:
        world.clock.sleep_until(real)
        monkeypatch.undo()

    recovery.recoverer.open(lambda: world.clock.real, sleep_until)
    assert epoch.stored() is None
    recovery.open()
    assert epoch.stored() == recovery.durable.epoch()
    assert epoch.run_id() == current


class Silent(FakeBroker):
    """An account whose broker takes its time to say nothing."""

    def orders(self) -> Sequence[BookEntry]:
        time.sleep(3)
        return super().orders()


def test_silent_accounts_do_not_hold_back_the_arming_of_a_healthy_one(recovery: Recovery) -> None:
    world = recovery.recovered().world
    healthy = len(range(1, 12))
    for number in range(2, 12):
        world.brokers.by_account[number] = Silent(world.clock)
        recovery.durable.listed.append(replace(SECOND, id=number))
        recovery.durable.rows[f"{number + 100}"] = run(
            entry(OrderStatus.FILLED, 10), spec=strategy(id=number + 100, account_id=number)
        )
    # The healthy one is asked last.
    recovery.durable.rows["999"] = run(entry(OrderStatus.FILLED, 10), spec=strategy(id=999))
    world.live.redis.flushall()
    recovery.recoverer = Recoverer(
        recovery.durable, world.live.store, world.live.epoch, world.brokers, world.timers,
        recovery.recoverer._calendar, world.clock, DEPLOYMENT, SETTLE, world.log, threads=healthy,
    )  # fmt: skip
    recovery.open()
    began = time.monotonic()
    assert recovery.recoverer.arm() == 2
    assert time.monotonic() - began < 20
    assert world.live.store.run("999-20260105-1") is not None
    # Each is asked once, and armed by a later pass.
    deadline = time.monotonic() + 30
    armed = 0
    while armed < 10 and time.monotonic() < deadline:
        armed += recovery.recoverer.arm()
        time.sleep(0.1)
    assert armed == 10
    assert {world.brokers.by_account[number].reads for number in range(2, 12)} == {1}


@pytest.mark.parametrize("illness", ["unreachable", "token_dead"])
def test_an_account_that_stays_down_is_told_of_once_and_again_when_it_is_back(recovery: Recovery, illness: str) -> None:
    held_and_lost(recovery)
    world = recovery.world
    recovery.open()
    setattr(world.broker, illness, True)
    recovery.recoverer.arm()
    assert world.alerts() == []
    for _ in range(3):
        world.clock.advance(10)
        recovery.recoverer.arm()
    assert world.alerts() == ["account_down"]
    setattr(world.broker, illness, False)
    recovery.recoverer.arm()
    recovery.recoverer.arm()
    assert world.alerts() == ["account_down", "account_up"]


@pytest.mark.parametrize("code", ["account_down", "account_up"])
def test_what_redis_could_not_be_told_of_an_account_is_told_once_it_can(
    recovery: Recovery, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_and_lost(recovery)
    world = recovery.world
    recovery.open()
    world.broker.unreachable = True
    recovery.recoverer.arm()
    world.clock.advance(30)
    if code == "account_up":
        recovery.recoverer.arm()
        world.broker.unreachable = False

    def refuses(*_: object) -> bool:
        raise StoreClosed(code)

    with monkeypatch.context() as away:
        away.setattr(world.live.store, "alert_once", refuses)
        with pytest.raises(StoreClosed):
            recovery.recoverer.arm()
    for _ in range(2):
        recovery.recoverer.arm()
    assert world.alerts()[-1:] == [code]


@pytest.mark.parametrize("illness", ["unreachable", "token_dead"])
def test_a_recoverer_that_restarts_alone_asks_no_book_of_what_lives(recovery: Recovery, illness: str) -> None:
    world = recovery.recovered().world
    recovery.durable.rows["9-20260105-1"] = run(spec=strategy(id=9))
    world.timers.scheduled.clear()
    setattr(world.broker, illness, True)
    recovery.start()
    recovery.open()
    assert recovery.recoverer.arm() == 1
    # Its timers may be what the one before did not come to.
    assert [str(each) for each in world.timers.scheduled] == [RUN]
    world.clock.advance(9)
    recovery.recoverer.arm()
    assert world.alerts() == []
    # Of what does not live it is told.
    world.clock.advance(10)
    recovery.recoverer.arm()
    assert world.alerts() == ["account_down"]
    (told,) = [alert for record in world.live.records() for alert in record.get("alerts", [])]
    assert "1 of its runs" in told["message"]


def test_arming_that_broke_off_is_taken_up_again(recovery: Recovery, monkeypatch: pytest.MonkeyPatch) -> None:
    recovery.open()
    with monkeypatch.context() as broken:
        broken.setattr(recovery.world.timers, "schedule", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            recovery.recoverer.arm()
    recovery.world.live.redis.delete(keys.runtime(RUN))
    assert recovery.recoverer.arm() == 1
