"""An order's trades listed twice, beside another order's, or not at all: what is sold goes by what is proven."""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

import pytest

from engine.domain.broker import BrokerUnreachable, NetPosition, Trade
from engine.domain.events import EventType
from engine.domain.orders import OrderStatus, Product, Side
from engine.domain.strategy import StopMode
from tests.builders import QUANTITY, STOP, SYMBOL, S, run, strategy
from tests.livestate import LiveState
from tests.world import World

BUY, SELL = (Side.BUY, QUANTITY), (Side.SELL, QUANTITY)


@pytest.fixture
def breached(breached: World) -> World:
    """A run that holds and whose exit, B2, has filled four of ten."""
    breached.serve(EventType.STOPLOSS)
    breached.push(breached.broker.fill("B2", 4))
    return breached


def _lists(world: World, *fills: tuple[str, str, int]) -> None:
    """Have the broker list these of the exit: trade, order, units."""
    at = world.clock.market

    def listed(broker_order_id: str) -> Sequence[Trade]:
        if broker_order_id != "B2":
            return []
        return [Trade(trade, of, SYMBOL, Side.SELL, Product.INTRADAY, n, Decimal(100), at) for trade, of, n in fills]

    world.broker.trades_of = listed  # type: ignore[method-assign]


@pytest.mark.parametrize(
    "fills",
    [
        pytest.param([("T1", "B2", 4), ("T1", "B2", 4)], id="a fill twice"),
        pytest.param([("T1", "B2", 4), ("T2", "B9", 4)], id="another order's beside it"),
    ],
)
def test_a_canceled_exit_counts_each_of_its_own_fills_once(breached: World, fills: list[tuple[str, str, int]]) -> None:
    _lists(breached, *fills)
    breached.push(breached.broker.end("B2", OrderStatus.CANCELED))
    breached.pass_time(3)
    assert breached.sides() == [BUY, SELL, (Side.SELL, 6)]
    breached.push(breached.broker.fill("B3"))
    breached.pass_time(20)
    assert breached.ended()
    assert breached.broker.held()[0].quantity == 0
    assert "fills_disputed" not in breached.alerts()


def test_an_exit_sells_no_more_than_its_quantity_whatever_its_trades_tell(breached: World) -> None:
    _lists(breached, ("T1", "B2", 4), ("T2", "B2", 8))
    breached.push(breached.broker.end("B2", OrderStatus.CANCELED))
    breached.pass_time(3)
    assert (breached.run().held, breached.sides()) == (0, [BUY, SELL])
    assert "oversold" not in breached.alerts()


def test_trades_that_tell_more_than_the_book_of_a_canceled_exit_are_told_of_before_its_run_ends(
    breached: World,
) -> None:
    _lists(breached, ("T1", "B2", 4), ("T2", "B2", 6))
    breached.push(breached.broker.end("B2", OrderStatus.CANCELED))
    breached.pass_time(14)
    assert (breached.ended(), breached.alerts()) == ({}, [])
    breached.pass_time(4)
    assert breached.ended()
    assert breached.alerts() == ["fills_disputed"]


def test_a_book_that_comes_to_tell_the_same_as_the_trades_alerts_nobody(breached: World) -> None:
    _lists(breached, ("T1", "B2", 4), ("T2", "B2", 6))
    breached.push(breached.broker.end("B2", OrderStatus.CANCELED))
    breached.pass_time(5)
    entry = breached.broker.book["B2"]
    breached.broker.book["B2"] = replace(entry, evidence=replace(entry.evidence, filled_quantity=10))
    breached.pass_time(3)
    assert breached.ended()
    assert breached.alerts() == []


def test_a_run_that_is_closed_by_its_owner_is_told_of_it_too(breached: World) -> None:
    _lists(breached, ("T1", "B2", 4), ("T2", "B2", 6))
    breached.push(breached.broker.end("B2", OrderStatus.CANCELED))
    breached.pass_time(3)
    breached.live.store.signal(breached.run().id, {"stop_requested": StopMode.CLOSE}, breached.clock.real)
    breached.pass_time(17)
    assert breached.ended()
    assert "fills_disputed" in breached.alerts()


def test_trades_that_tell_more_than_the_book_of_a_canceled_entry_are_told_of_though_it_is_held(live: LiveState) -> None:
    world = World(live)
    world.buy(quantity=0)
    world.push(world.broker.fill("B1", 4))
    world.broker.traded["B1"] = 8
    world.push(world.broker.end("B1", OrderStatus.CANCELED))
    world.broker.trade_by_hand(Side.BUY, 4)
    world.pass_time(18)
    assert (world.run().held, world.alerts().count("fills_disputed")) == (8, 1)


def test_a_breach_before_the_first_of_its_own_fills_does_not_count(
    live: LiveState, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trade of an earlier order among the entry's makes it one that came after them."""
    world = World(live)
    world.buy(quantity=0)
    world.clock.advance(1)
    world.breach(STOP)
    world.clock.advance(1)
    assert world.price(STOP + 100) == 0
    entry, at = world.broker.fill("B1"), world.clock.market
    of = (SYMBOL, Side.BUY, Product.INTRADAY, QUANTITY, Decimal(100))
    listed = [Trade("T1", "B1", *of, at), Trade("T0", "B0", *of, at - 1.5 * S)]
    monkeypatch.setattr(world.broker, "trades_of", lambda _broker_order_id: listed)
    world.push(entry)
    assert world.sides() == [BUY]


# Trades that cannot be read


def _tells_no_trades(world: World) -> None:
    def dead(broker_order_id: str) -> Sequence[Trade]:
        raise BrokerUnreachable(f"trades of {broker_order_id}: not a list")

    world.broker.trades_of = dead  # type: ignore[method-assign]


def test_a_canceled_exit_whose_trades_cannot_be_read_is_followed_by_one_for_what_is_proven(breached: World) -> None:
    _tells_no_trades(breached)
    breached.push(breached.broker.end("B2", OrderStatus.CANCELED))
    breached.pass_time(4)
    assert (breached.sides(), breached.alerts()) == ([BUY, SELL], ["book_unreadable"])
    breached.pass_time(10)
    assert breached.sides() == [BUY, SELL]
    breached.pass_time(4)
    assert breached.sides() == [BUY, SELL, (Side.SELL, 6)]
    breached.push(breached.broker.fill("B3"))
    breached.pass_time(3)
    assert breached.ended()


def test_a_canceled_exit_whose_trades_cannot_be_read_is_not_followed_where_positions_lack_what_is_held(
    breached: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sold everything, and its book never says so."""
    _tells_no_trades(breached)
    position = NetPosition(SYMBOL, Product.INTRADAY, 0)
    monkeypatch.setattr(breached.broker, "held", lambda: [position])
    breached.push(breached.broker.end("B2", OrderStatus.CANCELED))
    breached.pass_time(40)
    assert breached.sides() == [BUY, SELL]


def test_what_another_run_of_the_account_holds_proves_nothing_of_a_canceled_exit_without_trades(
    breached: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    breached.price(STOP + 100)
    breached.buy(run(spec=strategy(id=8), buy_at=breached.clock.market))
    _tells_no_trades(breached)
    monkeypatch.setattr(breached.broker, "held", lambda: [NetPosition(SYMBOL, Product.INTRADAY, QUANTITY)])
    breached.push(breached.broker.end("B2", OrderStatus.CANCELED))
    breached.pass_time(40)
    assert [each for each in breached.sides() if each[0] is Side.SELL] == [SELL]


def test_trades_that_can_be_read_again_settle_a_canceled_exit_at_once(breached: World) -> None:
    _tells_no_trades(breached)
    breached.push(breached.broker.end("B2", OrderStatus.CANCELED))
    breached.pass_time(4)
    _lists(breached, ("T1", "B2", 4))
    breached.pass_time(2)
    assert breached.sides() == [BUY, SELL, (Side.SELL, 6)]
