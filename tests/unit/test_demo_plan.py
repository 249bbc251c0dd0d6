"""The demo's plan: pure, and so clear of every doubt that a busy machine cannot change an ending."""

import pytest

from broker_connector.paper.symbols import money
from engine.calendar import Calendar
from engine.demo import GUARD, MARKET_DATE, TENANTS, at, ending, failures, market_paths, plan, profit, symbol_of
from engine.domain.broker import Instrument
from engine.domain.run import Position
from engine.reports import ReplayReport
from engine.strategies import check

SEEDS = range(12)


@pytest.mark.parametrize("seed", [0, 7])
def test_the_same_seed_gives_the_same_plan(seed: int) -> None:
    assert plan(seed, 60) == plan(seed, 60)


def test_another_seed_gives_another_plan() -> None:
    assert plan(1, 60).drafts != plan(2, 60).drafts


@pytest.mark.parametrize("seed", SEEDS)
def test_some_are_stopped_out_and_some_are_sold(seed: int) -> None:
    endings = list(plan(seed, 60).expected.values())
    assert len(endings) == 60
    assert set(endings) == {Position.SOLD, Position.EXITED_BY_SL}
    assert endings.count(Position.EXITED_BY_SL) >= 5


@pytest.mark.parametrize("seed", SEEDS)
def test_no_price_is_near_a_stop_while_an_order_may_be_on_its_way(seed: int) -> None:
    planned, paths = plan(seed, 60), market_paths(seed)
    for draft in planned.drafts:
        path, buy, sell = paths[symbol_of(draft)], at(draft.buy_time), at(draft.sell_time)
        stop = int(draft.stop_loss * 100)
        assert min(path.between(buy, buy + GUARD)) > stop
        if planned.expected[draft.name] is Position.EXITED_BY_SL:
            assert min(path.between(buy + GUARD, sell - GUARD)) < stop
        else:
            assert min(path.between(buy)) > stop


@pytest.mark.parametrize("count", [5, 60, 500])
def test_every_strategy_can_be_stored(count: int) -> None:
    planned = plan(3, count)
    listed = {f"NSE:{name}": Instrument(f"NSE:{name}", 1, money(5), 1) for name in market_paths(3)}
    assert check(planned.drafts, listed, Calendar(), MARKET_DATE) == []
    assert len({draft.name for draft in planned.drafts}) == count
    assert {draft.tenant for draft in planned.drafts} == set(TENANTS)


def test_several_strategies_share_a_symbol_and_a_moment() -> None:
    drafts = plan(7, 60).drafts
    assert len({draft.symbol for draft in drafts}) < len(drafts) / 3
    assert len({draft.buy_time for draft in drafts}) <= 10


def test_many_strategies_get_a_slower_day() -> None:
    assert plan(7, 500).speed < plan(7, 60).speed


def test_endings_follow_from_the_prices_alone() -> None:
    planned, paths = plan(5, 60), market_paths(5)
    assert planned.expected == {draft.name: ending(draft, paths[symbol_of(draft)]) for draft in planned.drafts}


def test_an_ending_that_differs_is_named_with_what_was_expected() -> None:
    planned = plan(7, 5)
    report = told(planned.drafts[0].name, planned.expected[planned.drafts[0].name], status="failed")
    (failure,) = failures(planned, report)
    assert (failure.name, failure.actual) == (planned.drafts[0].name, f"{failure.expected} (failed)")


def test_profit_is_what_was_sold_for_less_what_was_paid() -> None:
    assert str(profit(told("any", Position.SOLD).strategies[0])) == "12.50"


def told(name: str, position: Position, status: str = "stopped") -> ReplayReport:
    """A report of one strategy that bought 5 at 100.00 and sold them at 102.50."""
    fill = {"quantity": 5, "filled_quantity": 5, "status": "filled", "market_time": None}
    orders = [
        fill | {"client_order_id": "E", "leg": "entry", "side": "buy", "average_price": "100.00"},
        fill | {"client_order_id": "X", "leg": "exit", "side": "sell", "average_price": "102.50"},
    ]
    strategy = {"name": name, "tenant": "alder", "symbol": "INFY", "status": status, "position": position}
    nothing = {"p50": None, "p99": None, "n": 0}
    return ReplayReport.model_validate(
        {
            "complete": True,
            "market_date": MARKET_DATE,
            "speed": 1,
            "strategies": [strategy | {"exit_reason": None, "orders": orders}],
            "broker_orders": [],
            "latency_ms": {"tick_to_order": nothing, "timer_lateness": nothing},
        }
    )
