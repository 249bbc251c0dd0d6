"""One reading of an account: when it is of, and what happens to its orders while it is under way."""

from datetime import timedelta

import pytest

from engine.account_reading import read_account
from engine.domain.account_positions import AccountReading, SeenOrder
from engine.domain.broker import BookEntry
from engine.domain.orders import OrderStatus
from tests.builders import DEPLOYMENT, QUANTITY, book_entry, entry, evidence, exit_
from tests.fakes import FakeBroker, HandClock

RESTING, SELLING = entry(OrderStatus.ACCEPTED), exit_(OrderStatus.ACCEPTED)


def _read(broker: FakeBroker) -> tuple[dict[str, BookEntry], AccountReading]:
    book, reading = read_account(broker, DEPLOYMENT, broker.clock, begun="1:epoch 7")
    assert isinstance(reading, AccountReading)
    return {each.evidence.broker_order_id: each for each in book}, reading


def _fills_before_read(broker: FakeBroker, number: int, broker_id: str) -> None:
    """Let an order fill as read `number` is under way: 1 the book, 2 the positions."""

    def fill() -> None:
        if broker.reads == number:
            broker.fill(broker_id)

    broker.on_read = fill


def test_it_is_of_the_moment_it_was_asked_for() -> None:
    broker = FakeBroker(HandClock(), takes=2.0)
    asked_at = broker.clock.real
    assert _read(broker)[1].at == asked_at
    assert broker.clock.real == asked_at + timedelta(seconds=4)


def test_an_entry_that_fills_between_book_and_positions_is_in_both() -> None:
    broker = FakeBroker(HandClock())
    broker.book["B1"] = book_entry(evidence(RESTING, OrderStatus.ACCEPTED))
    _fills_before_read(broker, 2, "B1")
    book, reading = _read(broker)
    assert [position.quantity for position in reading.positions] == [QUANTITY]
    assert reading.orders == [SeenOrder(RESTING.client_order_id, 0, QUANTITY, True, QUANTITY)]
    assert book["B1"].evidence.filled_quantity == QUANTITY


def test_a_sale_that_fills_after_the_positions_counts_as_one_they_do_not_contain_yet() -> None:
    """It takes an entry that may fill for the book to be read again."""
    broker = FakeBroker(HandClock())
    broker.book["B1"] = book_entry(evidence(RESTING, OrderStatus.ACCEPTED))
    broker.book["B2"] = book_entry(evidence(SELLING, OrderStatus.ACCEPTED, broker_order_id="B2"))
    _fills_before_read(broker, 3, "B2")
    book, reading = _read(broker)
    assert reading.orders is not None
    assert SeenOrder(SELLING.client_order_id, 0, QUANTITY, True, QUANTITY) in reading.orders
    assert book["B2"].evidence.filled_quantity == QUANTITY


def test_two_orders_under_one_id_are_seen_as_what_both_filled() -> None:
    broker = FakeBroker(HandClock())
    broker.book["B1"] = book_entry(evidence(RESTING, OrderStatus.FILLED, 10))
    broker.book["B2"] = book_entry(evidence(RESTING, OrderStatus.PARTIALLY_FILLED, 4, broker_order_id="B2"))
    assert _read(broker)[1].orders == [SeenOrder(RESTING.client_order_id, 14, 14, False, 14)]


@pytest.mark.parametrize(
    ("status", "at_most"),
    [
        (OrderStatus.FILLED, QUANTITY),
        (OrderStatus.CANCELED, QUANTITY),
        (OrderStatus.PARTIALLY_FILLED, 4),
        (OrderStatus.REJECTED, 4),
    ],
)
def test_an_order_that_is_over_may_have_filled_more_than_its_book_tells_yet(status: OrderStatus, at_most: int) -> None:
    broker = FakeBroker(HandClock())
    broker.book["B2"] = book_entry(evidence(SELLING, status, 4, broker_order_id="B2"))
    (seen,) = _read(broker)[1].orders or ()
    assert (seen.before, seen.after, seen.at_most) == (4, 4, at_most)
