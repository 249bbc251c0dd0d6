"""The guard conflates nothing: every tick is evaluated, refused by name, or still in doubt."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from engine.domain.feed import FeedPolicy, SymbolGuard
from engine.domain.ticks import Tick
from tests.builders import CLOSES, SESSION, at, tick

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
        assert evaluated + guard.refused.total() + len(guard.doubts) == judged


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
