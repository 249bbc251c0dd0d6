"""A line that beats and tells nothing: which symbols are proven, and of which the broker knows more than it told."""

from datetime import datetime, timedelta

import pytest

from engine.deafness import MOST_ASKED, QUIET_FOR, Heard
from engine.domain.feed import Asked
from tests.builders import OPENS, SYMBOL, S


def heard(price: int = 100, traded_at: datetime | None = OPENS) -> Heard:
    """A connection that told one packet of the symbol at second 0."""
    found = Heard()
    found.hear(SYMBOL, price, traded_at, 0.0)
    return found


def test_a_symbol_no_packet_came_of_has_not_spoken_nor_one_that_is_subscribed_anew() -> None:
    line = heard()
    assert line.spoken([SYMBOL, "NSE:MUTE"]) == [SYMBOL]
    line.forget([SYMBOL, "NSE:MUTE"])
    assert line.spoken([SYMBOL]) == []


@pytest.mark.parametrize(("now", "quiet"), [(QUIET_FOR - 0.1, False), (QUIET_FOR, True)])
def test_a_symbol_is_asked_about_once_it_is_quiet(now: float, quiet: bool) -> None:
    assert bool(heard().quiet(now)) is quiet


def test_of_many_quiet_symbols_all_are_asked_in_turn() -> None:
    line, names = Heard(), [f"NSE:{number}" for number in range(MOST_ASKED + 50)]
    for name in names:
        line.hear(name, 1, None, 0.0)
    first, second = line.quiet(10.0), line.quiet(20.0)
    assert len(first) == len(second) == MOST_ASKED
    assert {*first, *second} == {*names}


@pytest.mark.parametrize(
    ("price", "later", "missed"), [(99, 1, True), (99, 0, True), (99, -1, False), (100, 60, False)]
)
def test_only_a_later_trade_at_another_price_was_missed(price: int, later: int, missed: bool) -> None:
    told = {SYMBOL: Asked(price, 0, 0, OPENS + later * S), "NSE:OTHER": Asked(1, 0, 0, OPENS + timedelta(hours=1))}
    assert heard().missed(told) == ({SYMBOL} if missed else set())


def test_a_packet_that_came_since_the_question_clears_its_symbol() -> None:
    line = heard()
    assert line.silent_since({SYMBOL}, asked_at=6.0) == {SYMBOL}
    line.hear(SYMBOL, 99, OPENS, 6.1)
    assert line.silent_since({SYMBOL}, asked_at=6.0) == set()


@pytest.mark.parametrize("first", [0, 100])
def test_packets_that_tell_no_price_leave_the_symbol_to_be_asked_about(first: int) -> None:
    line = heard(first)
    for second in range(1, 10):
        line.hear(SYMBOL, 0, OPENS + second * S, float(second))
    assert line.spoken([SYMBOL]) == line.quiet(9.0) == [SYMBOL]
    traded = Asked(101, 0, 0, OPENS + 5 * S)
    assert line.missed({SYMBOL: traded}) == line.silent_since([SYMBOL], 9.0) == {SYMBOL}


def test_what_was_traded_before_the_first_packet_that_tells_no_price_is_not_missed() -> None:
    line = heard(0)
    assert line.missed({SYMBOL: Asked(101, 0, 0, OPENS - S)}) == set()
