"""The paper broker's clock, limits and invented days."""

from datetime import UTC, date, datetime, timedelta

import pytest

from broker_connector.paper.accounts import KITE_LIMITS, ORDER_BUDGETS, Budget, Limiter
from broker_connector.paper.clock import MarketClock, naive_ist
from broker_connector.paper.errors import BrokerError
from broker_connector.paper.symbols import TICK_UNITS
from broker_connector.paper.synthetic import LIMIT, ManualMarket, SyntheticMarket, opening_units

REAL = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
OPENS = datetime(2021, 4, 12, 3, 45, tzinfo=UTC)
DAY = date(2026, 11, 23)


def test_market_time_stands_before_its_start_and_runs_at_its_speed_after() -> None:
    clock = MarketClock(REAL, OPENS, speed=60.0)
    assert clock.now(REAL - timedelta(days=1)) == OPENS
    assert clock.now(REAL + timedelta(seconds=2)) == OPENS + timedelta(minutes=2)
    assert clock.real_at(OPENS + timedelta(minutes=2)) == REAL + timedelta(seconds=2)
    assert clock.real_at(OPENS - timedelta(minutes=2)) == REAL
    assert MarketClock.live(REAL).now(REAL + timedelta(hours=1)) == REAL + timedelta(hours=1)
    assert naive_ist(OPENS) == "2021-04-12 09:15:00"


def test_orders_are_counted_by_calendar_second_minute_and_day() -> None:
    limiter = Limiter({Budget.SECOND: 2, Budget.MINUTE: 3})
    limiter.spend(ORDER_BUDGETS, REAL)
    limiter.spend(ORDER_BUDGETS, REAL)
    with pytest.raises(BrokerError) as refused:
        limiter.spend(ORDER_BUDGETS, REAL + timedelta(milliseconds=250))
    assert (refused.value.status, refused.value.retry_after) == (429, 0.75)
    limiter.spend(ORDER_BUDGETS, REAL + timedelta(seconds=1))
    with pytest.raises(BrokerError) as refused:
        limiter.spend(ORDER_BUDGETS, REAL + timedelta(seconds=2))
    assert refused.value.retry_after == 58
    limiter.spend(ORDER_BUDGETS, REAL + timedelta(seconds=60))


def test_every_budget_of_the_real_broker_is_limited() -> None:
    assert set(KITE_LIMITS) == set(Budget)


def test_a_synthetic_day_is_the_same_whenever_it_is_asked_for() -> None:
    one, other = (SyntheticMarket(7, ["INFY", "ACME"]) for _ in range(2))
    assert one.path("ACME", DAY) == other.path("ACME", DAY)
    assert one.path("ACME", DAY) != SyntheticMarket(8, ["ACME"]).path("ACME", DAY)
    assert one.path("INFY", DAY) != one.path("INFY", DAY + timedelta(days=1))


def test_the_tape_of_a_synthetic_day_is_its_paths() -> None:
    market = SyntheticMarket(7, ["INFY", "TCS"])
    tape = market.tape(DAY)
    for index, listing in enumerate(market.listed):
        ticks = [(tape.due[at], tape.price[at]) for at in range(len(tape)) if tape.symbol[at] == index]
        assert ticks == [(at.timestamp(), price) for at, price in market.path(listing.name, DAY)]
    assert list(tape.due) == sorted(tape.due)


def test_synthetic_prices_stay_in_their_band_and_on_the_grid() -> None:
    opening = opening_units(7, "INFY")
    for _, price in SyntheticMarket(7, ["INFY"]).path("INFY", DAY):
        assert price % TICK_UNITS == 0
        assert abs(price - opening) <= opening * LIMIT + TICK_UNITS


def test_a_manual_market_has_one_price_of_each_symbol() -> None:
    tape = ManualMarket(["INFY", "TCS"]).tape(DAY)
    assert list(tape.price) == list(tape.closes)
    assert len(tape) == 2
