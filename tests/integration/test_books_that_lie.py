"""A book that is empty for a while beside right positions: nothing is sent a second time for it."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from engine.domain.broker import NetPosition
from engine.domain.events import EventType
from engine.domain.orders import Product, Side
from tests.builders import QUANTITY, STOP, SYMBOL
from tests.world import World

BUY, SELL = (Side.BUY, QUANTITY), (Side.SELL, QUANTITY)


@contextmanager
def _empty_book(world: World, held: int) -> Iterator[None]:
    """The book is empty, and positions say `held` as they are."""
    book = dict(world.broker.book)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.broker, "held", lambda: [NetPosition(SYMBOL, Product.INTRADAY, held)])
        world.broker.book.clear()
        yield
    world.broker.book.update(book)


def test_an_empty_book_beside_a_resting_exit_sends_no_second_one_and_is_told_of(world: World) -> None:
    world.buy()
    world.clock.advance(60)
    world.breach(STOP)
    world.serve(EventType.STOPLOSS)
    world.push(world.broker.book["B2"])
    world.pass_time(8)
    with _empty_book(world, QUANTITY):
        world.pass_time(100)
        assert world.sides() == [BUY, SELL]
        assert "book_unreadable" in world.alerts()
    world.push(world.broker.fill("B2"))
    world.pass_time(5)
    assert world.ended()
    assert world.broker.held()[0].quantity == 0


def test_an_empty_book_beside_a_resting_entry_sends_no_second_one(world: World) -> None:
    world.buy(quantity=0)
    world.push(world.broker.book["B1"])
    world.pass_time(3)
    with _empty_book(world, 0):
        world.pass_time(25)
    world.pass_time(2)
    world.push(world.broker.fill("B1"))
    world.pass_time(5)
    assert (world.sides(), world.run().held) == ([BUY], QUANTITY)
