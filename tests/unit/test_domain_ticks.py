"""Which ticks are kept for a run that nobody knows to hold something yet."""

from hypothesis import given
from hypothesis import strategies as st

from engine.domain.ticks import MOST_LOWS, lows
from tests.builders import tick

PRICES = st.lists(st.integers(9_900, 10_100), min_size=1, max_size=MOST_LOWS)
HALF = st.lists(st.integers(9_900, 10_100), max_size=MOST_LOWS // 2)


@given(PRICES)
def test_of_the_ticks_since_any_moment_the_lowest_is_kept(prices: list[int]) -> None:
    ticks = [tick(price, second) for second, price in enumerate(prices)]
    kept = lows(ticks)
    for n, since in enumerate(ticks):
        assert since.exchange_time is not None
        later = [each for each in kept if each.exchange_time is not None and each.exchange_time >= since.exchange_time]
        assert min(each.price for each in later) == min(prices[n:])


@given(HALF, HALF)
def test_ticks_kept_in_two_turns_are_those_kept_in_one(before: list[int], after: list[int]) -> None:
    ticks = [tick(price, second) for second, price in enumerate([*before, *after])]
    assert lows([*lows(ticks[: len(before)]), *ticks[len(before) :]]) == lows(ticks)


def test_a_long_rise_is_thinned_out_between_its_ends() -> None:
    kept = lows(tick(9_000 + second, second) for second in range(1_000))
    assert len(kept) <= MOST_LOWS
    assert (kept[0].price, kept[-1].price) == (9_000, 9_999)
    assert [each.price for each in kept] == sorted({each.price for each in kept})
