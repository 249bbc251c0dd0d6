"""The listener and the order stream on the real live state: what they leave in a run, and whom they wake."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from engine import sweeper
from engine.clock import RealTime
from engine.dispatch import TASK_OF, wake_up
from engine.domain.events import Event, EventType, parse_event
from engine.domain.feed import FeedPolicy, Refusal, SymbolGuard
from engine.domain.orders import OrderStatus
from engine.domain.strategy import Session
from engine.domain.ticks import Tick
from engine.listener import Listener
from engine.runtime import keys
from engine.runtime.store import RedisStore
from engine.sweeper import CROWD, LEFT_OUT
from tasks.app import app, app_at
from tasks.intake import Asked, check
from tests.builders import BUY_AT, OPENS, SESSION, STOP, SYMBOL, entry, evidence, run, strategy, tick
from tests.builders import book_entry as line
from tests.livestate import ACCOUNT, RUN, run_id
from tests.world import World

GOOD = 10_000
OTHER = "NSE:INFY"


class Watch:
    """A listener on a world whose run is armed at its stop; its sessions can be changed."""

    def __init__(self, world: World) -> None:
        self.world, self.session = world, SESSION
        live, wakes = world.live, wake_up(app, EventType.STOPLOSS)
        store = RedisStore(live.client, live.epoch, RealTime().now, wakes)
        self.listener = Listener(store, ACCOUNT.market, world.clock, self._guard, world.log)
        bought = entry(OrderStatus.FILLED, 10)
        world.live.arm(run(bought))
        world.broker.book["B1"] = line(evidence(bought, OrderStatus.FILLED, 10))
        world.clock.market = BUY_AT
        self.frame(tick(GOOD))

    def _guard(self, symbol: str) -> SymbolGuard:
        return SymbolGuard(FeedPolicy(), self.session)

    def frame(self, *ticks: Tick) -> int:
        return self.listener.on_frame(ticks, self.world.clock.real)

    def woken(self) -> list[Event]:
        """The events that lie in their queue, oldest first, as a worker reads them."""
        return [parse_event(*asked.arguments) for asked in self.asked()]

    def asked(self) -> list[Asked]:
        """What the messages in that queue ask for."""
        raw = [str(text).encode() for text in reversed(self.world.live.redis.lrange("stoploss", 0, -1))]
        return [check(each, "stoploss", {TASK_OF[EventType.STOPLOSS]}) for each in raw]


@pytest.fixture
def watch(world: World) -> Watch:
    return Watch(world)


def test_a_breach_latches_the_run_and_wakes_a_stoploss_worker(watch: Watch) -> None:
    assert watch.frame(tick(STOP + 1, 1)) == 0
    assert watch.woken() == []
    assert watch.frame(tick(STOP, 2)) == 1
    (woken,) = watch.woken()
    assert (woken.type, woken.run_id.strategy_id) == (EventType.STOPLOSS, 7)
    latch = watch.world.run().latch
    assert latch is not None
    assert (latch.price, latch.event_id) == (STOP, woken.id)
    watch.world.cover()
    assert watch.world.pipeline.process(woken.as_wire()) == "submitted: accepted"


def test_a_stock_worker_can_read_what_a_breach_sends(watch: Watch, redis_url: str) -> None:
    watch.frame(tick(STOP, 1))
    with app_at(redis_url).connection_for_read() as connection:
        channel: Any = connection.default_channel
        message = channel.basic_get("stoploss", no_ack=True)
        assert message is not None
        args, kwargs, _ = message.payload
        assert (message.headers["task"], kwargs) == (TASK_OF[EventType.STOPLOSS], {})
        assert parse_event(args[0]).run_id == watch.world.run().id


def test_a_breach_is_published_once(watch: Watch) -> None:
    for second in range(1, 6):
        watch.frame(tick(STOP - second, second))
    assert len(watch.woken()) == 1


def test_a_breach_of_one_second_within_a_frame_is_seen(watch: Watch) -> None:
    assert watch.frame(tick(GOOD, 1), tick(STOP, 1), tick(GOOD, 1)) == 1


def test_one_frame_wakes_every_run_of_every_symbol_it_breaches(watch: Watch) -> None:
    for number in (8, 9):
        watch.world.live.arm(run(entry(OrderStatus.FILLED, 10), spec=strategy(id=number)))
    watch.world.live.arm(run(spec=strategy(id=20, symbol=OTHER)))
    assert watch.frame(tick(STOP, 1), tick(STOP, 1, symbol=OTHER)) == 4
    assert sorted(woken.run_id.strategy_id for woken in watch.woken()) == [7, 8, 9, 20]
    assert len({woken.id for woken in watch.woken()}) == 4


@pytest.mark.parametrize(
    ("sick", "name"),
    [
        (tick(9_000, exchange_time=OPENS.replace(year=1970)), Refusal.OUT_OF_SESSION),
        (tick(0, 1), Refusal.NOT_A_PRICE),
        (tick(STOP, -1), Refusal.OUT_OF_SESSION),
        (tick(STOP, exchange_time=None), Refusal.NO_TIME),
        (tick(STOP, 3600), Refusal.FROM_THE_FUTURE),
    ],
)
def test_a_sick_tick_sells_nothing_and_is_counted(watch: Watch, sick: Tick, name: Refusal) -> None:
    assert watch.frame(sick) == 0
    assert watch.listener.refused()[name] == 1
    assert watch.world.run().latch is None
    assert watch.world.live.redis.hget(keys.price(ACCOUNT.market, SYMBOL), "price") == str(GOOD)


def test_a_spike_fires_only_when_confirmed_or_when_nobody_contradicts_it(watch: Watch) -> None:
    assert watch.frame(tick(9_000, 1)) == 0
    assert watch.listener.on_pause() == 0
    assert watch.frame(tick(GOOD, 2)) == 0
    assert watch.frame(tick(9_000, 3)) == 0
    watch.world.clock.advance(1)
    assert watch.listener.on_pause() == 1
    assert watch.listener.on_pause() == 0


def test_a_trade_through_the_stop_sells_though_the_price_came_back(watch: Watch) -> None:
    watch.world.clock.advance(3)
    second, third, fourth = (BUY_AT + timedelta(seconds=late) for late in (1, 2, 3))
    watch.frame(tick(GOOD, exchange_time=second, traded_at=second, low=GOOD))
    assert watch.frame(tick(9_000, exchange_time=third, traded_at=third, low=9_000)) == 0
    assert watch.frame(tick(GOOD, exchange_time=fourth, traded_at=fourth, low=9_000)) == 1
    latch = watch.world.run().latch
    assert latch is not None
    assert (latch.price, latch.exchange_time) == (9_000, third)
    assert watch.world.live.redis.hget(keys.price(ACCOUNT.market, SYMBOL), "price") == str(GOOD)


def test_of_a_price_that_came_back_the_broker_is_asked_again_though_no_tick_follows(watch: Watch) -> None:
    watch.frame(tick(9_000, 1), tick(GOOD, 2))
    watch.listener.doubted.clear()
    assert watch.listener.on_pause() == 0
    assert watch.listener.doubted == {SYMBOL}
    watch.world.clock.advance(3)
    watch.listener.on_pause()
    watch.listener.doubted.clear()
    watch.listener.on_pause()
    assert watch.listener.doubted == set()


def test_a_step_of_the_least_price_is_believed_at_once_also_of_a_symbol_that_is_new(watch: Watch) -> None:
    watch.listener.learn({SYMBOL: 1_000, OTHER: 5})
    assert watch.frame(tick(8_000, 1)) == 1
    watch.frame(tick(60, 1, symbol=OTHER, close=60), tick(50, 2, symbol=OTHER, close=60))
    assert watch.world.live.redis.hget(keys.price(ACCOUNT.market, OTHER), "price") == "50"


def test_a_pause_without_doubts_asks_the_store_nothing(watch: Watch) -> None:
    watch.world.live.lose_epoch()
    assert watch.listener.on_pause() == 0


def test_while_the_store_is_away_the_low_of_each_symbol_is_kept_and_played_back(watch: Watch) -> None:
    watch.world.live.arm(run(spec=strategy(id=20, symbol=OTHER)))
    watch.frame(tick(GOOD, 1, symbol=OTHER))
    watch.world.live.lose_epoch()
    assert watch.frame(tick(9_700, 1), tick(9_800, 1, symbol=OTHER)) == 0
    assert watch.frame(tick(STOP, 2)) == 0
    assert watch.frame(tick(9_900, 3)) == 0
    watch.world.live.epoch.open(5)
    assert watch.listener.on_pause() == 1
    assert [woken.run_id.strategy_id for woken in watch.woken()] == [7]
    assert watch.world.live.redis.hget(keys.price(ACCOUNT.market, SYMBOL), "price") == "9900"
    assert watch.world.live.redis.hget(keys.price(ACCOUNT.market, OTHER), "price") == "9800"
    assert watch.world.log.actions().count("ticks_kept") == 1
    assert watch.listener.on_pause() == 0


def _lags_after(watch: Watch, *ages: float, every: float = 1.0) -> bool:
    """Whether the feed lags after frames whose newest tick is so many seconds old."""
    for age in ages:
        watch.world.clock.advance(every)
        stamp = watch.world.clock.market - timedelta(seconds=age)
        watch.frame(tick(GOOD, exchange_time=stamp), tick(GOOD, exchange_time=stamp - timedelta(minutes=9)))
    return watch.listener.lags


def test_a_feed_whose_ticks_all_are_old_lags_until_one_is_of_now(watch: Watch) -> None:
    watch.world.clock.market = OPENS + timedelta(hours=1)
    assert not _lags_after(watch, 0)
    assert not _lags_after(watch, *[120] * 5)
    assert _lags_after(watch, 120)
    assert not _lags_after(watch, 9)


def test_one_old_packet_of_a_quiet_symbol_is_no_lag(watch: Watch) -> None:
    watch.world.clock.market = OPENS + timedelta(hours=1)
    assert not _lags_after(watch, *[120] * 5, every=10)
    watch.world.clock.advance(4)
    assert not watch.listener.lags


def test_a_lower_price_from_before_a_run_bought_hides_no_breach_since_while_the_store_is_away(watch: Watch) -> None:
    filled_at = OPENS + timedelta(seconds=6)
    bought = entry(OrderStatus.FILLED, 10, granted_at=filled_at, filled_at=filled_at)
    watch.world.live.arm(run(bought, spec=strategy(id=20, symbol=OTHER), buy_at=OPENS))
    watch.frame(tick(GOOD, 1, symbol=OTHER))
    watch.world.live.lose_epoch()
    for second, price in ((3, STOP - 50), (7, STOP - 20), (8, STOP), (9, GOOD)):
        traded_at = OPENS + timedelta(seconds=second)
        assert watch.frame(tick(price, second, symbol=OTHER, traded_at=traded_at)) == 0
    watch.world.live.epoch.open(5)
    assert watch.listener.on_pause() == 1
    latch = watch.world.live.run(str(run_id(20))).latch
    assert latch is not None
    assert latch.price == STOP - 20


def test_what_was_missed_is_played_before_the_next_frame(watch: Watch) -> None:
    watch.world.live.lose_epoch()
    watch.frame(tick(STOP, 2))
    watch.world.live.epoch.open(5)
    assert watch.frame(tick(9_900, 3)) == 1
    assert watch.world.live.redis.hget(keys.price(ACCOUNT.market, SYMBOL), "price") == "9900"


def test_the_next_session_is_judged_by_a_guard_of_its_own(watch: Watch) -> None:
    day = timedelta(days=1)
    watch.session = Session(SESSION.date + day, SESSION.opens + day, SESSION.closes + day)
    watch.world.clock.market = SESSION.closes + timedelta(hours=1)
    watch.frame()
    watch.world.clock.market = OPENS + day + timedelta(minutes=1)
    assert watch.frame(tick(STOP, exchange_time=OPENS + day)) == 1


def test_an_update_of_our_order_is_left_in_its_run_and_a_worker_is_woken(world: World) -> None:
    armed = world.live.arm(run(entry(OrderStatus.ACCEPTED)))
    told = evidence(armed.orders[0], OrderStatus.FILLED, 10)
    assert world.stream.on_update(line(told), 1) is True
    assert world.live.claim().evidence == (told,)
    (woken,) = world.publisher.published
    assert (woken.type, woken.run_id) == (EventType.ORDER_UPDATE, armed.id)


@pytest.mark.parametrize("tag", ["", "manual", "XX00000077BX01E001", "EE-0000077BX01E001"])
def test_somebody_elses_order_is_noticed_and_never_touched(world: World, tag: str) -> None:
    armed = world.live.arm(run(entry(OrderStatus.ACCEPTED)))
    before = world.live.fields()
    foreign = line(evidence(armed.orders[0], OrderStatus.FILLED, 10), tag=tag)
    assert world.stream.on_update(foreign, 1) is False
    assert (world.live.fields(), world.publisher.published) == (before, [])
    assert world.log.actions() == ["foreign_order"]


@pytest.mark.parametrize("ended", [False, True])
def test_an_update_of_a_run_that_is_not_there_wakes_nobody(world: World, ended: bool) -> None:
    if ended:
        world.live.arm()
        world.live.commit(world.live.claim(), finished=True)
    told = line(evidence(entry(OrderStatus.ACCEPTED), OrderStatus.FILLED, 10))
    assert world.stream.on_update(told, 1) is True
    assert world.publisher.published == []


def test_updates_told_in_any_order_lead_to_the_same_run(world: World) -> None:
    world.buy(quantity=0)
    half, whole = world.broker.fill("B1", 5), world.broker.fill("B1")
    world.stream.on_update(whole, 1)
    world.push(half)
    world.push(replace(half))
    assert world.run().held == 10


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"stop_requested": "close"}, EventType.FORCE_STOP),
        ({"abort_requested": "unsafe"}, EventType.SAFETY_ABORT),
        ({"unread": "1"}, EventType.ORDER_UPDATE),
        # A retry is whichever attempt is due, the first one too.
        ({}, EventType.RETRY),
    ],
)
def test_the_sweeper_wakes_whoever_serves_the_most_urgent_need(
    world: World, changes: dict[str, str], kind: EventType
) -> None:
    world.live.arm()
    if changes:
        world.live.store.signal(run_id(7), changes, BUY_AT)
    assert world.sweeper.sweep() == 1
    assert [event.type for event in world.publisher.published] == [kind]
    assert world.sweeper.sweep() == 0


def test_the_sweeper_adds_to_no_crowd_for_half_a_minute(world: World) -> None:
    world.live.arm()
    world.publisher.ahead = CROWD

    def sweep_again() -> int:
        world.live.redis.zadd(keys.DUE, {RUN: 1})
        assert world.sweeper.sweep() == 1
        return len(world.publisher.published)

    assert [sweep_again() for _ in range(LEFT_OUT + 2)] == [0] * LEFT_OUT + [1, 2]


def test_the_sweeper_makes_no_crowd_of_its_own(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeper, "CROWD", 8)
    for number in range(1, 11):
        world.live.arm(run(spec=strategy(id=number)))
    world.publisher.ahead = 3
    assert world.sweeper.sweep() == 10
    assert len(world.publisher.published) == 5


def test_the_sweeper_publishes_and_executes_nothing(world: World) -> None:
    for number in range(1, 21):
        world.live.arm(run(spec=strategy(id=number)))
    assert world.sweeper.sweep() == 20
    assert len({event.id for event in world.publisher.published}) == 20
    assert world.sides() == []


def frames_of_a_slow_clock(watch: Watch, lead: float, seconds: int, price: int = GOOD) -> int:
    """A frame a second by a clock that is `lead` seconds behind the exchange's; how many runs were latched."""
    latched = 0
    for _ in range(seconds):
        watch.world.clock.advance(1)
        at = watch.world.clock.market + timedelta(seconds=lead)
        latched += watch.frame(tick(price, exchange_time=at))
    return latched


def test_a_clock_that_is_slow_refuses_a_whole_feed_for_seconds_only(watch: Watch) -> None:
    frames_of_a_slow_clock(watch, 4, 5)
    assert watch.listener.refused()[Refusal.FROM_THE_FUTURE] > 0
    assert frames_of_a_slow_clock(watch, 4, 1, STOP) == 1
    assert watch.listener.clock_lead >= timedelta(seconds=3)


def test_once_the_clock_is_right_again_nothing_is_allowed_for(watch: Watch) -> None:
    frames_of_a_slow_clock(watch, 4, 5)
    frames_of_a_slow_clock(watch, 0, 70)
    assert watch.listener.clock_lead == timedelta(0)


def test_one_sick_stamp_among_good_ones_moves_no_clock(watch: Watch) -> None:
    for _ in range(10):
        frames_of_a_slow_clock(watch, 30, 1, STOP)
        frames_of_a_slow_clock(watch, 0, 1)
    assert watch.listener.clock_lead == timedelta(0)
    assert watch.world.run().latch is None


def test_one_refused_tick_of_a_symbol_that_is_quiet_then_proves_no_dead_feed(watch: Watch) -> None:
    assert frames_of_a_slow_clock(watch, 3600, 1, STOP) == 0
    watch.world.clock.advance(600)
    assert watch.listener.unreadable() == set()


@pytest.mark.parametrize(("price", "is_dead"), [(0, False), (-5, True)])
def test_a_symbol_nobody_has_traded_yet_is_no_dead_feed(watch: Watch, price: int, is_dead: bool) -> None:
    for _ in range(7):
        watch.frame(tick(price, exchange_time=watch.world.clock.market, symbol=OTHER))
        watch.world.clock.advance(1)
    assert watch.listener.unreadable() == ({OTHER} if is_dead else set())


@pytest.mark.parametrize(("symbol", "traded_at"), [(SYMBOL, None), (OTHER, OPENS)])
def test_no_price_of_what_was_traded_is_a_fault_of_the_feed(
    watch: Watch, symbol: str, traded_at: datetime | None
) -> None:
    for _ in range(7):
        watch.frame(tick(0, exchange_time=watch.world.clock.market, symbol=symbol, traded_at=traded_at))
        watch.world.clock.advance(1)
    assert watch.listener.unreadable() == {symbol}


def test_a_feed_whose_stamps_are_an_hour_ahead_is_not_believed_and_said_to_be_unreadable(watch: Watch) -> None:
    assert frames_of_a_slow_clock(watch, 3600, 10, STOP) == 0
    assert watch.listener.unreadable() == {SYMBOL}
    frames_of_a_slow_clock(watch, 0, 1)
    assert watch.listener.unreadable() == set()


class Successor:
    """A listener that begins in the middle of the day and hears only packets that tell no price and no trade."""

    def __init__(self, world: World) -> None:
        self._world = world
        store = RedisStore(world.live.client, world.live.epoch, RealTime().now)
        self.listener = Listener(
            store, ACCOUNT.market, world.clock, lambda _: SymbolGuard(FeedPolicy(), SESSION), world.log
        )

    def hear_nothing(self, symbol: str, seconds: int = 7) -> set[str]:
        for _ in range(seconds):
            empty = tick(0, exchange_time=self._world.clock.market, symbol=symbol)
            self.listener.on_frame([empty], self._world.clock.real)
            self._world.clock.advance(1)
        return self.listener.unreadable()


@pytest.mark.parametrize("is_known", [False, True], ids=["live state rebuilt", "price known"])
def test_a_listener_that_began_later_takes_no_price_of_what_a_run_holds_for_a_fault(
    world: World, is_known: bool
) -> None:
    world.buy()
    if not is_known:
        world.live.redis.delete(keys.price(ACCOUNT.market, SYMBOL))
    assert Successor(world).hear_nothing(SYMBOL) == {SYMBOL}


@pytest.mark.parametrize(("days", "is_dead"), [(0, True), (1, False)], ids=["today", "yesterday"])
def test_so_it_takes_no_price_of_what_was_traded_today(watch: Watch, days: int, is_dead: bool) -> None:
    name = keys.price(ACCOUNT.market, OTHER)
    at = BUY_AT - timedelta(days=days)
    watch.world.live.redis.hset(name, mapping={"price": GOOD, "time": int(at.timestamp() * 1_000_000)})
    assert Successor(watch.world).hear_nothing(OTHER) == ({OTHER} if is_dead else set())


def test_what_is_bought_while_its_packets_tell_no_price_is_noticed(world: World) -> None:
    successor = Successor(world)
    world.live.arm(run(spec=strategy(id=9)))
    assert successor.hear_nothing(SYMBOL) == set()
    world.buy()
    world.live.redis.delete(keys.price(ACCOUNT.market, SYMBOL))
    assert successor.hear_nothing(SYMBOL, 15) == {SYMBOL}


def test_a_store_that_is_away_leaves_it_open(world: World) -> None:
    world.buy()
    world.live.lose_epoch()
    assert Successor(world).hear_nothing(SYMBOL) == set()
