"""What a strategy is refused for, field by field, and what would be right instead."""

from dataclasses import replace
from datetime import datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest

from engine.domain.broker import Instrument
from engine.domain.strategy import Problem, nearest, problems
from engine.domain.ticks import from_units, to_units
from tests.builders import BUY_AT, CLOSES, OPENS, SELL_AT, SESSION, SYMBOL, strategy

LISTED = Instrument(SYMBOL, 1, Decimal("0.05"), 5)


def _refused(
    buy_at: datetime = BUY_AT, sell_at: datetime = SELL_AT, listed: Instrument | None = LISTED, **changes: Any
) -> list[Problem]:
    return list(problems(strategy(**changes), listed, SESSION, buy_at, sell_at))


def test_a_strategy_that_keeps_every_rule_has_no_problem() -> None:
    assert _refused() == []
    assert _refused(buy_at=OPENS, sell_at=CLOSES) == []


#: The change, and the fields it is refused for, in order.
BROKEN: list[tuple[dict[str, Any], list[str]]] = [
    ({"name": ""}, ["name"]),
    ({"name": " \t"}, ["name"]),
    ({"quantity": 0}, ["quantity"]),
    ({"quantity": -5}, ["quantity"]),
    ({"quantity": 7}, ["quantity"]),
    ({"quantity": -7}, ["quantity", "quantity"]),
    ({"stop_loss": Decimal(0)}, ["stop_loss"]),
    ({"stop_loss": Decimal("-0.05")}, ["stop_loss"]),
    ({"stop_loss": Decimal("95.01")}, ["stop_loss"]),
    ({"stop_loss": Decimal("NaN")}, ["stop_loss"]),
    ({"stop_loss": Decimal("Infinity")}, ["stop_loss"]),
    ({"buy_at": SELL_AT, "sell_at": BUY_AT}, ["sell_time"]),
    ({"buy_at": BUY_AT, "sell_at": BUY_AT}, ["sell_time"]),
    ({"buy_at": OPENS - timedelta(seconds=1)}, ["buy_time"]),
    ({"sell_at": CLOSES + timedelta(seconds=1)}, ["sell_time"]),
    ({"quantity": 15, "listed": replace(LISTED, freeze_quantity=10)}, ["quantity"]),
    ({"quantity": 10, "listed": replace(LISTED, freeze_quantity=10)}, []),
    ({"listed": None}, ["symbol"]),
    ({"listed": None, "quantity": 0, "name": ""}, ["name", "quantity", "symbol"]),
]


@pytest.mark.parametrize(("changes", "fields"), BROKEN)
def test_each_broken_rule_is_named_by_its_field(changes: dict[str, Any], fields: list[str]) -> None:
    assert [problem.field for problem in _refused(**changes)] == fields


def test_a_time_outside_the_session_is_answered_with_the_nearest_valid_one() -> None:
    early = _refused(buy_at=OPENS - timedelta(minutes=15), buy_time=time(9, 0))
    late = _refused(sell_at=CLOSES + timedelta(hours=1), sell_time=time(16, 30))
    assert str(early[0]) == "buy_time: 09:00:00 is outside the session; nearest valid time 09:15:00"
    assert str(late[0]) == "sell_time: 16:30:00 is outside the session; nearest valid time 15:30:00"


def test_the_nearest_time_is_told_in_the_zone_it_was_asked_in() -> None:
    assert nearest(replace(SESSION), OPENS - timedelta(minutes=5), time(9, 10)) == time(9, 15)


@pytest.mark.parametrize(
    ("price", "scale", "units"),
    [("95.00", 100, 9500), ("95.05", 100, 9505), ("95.001", 100, 9501), ("0.01", 100, 1), ("83.1234", 10_000, 831_234)],
)
def test_a_stop_between_two_units_is_rounded_up_to_fire_no_later(price: str, scale: int, units: int) -> None:
    assert to_units(Decimal(price), scale) == units
    assert from_units(units, scale) >= Decimal(price)
