"""Markets on the real live state: prices never mix, an entry nobody watches is denied, and who is blind is told."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from engine.blindness import BlindWatch
from engine.domain.events import EventType
from engine.domain.moment import Moment
from engine.domain.orders import OrderStatus
from engine.domain.ticks import Tick
from engine.runtime import keys
from tests.builders import BUY_AT, STOP, SYMBOL, entry, run, strategy, tick
from tests.livestate import ACCOUNT, RUN, LiveState, watched
from tests.world import World

#: An account of another tenant at another market.
OTHER = replace(ACCOUNT, id=2, tenant="beta", base_url="http://other", ws_url="ws://other")
#: The first account, moved.
ELSEWHERE = replace(ACCOUNT, ws_url="ws://new", version="v2")
OTHERS_RUN = "8-20260105-1"
BOUGHT = entry(OrderStatus.FILLED, 10)
S = timedelta(seconds=1)


@pytest.fixture
def world(live: LiveState) -> World:
    world = World(live)
    live.store.write_account(OTHER)
    return world


@pytest.fixture
def both(world: World) -> LiveState:
    """A run of each market that holds 10 of the same symbol."""
    world.live.arm(run(BOUGHT))
    world.live.arm(run(BOUGHT, spec=strategy(id=8, tenant="beta", account_id=2)))
    return world.live


@pytest.fixture
def told(both: LiveState) -> Any:
    """A look at what is blind; answers what it told, as (tenant, code, message)."""
    watch, seen = BlindWatch(both.store, lambda *_, **__: None), 0
    for market in (ACCOUNT.market, OTHER.market):
        # It was looked a moment ago, and this is no first look after an outage.
        away(both, market, seconds=1)

    def look(market_time: Any = BUY_AT + S) -> list[tuple[str, str, str]]:
        nonlocal seen
        watch.look(Moment(market_time, market_time))
        records = both.records("alert")[seen:]
        seen += len(records)
        return [(each["tenant"], a["code"], a["message"]) for each in records for a in each["alerts"]]

    return look


def test_a_run_that_cannot_be_read_keeps_nobody_from_being_told_of_a_dead_feed(both: LiveState, told: Any) -> None:
    both.redis.hset(keys.runtime(RUN), "order:EE00000080000", "{not json")
    both.redis.delete(keys.feed(ACCOUNT.market), keys.feed(OTHER.market))
    assert {(tenant, code) for tenant, code, _ in told()} == {("alpha", "blind"), ("beta", "blind")}


def away(live: LiveState, market: str = ACCOUNT.market, seconds: float = 20.0, grace: float | None = None) -> None:
    """What a market's looks are like once the live state was away so long, or is back for a part of the grace."""
    now = live.now_us()
    told = {"at": now - int(seconds * 1e6)} | ({} if grace is None else {"from": now - int(grace * 1e6)})
    live.redis.hset(keys.looked(market), mapping=told)  # type: ignore[arg-type]


def proven(live: LiveState, market: str, ago: float) -> None:
    """A listener says that the symbol's line was heard so many seconds ago."""
    live.store.carry(market, "listener", 1, [(timedelta(seconds=ago), [SYMBOL])])


def test_a_price_of_one_market_fires_no_stop_of_another(both: LiveState) -> None:
    breaches = both.store.on_tick(OTHER.market, [tick(STOP - 1)], BUY_AT, "sl")
    assert [str(breach.run_id) for breach in breaches] == [OTHERS_RUN]
    assert both.run().latch is None
    assert both.redis.hget(keys.price(ACCOUNT.market, SYMBOL), "price") is None


def test_a_first_fill_is_held_against_the_price_of_its_own_market(world: World) -> None:
    world.live.store.on_tick(OTHER.market, [Tick(SYMBOL, STOP - 1, BUY_AT)], BUY_AT, "sl")
    assert world.buy().latch is None


def test_an_account_that_moves_to_another_market_takes_its_stops_along(both: LiveState) -> None:
    moved = replace(ACCOUNT, ws_url="ws://new", version="v2")
    both.store.write_account(moved)
    assert both.redis.zcard(keys.armed(ACCOUNT.market, SYMBOL)) == 0
    assert both.store.symbols(moved.market) == {SYMBOL}
    (breach,) = both.store.on_tick(moved.market, [tick(STOP - 1)], BUY_AT, "sl")
    assert str(breach.run_id) == RUN


@pytest.mark.parametrize("seconds", [-1, 1], ids=["before it bought", "since"])
@pytest.mark.parametrize("then", [STOP - 1, STOP + 100], ids=["still there", "back above"])
def test_a_stop_that_its_accounts_new_market_has_reached_is_latched_by_the_move(
    both: LiveState, then: int, seconds: int
) -> None:
    bought = BOUGHT.filled_at or BUY_AT
    for number, price in enumerate((STOP - 1, then)):
        at = bought + seconds * S + number * timedelta(milliseconds=100)
        both.store.on_tick(ELSEWHERE.market, [Tick(SYMBOL, price, at, traded_at=at)], at, "sl")
    later = both.now_us() + 10**12
    both.redis.zadd(keys.DUE, {RUN: later})
    both.store.write_account(ELSEWHERE)
    is_reached, latch = seconds > 0 and then < STOP, both.run().latch
    assert (latch.price if latch else None) == (then if is_reached else None)
    assert both.redis.zrange(keys.armed(ELSEWHERE.market, SYMBOL), 0, -1) == ([] if is_reached else [RUN])
    assert both.redis.sismember(keys.latched(ELSEWHERE.market, SYMBOL), RUN) == is_reached
    assert both.redis.zscore(keys.DUE, RUN) == pytest.approx(both.now_us() if is_reached else later, abs=60e6)


@pytest.mark.parametrize(("hours", "is_reached"), [(-4, False), (0, True)], ids=["told before it bought", "told since"])
def test_a_price_that_does_not_say_when_it_was_traded_counts_where_it_was_told_since_the_run_bought(
    both: LiveState, hours: int, is_reached: bool
) -> None:
    at = (BOUGHT.filled_at or BUY_AT) + timedelta(hours=hours)
    both.store.on_tick(ELSEWHERE.market, [Tick(SYMBOL, STOP - 1, at)], at, "sl")
    both.store.write_account(ELSEWHERE)
    assert (both.run().latch is not None) == is_reached
    assert both.redis.zrange(keys.armed(ELSEWHERE.market, SYMBOL), 0, -1) == ([] if is_reached else [RUN])


def test_what_its_accounts_new_market_traded_latches_no_run_that_holds_nothing(world: World) -> None:
    world.live.arm(run(), buying=False)
    world.live.store.on_tick(ELSEWHERE.market, [tick(STOP - 1)], BUY_AT, "sl")
    world.live.store.write_account(ELSEWHERE)
    assert world.live.run().latch is None


def test_stops_of_an_engine_that_knew_no_markets_are_taken_over(both: LiveState) -> None:
    both.redis.rename(keys.armed(ACCOUNT.market, SYMBOL), f"symbol:{SYMBOL}:strategies")
    both.redis.hdel(keys.runtime(RUN), "market")
    both.store.write_account(ACCOUNT)
    assert both.armed(SYMBOL) == {RUN}
    assert both.redis.sismember(keys.holding(ACCOUNT.market), RUN)


@pytest.mark.parametrize("last_heard", [None, 6.0])
def test_an_entry_whose_symbol_nobody_watches_is_denied_and_goes_out_once_somebody_does(
    world: World, last_heard: float | None
) -> None:
    world.live.redis.delete(keys.feed(ACCOUNT.market))
    if last_heard is not None:
        proven(world.live, ACCOUNT.market, last_heard)
    # The feed of another market is none.
    watched(world.live.redis, OTHER.market)
    world.live.arm(buying=False)
    world.clock.market = world.clock.real = BUY_AT
    assert world.serve(EventType.BUY, "buy").startswith("denied: blind")
    assert world.sides() == []
    proven(world.live, ACCOUNT.market, 4.0)
    world.clock.advance(2)
    assert world.serve(EventType.RETRY, "retry") == "submitted: accepted"


def test_an_exit_is_never_denied_for_a_dead_feed(world: World) -> None:
    world.buy()
    world.live.redis.delete(keys.feed(ACCOUNT.market))
    world.live.store.signal(run().id, {"stop_requested": "close"}, world.clock.real)
    assert world.serve(EventType.FORCE_STOP, "stop") == "submitted: accepted"


def test_each_tenant_whose_position_is_blind_is_told_once_and_again_when_it_is_over(both: LiveState, told: Any) -> None:
    watched(both.redis, OTHER.market)
    proven(both, ACCOUNT.market, 3.0)
    assert told() == []
    proven(both, ACCOUNT.market, 6.0)
    ((tenant, code, message),) = told()
    assert (tenant, code) == ("alpha", "blind")
    assert f"10 of {SYMBOL}" in message
    assert "since 20" in message
    # Whoever goes on looking knows what was told.
    assert told() == []
    proven(both, ACCOUNT.market, 0.0)
    assert [each[:2] for each in told()] == [("alpha", "blind_over")]
    assert told() == []
    proven(both, ACCOUNT.market, 60.0)
    assert [each[:2] for each in told()] == [("alpha", "blind")]


def test_after_the_live_state_was_away_nobody_is_told_before_a_listener_had_its_chance(
    both: LiveState, told: Any
) -> None:
    watched(both.redis, OTHER.market)
    proven(both, ACCOUNT.market, 20.0)
    away(both)
    assert told() == []
    # Nothing is told by the next looks either, nor once the listener came to say that the line lived all the while.
    assert told() == []
    proven(both, ACCOUNT.market, 0.5)
    away(both, seconds=1, grace=0)
    assert told() == []


@pytest.mark.parametrize("seconds", [1.0, 2.5])
def test_a_feed_that_died_beside_the_live_state_is_told_once_listeners_had_their_chance(
    both: LiveState, told: Any, seconds: float
) -> None:
    watched(both.redis, OTHER.market)
    proven(both, ACCOUNT.market, 20.0)
    away(both)
    assert told() == []
    began = int(both.redis.hget(keys.looked(ACCOUNT.market), "from") or 0)
    assert 2_000_000 < began - both.now_us() <= 3_000_000
    # Looks that are slow put it off no further.
    away(both, seconds=seconds, grace=0)
    assert [each[:2] for each in told()] == [("alpha", "blind")]


def test_who_was_told_of_a_dead_feed_is_not_told_that_it_is_over_while_nobody_can_know(
    both: LiveState, told: Any
) -> None:
    watched(both.redis, OTHER.market)
    proven(both, ACCOUNT.market, 20.0)
    assert [each[:2] for each in told()] == [("alpha", "blind")]
    away(both)
    assert told() == []
    away(both, seconds=1, grace=0)
    assert told() == []


def test_the_first_look_at_an_empty_live_state_judges_nothing(both: LiveState, told: Any) -> None:
    both.redis.delete(keys.feed(ACCOUNT.market), keys.feed(OTHER.market))
    both.redis.delete(keys.looked(ACCOUNT.market), keys.looked(OTHER.market))
    assert told() == []


def test_a_feed_that_never_came_up_is_told_to_everyone_who_holds(both: LiveState, told: Any) -> None:
    both.redis.delete(keys.feed(ACCOUNT.market))
    found = told()
    assert {each[:2] for each in found} == {("alpha", "blind"), ("beta", "blind")}
    assert all("never came up" in message for _, _, message in found)


def test_outside_its_session_nothing_is_blind(both: LiveState, told: Any) -> None:
    both.redis.delete(keys.feed(ACCOUNT.market))
    assert told(run().closes_at) == []


def test_how_long_a_run_was_blind_is_in_its_record(both: LiveState, told: Any) -> None:
    watched(both.redis, OTHER.market)
    proven(both, ACCOUNT.market, 60.0)
    told()
    assert both.records("exposed") == []
    proven(both, ACCOUNT.market, 0.0)
    told()
    (record,) = both.records("exposed")
    assert record["run"] == RUN
    assert 60_000 <= record["blind_ms"] <= 90_000
    assert record["naked_ms"] == record["blind_ms"]


def test_a_run_that_ends_blind_tells_of_it_in_its_last_records(both: LiveState, told: Any) -> None:
    proven(both, ACCOUNT.market, 30.0)
    told()
    both.commit(both.claim(), finished=True)
    assert [record["run"] for record in both.records("exposed")] == [RUN]
    assert both.redis.smembers(keys.holding(ACCOUNT.market)) == set()


def test_a_run_whose_account_is_refused_is_naked_and_not_blind(both: LiveState, told: Any) -> None:
    watched(both.redis, OTHER.market)
    watched(both.redis, ACCOUNT.market)
    both.redis.hset(keys.health(1), "dead_version", ACCOUNT.version)
    assert [(each.run, each.is_blind) for each in both.store.watch(ACCOUNT.market, BUY_AT + S)] == [(RUN, False)]
    assert told() == []


def test_a_held_run_whose_stop_was_lost_is_armed_again(both: LiveState, told: Any) -> None:
    both.redis.delete(keys.armed(ACCOUNT.market, SYMBOL))
    told()
    assert both.armed(SYMBOL) == {RUN}


def test_a_held_run_whose_stop_was_lost_and_reached_meanwhile_is_latched(both: LiveState, told: Any) -> None:
    both.redis.delete(keys.armed(ACCOUNT.market, SYMBOL))
    at = (BOUGHT.filled_at or BUY_AT) + S
    both.store.on_tick(ACCOUNT.market, [Tick(SYMBOL, STOP - 1, at, traded_at=at)], at, "sl")
    both.store.on_tick(ACCOUNT.market, [Tick(SYMBOL, STOP + 100, at + S, traded_at=at + S)], at + S, "sl")
    assert both.run().latch is None
    told()
    assert both.run().latch is not None


def test_a_listener_hears_who_carries_the_others_and_forgets_who_went(both: LiveState) -> None:
    store = both.store
    assert store.carry(ACCOUNT.market, "listener", 1) == {}
    assert store.carry(ACCOUNT.market, "listener-2", 2) == {"listener": 1}
    both.redis.hset(keys.carriers(ACCOUNT.market), "listener", f"1 {both.now_us() - 11_000_000}")
    assert store.carry(ACCOUNT.market, "listener-2", None) == {}
