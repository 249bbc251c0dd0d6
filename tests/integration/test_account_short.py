"""An account that is short after a sale of ours, its owner having sold the same shares: somebody is told, once."""

from collections.abc import Sequence

import pytest

from engine.domain.broker import ANY_SYMBOL, NetPosition
from engine.domain.events import EventType
from engine.domain.orders import Product, Side
from engine.reconcile import Reconciler
from engine.runtime.epoch import EpochGuard
from engine.runtime.store import RedisStore
from tests.builders import QUANTITY, STOP, SYMBOL, run, strategy
from tests.livestate import ACCOUNT, LiveState, run_id
from tests.world import World

#: How long all readings must show a short, and how long after our sale one is taken for ours, seconds.
CONFIRMED, OURS = 5, 15
EVERY = 2


@pytest.fixture
def world(live: LiveState) -> World:
    """One run of the account, which holds ten and whose exit is sent."""
    world = World(live)
    world.buy()
    world.clock.advance(60)
    _read(world, EVERY)
    world.breach(STOP)
    world.serve(EventType.STOPLOSS)
    return world


def _read(world: World, seconds: int) -> None:
    """What the order stream's process does every two seconds, whether or not a run holds anything."""
    for _ in range(seconds // EVERY):
        reconciler = Reconciler(world.live.store, world.stream, world.clock, world.log)
        reconciler.cover(ACCOUNT, world.broker)
        world.clock.advance(EVERY)


def _exit_fills(world: World, quantity: int | None = None) -> None:
    world.push(world.broker.fill("B2", quantity))


def _positions_say(world: World, positions: Sequence[NetPosition]) -> None:
    world.broker.held = lambda: list(positions)  # type: ignore[method-assign]


def _units(units: int, product: Product = Product.INTRADAY) -> list[NetPosition]:
    return [NetPosition(SYMBOL, product, units)]


def _shorts(world: World) -> list[str]:
    """What was told of shorts, and that to the account's tenant."""
    records = [record for record in world.live.records("alert") if "account_short" in str(record["alerts"])]
    assert {record["tenant"] for record in records} <= {ACCOUNT.tenant}
    return [alert["message"] for record in records for alert in record["alerts"]]


def test_a_sale_by_hand_in_the_second_of_our_exit_is_told_once_though_no_run_is_left(world: World) -> None:
    world.broker.trade_by_hand(Side.SELL, QUANTITY)
    _exit_fills(world)
    assert world.ended()["status"] == "stopped"
    _read(world, CONFIRMED + 2 * EVERY)
    (message,) = _shorts(world)
    assert f"account {ACCOUNT.name} is short {QUANTITY} of {SYMBOL} (intraday)" in message
    _read(world, 120)
    assert (_shorts(world), world.alerts()) == ([message], ["account_short"])


def test_what_was_read_of_a_short_outlives_its_reader(world: World) -> None:
    world.broker.trade_by_hand(Side.SELL, QUANTITY)
    _exit_fills(world)
    _read(world, EVERY)
    world.live.store = RedisStore(world.live.client, EpochGuard(world.live.client), lambda: world.clock.real)
    world.clock.advance(3600)
    _read(world, EVERY)
    assert len(_shorts(world)) == 1


@pytest.mark.parametrize("symbol", [SYMBOL, "NSE:INFY"])
def test_a_short_of_the_owners_own_making_is_his(live: LiveState, symbol: str) -> None:
    world = World(live)
    world.buy(run(spec=strategy(symbol=symbol)))
    world.broker.trade_by_hand(Side.SELL, 3 * QUANTITY)
    _read(world, 60)
    assert _shorts(world) == []


def test_an_exit_that_has_sold_nothing_makes_no_short(world: World) -> None:
    world.broker.trade_by_hand(Side.SELL, 2 * QUANTITY)
    _read(world, 60)
    assert _shorts(world) == []


def test_a_short_that_begins_long_after_our_sale_is_not_ours(world: World) -> None:
    _exit_fills(world)
    _read(world, OURS + 2 * EVERY)
    world.broker.trade_by_hand(Side.SELL, QUANTITY)
    _read(world, 60)
    assert _shorts(world) == []


def test_positions_that_show_our_sale_before_what_it_sold_are_no_short(world: World) -> None:
    held = world.broker.held
    _exit_fills(world)
    for shown in (_units(-QUANTITY), _units(-QUANTITY)):
        _positions_say(world, shown)
        _read(world, EVERY)
    world.broker.held = held  # type: ignore[method-assign]
    _read(world, 60)
    assert _shorts(world) == []


def test_a_short_that_comes_and_goes_has_to_last(world: World) -> None:
    _exit_fills(world)
    for units in (-QUANTITY, -QUANTITY, 0, -QUANTITY, -QUANTITY, 0):
        _positions_say(world, _units(units))
        _read(world, EVERY)
    assert _shorts(world) == []


@pytest.mark.parametrize("lags", [4, 12])
def test_a_short_that_positions_show_late_is_told(world: World, lags: int) -> None:
    world.broker.trade_by_hand(Side.SELL, QUANTITY)
    held = world.broker.held
    _positions_say(world, held())
    _exit_fills(world)
    _read(world, lags)
    world.broker.held = held  # type: ignore[method-assign]
    _read(world, CONFIRMED + 2 * EVERY)
    assert len(_shorts(world)) == 1


UNREAD = {
    "its row": NetPosition(SYMBOL, Product.INTRADAY, 0, unread="quantity"),
    "the list of its product": NetPosition(ANY_SYMBOL, Product.INTRADAY, 0, unread="holdings"),
}


@pytest.mark.parametrize("row", UNREAD.values(), ids=UNREAD.keys())
def test_what_cannot_be_read_is_no_short_and_ends_none(world: World, row: NetPosition) -> None:
    world.broker.trade_by_hand(Side.SELL, QUANTITY)
    held = world.broker.held
    _exit_fills(world)
    _positions_say(world, [row])
    _read(world, 60)
    assert _shorts(world) == []
    world.broker.held = held  # type: ignore[method-assign]
    _read(world, CONFIRMED + 2 * EVERY)
    assert len(_shorts(world)) == 1


def test_a_reading_that_began_before_our_sale_proves_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It shows the owner's short of before, which he has bought back."""
    began = world.live.store.pool_mark(ACCOUNT.id)
    _exit_fills(world)
    monkeypatch.setattr(world.live.store, "pool_mark", lambda _account: began)
    _positions_say(world, _units(-QUANTITY))
    _read(world, 60)
    assert _shorts(world) == []


def test_a_short_that_grows_with_an_exit_is_told_at_once_and_again_when_the_exit_is_done(world: World) -> None:
    world.broker.trade_by_hand(Side.SELL, QUANTITY)
    for filled in range(1, QUANTITY):
        _exit_fills(world, filled)
        _read(world, EVERY)
    (first,) = _shorts(world)
    _exit_fills(world)
    _read(world, 60)
    assert [message.partition(" of ")[0] for message in _shorts(world)] == [
        first.partition(" of ")[0],
        f"account {ACCOUNT.name} is short {QUANTITY}",
    ]


def test_a_short_that_was_bought_back_and_made_again_is_told_again(world: World) -> None:
    world.buy(run(spec=strategy(id=8), stop_units=STOP - 100, buy_at=world.clock.market))
    world.broker.trade_by_hand(Side.SELL, 2 * QUANTITY)
    _exit_fills(world)
    _read(world, CONFIRMED + 2 * EVERY)
    world.broker.trade_by_hand(Side.BUY, 2 * QUANTITY)
    _read(world, 20)
    assert len(_shorts(world)) == 1
    world.price(STOP - 100)
    world.serve(EventType.STOPLOSS, "sl-8", run_id(8))
    world.broker.trade_by_hand(Side.SELL, QUANTITY)
    world.push(world.broker.fill(f"B{len(world.broker.sent)}"))
    _read(world, CONFIRMED + 2 * EVERY)
    assert len(_shorts(world)) == 2


def test_another_product_of_the_symbol_is_not_ours(world: World) -> None:
    _exit_fills(world)
    _positions_say(world, _units(-QUANTITY, Product.DELIVERY))
    _read(world, 60)
    assert _shorts(world) == []


def test_what_the_owner_adds_to_a_short_long_after_our_sale_is_his(world: World) -> None:
    world.broker.trade_by_hand(Side.SELL, QUANTITY)
    _exit_fills(world)
    _read(world, 2 * OURS)
    world.broker.trade_by_hand(Side.SELL, QUANTITY)
    _read(world, 60)
    assert len(_shorts(world)) == 1
