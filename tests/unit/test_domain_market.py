"""Which accounts make one market, and which of them carries its feed for which listener."""

import pytest

from engine.domain.market import Candidate, choose, market_of

API, TICKER = "https://api.kite.trade", "wss://ws.kite.trade"
TWO = (Candidate(1), Candidate(2))


@pytest.mark.parametrize("other", [(API + "/", TICKER), ("HTTPS://API.kite.trade", TICKER + "/")])
def test_the_same_addresses_make_one_market_however_they_are_written(other: tuple[str, str]) -> None:
    assert market_of("kite", *other) == market_of("kite", API, TICKER)


@pytest.mark.parametrize(
    "other",
    [
        ("paper", API, TICKER),
        ("kite", API, "wss://elsewhere.example"),
        ("kite", API, "wss://ws.kite.trade@elsewhere.example"),
        ("kite", API, TICKER + "/other"),
        ("kite", API, "ws://ws.kite.trade"),
        ("kite", "https://elsewhere.example", TICKER),
    ],
)
def test_an_account_with_another_address_prices_nobody_of_a_brokers_market(other: tuple[str, str, str]) -> None:
    assert market_of(*other) != market_of("kite", API, TICKER)


def test_two_listeners_begin_with_different_accounts() -> None:
    assert [choose(TWO, [], [], number) for number in (0, 1)] == [1, 2]
    assert [choose(TWO, [taken], [], 0) for taken in (1, 2)] == [2, 1]


def test_an_account_that_failed_gives_way_even_to_one_another_listener_uses() -> None:
    assert choose(TWO, [2], resting=[1], number=0) == 2


def test_a_dead_login_is_tried_only_where_there_is_no_other() -> None:
    assert choose((Candidate(1, is_dead=True), Candidate(2)), [2], [2], 0) == 2
    assert choose((Candidate(1, is_dead=True),), [], [], 0) == 1


def test_what_an_operator_named_comes_first_and_gives_way_when_it_fails() -> None:
    named = (Candidate(1), Candidate(2), Candidate(3, is_named=True))
    assert [choose(named, [], [], number) for number in (0, 1)] == [3, 3]
    assert choose(named, [], [3], 0) == 1


def test_a_listener_opens_no_connection_its_account_has_not_left() -> None:
    # Three: one is the order stream's, two are other listeners'.
    assert choose((Candidate(1),), [1], [], 2) == 1
    assert choose((Candidate(1),), [1, 1], [], 2) is None
