"""The guard conflates nothing: every tick is evaluated, refused by name, or still in doubt."""

from datetime import timedelta
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from engine.domain.feed import Asked, FeedPolicy, SymbolGuard
from engine.domain.ticks import Tick
from tests.builders import CLOSES, OPENS, SESSION, at, tick

NOW = at(CLOSES)
SECONDS = st.integers(-5, 22_505)
TICKS = st.builds(tick, st.integers(-100, 14_000), SECONDS) | st.builds(tick, st.sampled_from((9_000, 10_000)), SECONDS)
#: Steps from one tick to the next: at most 4 % down or up, and no more than a minute on.
STEPS = st.lists(st.tuples(st.floats(-0.04, 0.04), st.integers(0, 60)), max_size=60)


def _walk(steps: list[tuple[float, int]]) -> list[Tick]:
    price, second, walk = 10_000, 0, [tick(10_000)]
    for step, later in steps:
        price, second = max(1, price + int(step * price)), second + later
        walk.append(tick(price, second))
    return walk


@given(STEPS)
def test_small_steps_in_order_are_believed_one_by_one(steps: list[tuple[float, int]]) -> None:
    guard = SymbolGuard(FeedPolicy(), SESSION)
    walk = _walk(steps)
    assert [believed for each in walk for believed in guard.judge(each, NOW)] == walk
    assert guard.refused.total() == 0


@given(st.lists(TICKS | st.none(), max_size=40))
def test_every_tick_is_evaluated_once_or_refused_once_or_still_doubted(feed: list[Tick | None]) -> None:
    guard, evaluated, judged = SymbolGuard(FeedPolicy(), SESSION), 0, 0
    for each in feed:
        if each is None:
            evaluated += len(guard.overdue(NOW.real + timedelta(seconds=2)))
        else:
            judged += 1
            evaluated += len(guard.judge(each, NOW))
        assert evaluated + guard.refused.total() + len(guard.doubts) + len(guard.unproven) == judged


@given(st.lists(TICKS, max_size=40))
def test_a_believed_tick_is_always_a_price_inside_the_session(feed: list[Tick]) -> None:
    guard = SymbolGuard(FeedPolicy(), SESSION)
    for each in feed:
        for believed in guard.judge(each, NOW):
            assert believed.price > 0
            assert believed.exchange_time is not None
            assert SESSION.contains(believed.exchange_time)
            assert believed in feed


@given(st.lists(TICKS, max_size=40), STEPS)
def test_whatever_came_before_two_good_ticks_in_a_row_are_believed(
    feed: list[Tick], steps: list[tuple[float, int]]
) -> None:
    guard = SymbolGuard(FeedPolicy(), SESSION)
    for each in feed:
        guard.judge(each, NOW)
    last = max((t.exchange_time for t in feed if t.exchange_time and SESSION.contains(t.exchange_time)), default=None)
    first = last + timedelta(seconds=1) if last else SESSION.opens
    pair = [tick(10_000, exchange_time=first), tick(10_001, exchange_time=first + timedelta(seconds=1))]
    if pair[1].exchange_time is None or pair[1].exchange_time > SESSION.closes:
        return
    believed = [b for each in pair for b in guard.judge(each, NOW)]
    assert [b for b in believed if b in pair] == pair


class Second(NamedTuple):
    """One second of a market that stands near 100.00: what is told besides, and whether somebody traded there."""

    off: int
    is_true: bool
    #: The packet's own low, where nobody traded, has followed its price.
    is_poisoned: bool
    #: The price is back within the same second.
    is_back: bool
    #: How the day's low is told afterwards: by the broker's quote, or by the next packet alone.
    is_asked: bool


FAR_OFF = st.integers(8_050, 9_300) | st.integers(10_700, 11_900)
MARKET = st.lists(st.builds(Second, FAR_OFF, st.booleans(), st.booleans(), st.booleans(), st.booleans()), max_size=30)


@given(MARKET, st.booleans())
def test_a_price_that_came_back_is_believed_if_and_only_if_the_days_low_proves_it(
    market: list[Second], packets_tell: bool
) -> None:
    """Every other second the price stands; in those between one packet is far off it, and true or not."""
    guard, lowest, second = SymbolGuard(FeedPolicy(), SESSION), 9_950, 0
    believed: list[Tick] = []

    def hear(price: int, low: int) -> None:
        now = OPENS + timedelta(seconds=second)
        told = tick(price, second, traded_at=now, low=low if packets_tell else 0)
        believed.extend(guard.judge(told, at(OPENS, seconds=second)))

    def ask() -> None:
        now = OPENS + timedelta(seconds=second)
        believed.extend(guard.asked(Asked(10_000, 8_000, 12_000, now, lowest)))

    hear(10_000, lowest)
    expected: list[int] = []
    #: What the guard was told of the day's low before.
    told_before = lowest if packets_tell else 0
    for each in market:
        second += 1
        is_proven = each.is_true and (each.off < lowest if told_before else each.off <= lowest)
        if each.is_true:
            lowest = min(lowest, each.off)
        hear(each.off, min(lowest, each.off) if each.is_poisoned else lowest)
        if each.is_back:
            hear(10_000, lowest)
        second += 1
        if each.is_asked or not packets_tell:
            ask()
            told_before = lowest
        hear(10_000, lowest)
        if is_proven:
            expected.append(each.off)
    assert [told.price for told in believed if told.price != 10_000] == expected
