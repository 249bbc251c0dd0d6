"""Orders whose book says less than is known to have filled: told of after a while, and once."""

from datetime import timedelta

from engine.domain.disputes import AGREES_WITHIN, told_of_disputes
from engine.domain.orders import OrderStatus
from tests.builders import BUY_AT, entry, evidence, exit_, run

CANCELED = exit_(OrderStatus.CANCELED, 8)
BOOKED = [evidence(CANCELED, OrderStatus.CANCELED, 4)]


def test_it_is_told_of_once() -> None:
    disputed, alerts = told_of_disputes(run(entry(OrderStatus.FILLED, 10), CANCELED), BOOKED, BUY_AT)
    assert (disputed.is_disputed, alerts) == (True, ())
    told, alerts = told_of_disputes(disputed, BOOKED, BUY_AT + AGREES_WITHIN)
    assert (told.is_disputed, [alert.code for alert in alerts]) == (False, ["fills_disputed"])
    assert told_of_disputes(told, BOOKED, BUY_AT + 2 * AGREES_WITHIN) == (told, ())


def test_a_book_that_comes_to_lack_the_order_ends_no_dispute() -> None:
    disputed, _ = told_of_disputes(run(CANCELED), BOOKED, BUY_AT)
    _, alerts = told_of_disputes(disputed, [], BUY_AT + AGREES_WITHIN + timedelta(seconds=1))
    assert "lacks it" in alerts[0].message
