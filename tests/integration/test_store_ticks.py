"""on_tick: one round trip a frame latches exactly the runs whose stop the price has reached."""

from dataclasses import replace
from datetime import datetime

import pytest

from engine.domain.orders import OrderStatus
from engine.domain.run import Latch
from engine.domain.ticks import Tick
from engine.ports import Breach
from engine.runtime import keys
from tests.builders import BUY_AT, STOP, SYMBOL, S, entry, run, strategy, tick
from tests.livestate import ACCOUNT, RUN, LiveState, microseconds, run_id

OTHER = "NSE:INFY"
STOPS = {11: 9400, 12: 9500, 13: 9501, 14: 9600}


@pytest.fixture
def stops(live: LiveState) -> LiveState:
    """Runs of one symbol, their stops as `STOPS`, and one of another symbol with a stop above all of them."""
    for number, stop in STOPS.items():
        live.arm(run(entry(OrderStatus.FILLED, 10), spec=strategy(id=number), stop_units=stop))
    live.arm(run(spec=strategy(id=20, symbol=OTHER), stop_units=99_000))
    return live


def _on(live: LiveState, *ticks: Tick, seen_at: datetime = BUY_AT) -> dict[int, int]:
    """The price by strategy of every run these ticks latched."""
    found = live.store.on_tick(ACCOUNT.market, ticks, seen_at, "sl:x")
    assert len({breach.run_id for breach in found}) == len(found)
    return {breach.run_id.strategy_id: breach.price for breach in found}


@pytest.mark.parametrize("price", [9399, 9400, 9401, 9500, 9501, 9600, 9601])
def test_a_tick_latches_exactly_the_runs_whose_stop_is_at_or_above_it(stops: LiveState, price: int) -> None:
    expected = {number: price for number, stop in STOPS.items() if stop >= price}
    assert _on(stops, tick(price)) == expected
    assert stops.latched(SYMBOL) == {str(run_id(number)) for number in expected}
    assert stops.armed(SYMBOL) == {str(run_id(number)) for number in STOPS if number not in expected}


def test_a_latch_holds_price_both_times_and_the_event_it_raised(stops: LiveState) -> None:
    seen_at = BUY_AT + 5 * S
    breaches = stops.store.on_tick(ACCOUNT.market, [tick(9550, 7)], seen_at, "sl:x")
    name = str(run_id(14))
    assert breaches == [Breach(run_id(14), 9550, f"sl:x:{name}")]
    latch = stops.run(name).latch
    assert latch is not None
    assert latch.latched_at is not None
    told = Latch(9550, tick(1, 7).exchange_time or BUY_AT, f"sl:x:{name}", seen_at, latch.latched_at)
    assert latch == told
    assert stops.fields(name)["signal_seq"] == "1"
    (record,) = stops.records("latched")
    assert (record["run"], record["outcome"], record["latch"]["price"]) == (name, "latched", "9550")
    assert record["latch"]["event"] == f"sl:x:{name}"
    assert record["latch"]["latched_at"] == str(microseconds(latch.latched_at))


def test_a_latched_run_is_due_half_a_second_after_the_frame(stops: LiveState) -> None:
    early = BUY_AT - 60 * S
    _on(stops, tick(9550), seen_at=early)
    assert stops.due(str(run_id(14))) == microseconds(early) + 500_000


def test_a_latched_run_is_not_latched_again(stops: LiveState) -> None:
    assert _on(stops, tick(9550, 1)) == {14: 9550}
    first = stops.run(str(run_id(14))).latch
    assert _on(stops, tick(9540, 2), tick(9000, 3)) == {13: 9000, 12: 9000, 11: 9000}
    assert stops.run(str(run_id(14))).latch == first
    assert len(stops.records("latched")) == 4


def test_every_tick_of_a_frame_is_evaluated(stops: LiveState) -> None:
    assert _on(stops, tick(9600, 1), tick(9450, 1), tick(9700, 1)) == {14: 9600, 13: 9450, 12: 9450}
    assert stops.redis.hget(keys.price(ACCOUNT.market, SYMBOL), "price") == "9700"


def test_a_tick_older_than_the_stored_price_has_no_effect(stops: LiveState) -> None:
    _on(stops, tick(9900, 10))
    assert _on(stops, tick(1, 9)) == {}
    assert stops.redis.hgetall(keys.price(ACCOUNT.market, SYMBOL)) == {
        "price": "9900",
        "time": str(microseconds(tick(1, 10).exchange_time)),
    }


def test_a_tick_of_the_same_second_is_evaluated(stops: LiveState) -> None:
    _on(stops, tick(9900, 10))
    assert _on(stops, tick(9600, 10)) == {14: 9600}


def test_symbols_do_not_touch_one_another(stops: LiveState) -> None:
    frame = (tick(9550, 5), tick(98_000, 1, symbol=OTHER), tick(9999, 1, symbol="NSE:NOBODY"))
    assert _on(stops, *frame) == {14: 9550, 20: 98_000}


def test_a_tick_without_exchange_time_is_not_evaluated(stops: LiveState) -> None:
    assert _on(stops, tick(1, exchange_time=None)) == {}


def test_an_armed_run_whose_state_is_gone_is_forgotten_and_others_are_latched(stops: LiveState) -> None:
    stops.redis.delete(keys.runtime(str(run_id(13))))
    assert _on(stops, tick(9500)) == {14: 9500, 12: 9500}
    assert stops.armed(SYMBOL) == {str(run_id(11))}
    assert stops.latched(SYMBOL) == {str(run_id(14)), str(run_id(12))}


def test_two_listeners_of_one_symbol_latch_a_run_once(stops: LiveState) -> None:
    assert _on(stops, tick(9550, 1)) == {14: 9550}
    assert _on(stops, tick(9550, 1)) == {}


def test_a_price_keeps_when_it_was_traded_where_the_broker_tells(live: LiveState) -> None:
    live.store.on_tick(ACCOUNT.market, [replace(tick(9000, 7), traded_at=BUY_AT)], BUY_AT, "sl:x")
    told = {"price": "9000", "time": str(microseconds(tick(9000, 7).exchange_time or BUY_AT))}
    assert live.redis.hgetall(keys.price(ACCOUNT.market, SYMBOL)) == told | {"traded_at": str(microseconds(BUY_AT))}
    live.store.on_tick(ACCOUNT.market, [tick(9000, 8)], BUY_AT, "sl:x")
    assert live.redis.hget(keys.price(ACCOUNT.market, SYMBOL), "traded_at") is None


@pytest.mark.parametrize(("traded", "latches"), [(-60, False), (-1, False), (0, True), (1, True), (None, True)])
def test_a_price_that_was_traded_before_the_first_fill_latches_nothing_and_the_next_trade_does(
    live: LiveState, traded: int | None, latches: bool
) -> None:
    filled_at = BUY_AT + 2 * S
    live.arm(run(entry(OrderStatus.ACCEPTED)))
    held = live.claim()
    live.commit(held, held.run.with_order(entry(OrderStatus.FILLED, 10)), first_fill=filled_at)
    at = None if traded is None else filled_at + traded * S
    sent = replace(tick(STOP), exchange_time=filled_at + 60 * S, traded_at=at)
    assert bool(live.store.on_tick(ACCOUNT.market, [sent], filled_at, "sl:x")) is latches
    assert live.armed(SYMBOL) == (set() if latches else {RUN})
    assert (live.run().latch is not None) is latches
    if not latches:
        again = replace(sent, exchange_time=filled_at + 61 * S, traded_at=filled_at + 61 * S)
        assert len(live.store.on_tick(ACCOUNT.market, [again], filled_at, "sl:y")) == 1


FILLED_AT = BUY_AT + 2 * S


def _hold(live: LiveState, granted_at: datetime = BUY_AT) -> None:
    """A run whose first unit filled at `FILLED_AT`."""
    live.arm(run(entry(OrderStatus.ACCEPTED, granted_at=granted_at)))
    held = live.claim()
    bought = entry(OrderStatus.FILLED, 10, granted_at=granted_at)
    live.commit(held, held.run.with_order(bought), first_fill=FILLED_AT)


def _told(live: LiveState, *packets: tuple[int, int], traded: int) -> list[int]:
    """Which of these packets, (price, seconds since the fill), latched the run; each tells of a trade at `traded`."""
    latching: list[int] = []
    for price, second in packets:
        sent = replace(tick(price), exchange_time=FILLED_AT + second * S, traded_at=FILLED_AT + traded * S)
        latching += [second] * len(live.store.on_tick(ACCOUNT.market, [sent], FILLED_AT, f"sl:{second}"))
    return latching


def test_a_price_that_changed_since_the_first_fill_was_traded_whatever_its_time_says(live: LiveState) -> None:
    """A trade's time by a clock that is behind must not disarm a stop."""
    _hold(live)
    assert _told(live, (STOP + 100, 1), (STOP, 2), traded=-5 * 3600) == [2]


@pytest.mark.parametrize(
    "told",
    [
        # From before the entry, in its own second; and of one second, of which two listeners tell in any order.
        [(STOP + 100, 0), (STOP, 0), (STOP, 0)],
        [(STOP + 100, 0), (STOP, 1), (STOP, 2)],
        [(STOP + 100, -1), (STOP, 0), (STOP, 1)],
        [(STOP, 1), (STOP + 100, 2), (STOP, 2), (STOP + 100, 3)],
    ],
)
@pytest.mark.parametrize("traded", [-1, -60])
def test_a_price_traded_before_the_entry_fires_nothing_where_no_later_packet_proves_that_it_moved_since(
    live: LiveState, told: list[tuple[int, int]], traded: int
) -> None:
    _hold(live)
    assert _told(live, *told, traded=traded) == []
    assert live.armed(SYMBOL) == {RUN}
    assert _told(live, (STOP, 60), traded=60) == [60]


def test_a_price_that_moved_within_one_second_fires_when_it_is_told_in_the_next(live: LiveState) -> None:
    _hold(live)
    assert _told(live, (STOP + 100, 1), (STOP, 1), (STOP, 2), traded=-5 * 3600) == [2]


def test_a_price_that_moved_before_the_fill_was_granted_is_no_trade_since(live: LiveState) -> None:
    """A first fill is told as from two seconds before its grant where no trade tells it."""
    granted_at = FILLED_AT + 2 * S
    _hold(live, granted_at)
    assert _told(live, (STOP + 100, 1), (STOP, 2), (STOP, 3), traded=-60) == []
    assert _told(live, (STOP + 100, 3), (STOP, 4), traded=-60) == [4]


def test_a_price_that_moved_since_the_fill_and_before_we_knew_of_it_counts_at_once(live: LiveState) -> None:
    live.arm(run(entry(OrderStatus.ACCEPTED)), buying=False)
    assert _told(live, (STOP + 100, 1), (STOP, 2), traded=-5 * 3600) == []
    held = live.claim()
    live.commit(held, held.run.with_order(entry(OrderStatus.FILLED, 10)), first_fill=FILLED_AT)
    assert live.run().latch is not None
