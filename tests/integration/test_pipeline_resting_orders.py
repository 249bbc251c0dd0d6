"""Orders that rest at the broker while its quotes fail or tell an old band, or whose owner edits them."""

from collections.abc import Callable
from decimal import Decimal
from typing import NoReturn

import pytest

from engine.domain.broker import BrokerUnreachable, Quote, TokenInvalid
from engine.domain.events import EventType
from engine.domain.orders import TERMINAL, OrderStatus, Side
from tests.builders import QUANTITY, SELL_AT, STOP, SYMBOL, run, strategy
from tests.fakes import REFUSED, Answer
from tests.livestate import run_id
from tests.world import World

E = EventType
BUY, SELL = (Side.BUY, QUANTITY), (Side.SELL, QUANTITY)


@pytest.fixture
def breached(breached: World) -> World:
    """A run that holds and whose stop is breached, at a broker that tells the day's band and the limits of orders."""
    breached.broker.tells_limits = True
    _quote(breached, last=90, lowest=90)
    return breached


def _quote(world: World, last: int, lowest: int) -> None:
    """What the broker's quote says from now on: it traded at `last` just now."""
    world.broker.quotes = [Quote(SYMBOL, Decimal(last), Decimal(lowest), Decimal(110), world.clock.market)]


def _fails(error: Exception) -> Callable[..., NoReturn]:
    def read(*_asked: object) -> NoReturn:
        raise error

    return read


@pytest.mark.parametrize("error", [BrokerUnreachable("HTTP 403: no right"), TokenInvalid("quotes only")])
def test_an_exit_no_quote_can_be_read_for_is_canceled_and_sent_anew(breached: World, error: Exception) -> None:
    """The account has no right to market data: only a new order is priced, by the exchange."""
    breached.broker.quote = _fails(error)  # type: ignore[method-assign]
    breached.serve(E.STOPLOSS)
    breached.pass_time(50)
    assert breached.broker.canceled == ["B2"]
    assert breached.sides() == [BUY, SELL, SELL]
    assert breached.alerts() == ["exit_rests"]


def test_a_quote_that_fails_once_takes_no_exit_back(breached: World) -> None:
    told = breached.broker.quote
    breached.broker.quote = _fails(BrokerUnreachable("HTTP 429"))  # type: ignore[method-assign]
    breached.serve(E.STOPLOSS)
    breached.pass_time(32)
    breached.broker.quote = told  # type: ignore[method-assign]
    breached.pass_time(120)
    assert (breached.broker.canceled, len(breached.broker.modified)) == ([], 1)


@pytest.mark.parametrize("error", [BrokerUnreachable("no answer"), TokenInvalid("token")])
def test_an_exit_stays_where_it_rests_while_nothing_can_be_read(breached: World, error: Exception) -> None:
    """Nothing could follow one that is taken back before the book has said what became of it."""
    breached.serve(E.STOPLOSS)
    breached.pass_time(31)
    breached.broker._read = _fails(error)  # type: ignore[method-assign]
    breached.pass_time(200)
    assert breached.broker.canceled == []


def test_a_stop_that_meets_an_exit_no_quote_can_be_read_for_sells_by_a_new_order_in_seconds(world: World) -> None:
    """It meets the exit of the schedule, which rests above the market."""
    world.buy()
    world.clock.jump(SELL_AT)
    world.serve(E.SELL, "sell")
    world.pass_time(5)
    world.breach(STOP)
    world.broker.quote = _fails(BrokerUnreachable("HTTP 403: no right"))  # type: ignore[method-assign]
    world.serve(E.STOPLOSS)
    world.pass_time(8)
    assert world.sides() == [BUY, SELL, SELL]


def test_a_stop_that_meets_an_exit_while_nothing_can_be_read_leaves_the_run_looked_after(world: World) -> None:
    """The exit of the schedule was canceled at the broker, and the push that told so was lost."""
    world.buy()
    world.clock.jump(SELL_AT)
    world.serve(E.SELL, "sell")
    world.broker._read = _fails(BrokerUnreachable("no answer"))  # type: ignore[method-assign]
    world.pass_time(10)
    world.breach(STOP)
    world.serve(E.STOPLOSS)
    world.broker.end("B2", OrderStatus.CANCELED)
    world.pass_time(10)
    del world.broker._read
    world.broker.quote = _fails(BrokerUnreachable("HTTP 429"))  # type: ignore[method-assign]
    world.pass_time(20)
    assert world.sides() == [BUY, SELL, SELL]


def test_an_exit_at_a_band_the_market_has_left_is_sent_anew_as_often_as_it_rests_too_long(breached: World) -> None:
    """The exchange has widened the band, and the broker's quote goes on telling the old one."""
    breached.serve(E.STOPLOSS)
    breached.pass_time(35)
    for _ in range(60):
        _quote(breached, last=85, lowest=90)
        breached.pass_time(1)
    assert breached.broker.canceled == ["B2", "B3"]
    assert breached.sides() == [BUY, SELL, SELL, SELL]
    assert breached.alerts() == ["exit_rests"]


def test_no_exit_is_lowered_to_a_band_the_market_has_left(breached: World) -> None:
    """Its book tells no limit: what was asked for is all that is known, and it would rest above the market."""
    breached.broker.tells_limits = False
    breached.serve(E.STOPLOSS)
    breached.clock.advance(20)
    _quote(breached, last=85, lowest=90)
    breached.pass_time(20)
    assert (breached.broker.modified, breached.sides()) == ([], [BUY, SELL, SELL])


def test_an_exit_at_the_days_lowest_price_keeps_its_place_whatever_was_paid_before_it_rested(breached: World) -> None:
    """Nobody has traded since: the last price is one of yesterday, below the band of today."""
    _quote(breached, last=85, lowest=90)
    breached.clock.advance(1)
    breached.serve(E.STOPLOSS)
    breached.pass_time(200)
    assert (breached.broker.canceled, len(breached.broker.modified)) == ([], 1)


def _edit(world: World, name: str, quantity: int) -> None:
    """The owner changes the quantity of an order in the broker's app."""
    world.push(world.broker._set(name, quantity=quantity))


def _may_still(side: Side, world: World) -> int:
    open_orders = [each.evidence for each in world.broker.book.values() if each.side is side]
    return sum(each.quantity - each.filled_quantity for each in open_orders if each.status not in TERMINAL)


@pytest.mark.parametrize("filled", [0, 2])
@pytest.mark.parametrize("quantity", [4, 25])
def test_an_exit_whose_quantity_its_owner_changes_is_sent_anew_with_all_that_is_held(
    breached: World, quantity: int, filled: int
) -> None:
    breached.serve(E.STOPLOSS)
    breached.push(breached.broker.fill("B2", filled) if filled else breached.broker.book["B2"])
    breached.pass_time(2)
    _edit(breached, "B2", quantity)
    breached.pass_time(10)
    assert breached.broker.canceled == ["B2"]
    assert _may_still(Side.SELL, breached) == breached.run().held == QUANTITY - filled
    assert breached.alerts() == []


def test_an_entry_its_owner_raises_is_taken_back_and_sent_anew(world: World) -> None:
    world.buy(quantity=0)
    world.push(world.broker.book["B1"])
    _edit(world, "B1", 40)
    world.pass_time(10)
    assert world.broker.canceled == ["B1"]
    assert _may_still(Side.BUY, world) == QUANTITY
    assert world.alerts() == []


def test_an_entry_its_owner_lowers_rests_on_and_is_told_of_once_it_fills(world: World) -> None:
    world.buy(quantity=0)
    world.push(world.broker.book["B1"])
    _edit(world, "B1", 4)
    world.pass_time(6)
    assert (world.broker.canceled, world.alerts()) == ([], [])
    world.push(world.broker.fill("B1"))
    assert (world.run().held, world.alerts()) == (4, ["bought_in_part"])


@pytest.mark.parametrize(("quantity", "is_sold"), [(4, True), (25, False)])
def test_what_an_edited_exit_may_still_sell_is_what_it_leaves_to_the_other_runs(
    world: World, quantity: int, is_sold: bool
) -> None:
    """Two runs of ten; the owner sold six of the twenty. The one's exit rests and cannot be canceled."""
    world.buy()
    world.buy(run(spec=strategy(id=8), stop_units=STOP - 100))
    world.clock.advance(60)
    world.broker.trade_by_hand(Side.SELL, 6)
    world.pass_time(8)
    world.broker.cancel_answers.extend([Answer(REFUSED)] * 1000)
    assert world.price(STOP) == 1
    world.serve(E.STOPLOSS)
    world.push(world.broker.book[f"B{len(world.broker.sent)}"])
    _edit(world, f"B{len(world.broker.sent)}", quantity)
    world.pass_time(4)
    sent = len(world.broker.sent)
    assert world.price(STOP - 100) == 1
    world.serve(E.STOPLOSS, "sl-8", run_id(8))
    world.pass_time(3)
    assert world.sides()[sent:] == ([SELL] if is_sold else [])
