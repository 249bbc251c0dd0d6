"""Positions lag behind a purchase for up to 15 s: over all runs of an account that is no sale by others."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from engine.domain.account_positions import AccountReading, SeenOrder
from engine.domain.broker import NetPosition
from engine.domain.events import EventType
from engine.domain.orders import Leg, OrderStatus, Product, Side
from engine.domain.run import RunStatus
from tests.builders import QUANTITY, STOP, SYMBOL, entry, event, exit_, run, strategy
from tests.livestate import LiveState, run_id
from tests.world import World

E = EventType
OTHER = strategy(id=8)
#: A stop that nothing reaches while the other run's is breached.
FAR = STOP - 500


@contextmanager
def lagging(world: World) -> Iterator[None]:
    """Positions stay as they are now."""
    told, before = world.broker.held, world.broker.held()
    world.broker.held = lambda: before  # type: ignore[method-assign]
    yield
    world.broker.held = told  # type: ignore[method-assign]


def statuses(world: World) -> list[RunStatus]:
    return [world.live.run(str(run_id(number))).status for number in (7, 8)]


def test_two_runs_that_buy_at_once_are_not_told_that_others_sold(world: World) -> None:
    with lagging(world):
        world.buy()
        world.buy(run(spec=OTHER))
        world.pass_time(12)
        assert (world.alerts(), statuses(world)) == ([], [RunStatus.ACTIVE] * 2)
        world.pass_time(8)
    # Nobody's positions lag that long.
    assert set(world.alerts()) == {"not_covered"}


def test_a_run_that_is_covered_hears_nothing_of_what_another_bought(world: World) -> None:
    world.buy()
    world.clock.advance(18)
    world.cover()
    world.pass_time(4)
    with lagging(world):
        world.buy(run(spec=OTHER))
        world.pass_time(4)
    world.pass_time(4)
    assert (world.alerts(), statuses(world)) == ([], [RunStatus.ACTIVE] * 2)


def test_an_exit_that_rests_is_not_taken_back_for_what_two_runs_bought(world: World) -> None:
    with lagging(world):
        world.cover()
        # The account is read again two seconds after the purchases: the exit goes by what was just bought.
        cover, world.cover = world.cover, lambda: None  # type: ignore[method-assign]
        world.buy()
        world.buy(run(spec=OTHER, stop_units=FAR))
        world.clock.advance(0.5)
        world.price(STOP)
        assert world.pipeline.process(event(E.STOPLOSS, "sl-7", run_id(7)).as_wire()) == "submitted: accepted"
        world.push(world.broker.book[f"B{len(world.broker.sent)}"])
        world.cover = cover  # type: ignore[method-assign]
        world.pass_time(12)
    assert (world.broker.canceled, world.alerts()) == ([], [])


@pytest.mark.parametrize("lags", [4, 7])
def test_what_was_bought_while_an_exit_rested_is_sold_at_once_when_positions_tell_it(world: World, lags: float) -> None:
    world.buy()
    world.clock.advance(18)
    world.cover()
    world.price(STOP)
    assert world.serve(E.STOPLOSS, "sl-7", run_id(7)) == "submitted: accepted"
    world.price(10_000)
    world.clock.advance(1)
    with lagging(world):
        world.buy(run(spec=OTHER, stop_units=FAR))
        world.pass_time(lags)
    world.push(world.broker.fill("B2"))
    world.price(FAR)
    world.serve(E.STOPLOSS, "sl-8", run_id(8))
    world.pass_time(2, step=0.5)
    assert [side for side, _ in world.sides()].count(Side.SELL) == 2


@pytest.mark.parametrize("rests", [True, False], ids=["beside an exit", "while nothing moves"])
def test_a_purchase_that_lags_proves_no_sale_by_others(live: LiveState, *, rests: bool) -> None:
    now = datetime.now(UTC) - timedelta(minutes=1)
    bought, resting = entry(OrderStatus.FILLED, QUANTITY, updated_at=now), exit_(OrderStatus.ACCEPTED)
    other = entry(OrderStatus.FILLED, QUANTITY, attempt=2, updated_at=now)
    live.arm(run(bought, *[resting] * rests), buying=False)
    live.arm(run(other, spec=OTHER), buying=False)

    def free_after(seconds: float, units: int, sold: int) -> int:
        """What run 8 may sell by a reading so long after the purchase."""
        if sold and live.run().filled(Leg.EXIT) != sold:
            held = live.claim()
            live.commit(held, replace(held.run, orders=(bought, exit_(OrderStatus.FILLED, sold))))
        orders = [SeenOrder(each.client_order_id, QUANTITY, QUANTITY, is_over=True) for each in (bought, other)]
        if rests or sold:
            orders.append(SeenOrder(resting.client_order_id, sold, sold, is_over=sold == QUANTITY))
        positions = [NetPosition(SYMBOL, Product.INTRADAY, units)]
        reading = AccountReading(now + timedelta(seconds=seconds), positions, orders, live.store.pool_mark(1))
        live.store.cover(1, reading)
        net = live.run_seen(8)
        assert net is not None
        return net.quantity

    for seconds in (0, 2, 6, 10):
        free_after(seconds, QUANTITY, 0)
    assert free_after(11, QUANTITY, QUANTITY) == QUANTITY
