"""Whether a book may be a whole one: it shows what it has shown before, for as long as that session lasts."""

from datetime import datetime, timedelta

import pytest

from engine.domain.moment import Moment
from engine.domain.orders import Order, OrderStatus
from engine.domain.whole_book import why_not_whole
from tests.builders import BUY_AT, CLOSES, S, entry, exit_, run

BOUGHT = entry(OrderStatus.FILLED, 10, session_ends=CLOSES)
RESTING = exit_(OrderStatus.ACCEPTED, session_ends=CLOSES)
PLACED = exit_(OrderStatus.ACCEPTED, session_ends=CLOSES, seen=False)
DAY, NEXT_DAY = BUY_AT + timedelta(minutes=1), CLOSES + S
BOTH = {BOUGHT.client_order_id, RESTING.client_order_id}


@pytest.mark.parametrize(
    ("orders", "shown", "at", "is_whole"),
    [
        pytest.param((BOUGHT, RESTING), BOTH, DAY, True, id="all are shown"),
        pytest.param((BOUGHT, RESTING), {BOUGHT.client_order_id}, DAY, True, id="it lacks one that rested"),
        pytest.param((BOUGHT, RESTING), {RESTING.client_order_id}, DAY, False, id="it lacks one that had ended"),
        pytest.param((BOUGHT, PLACED), {BOUGHT.client_order_id}, DAY, True, id="it lacks one it never showed"),
        pytest.param(
            (entry(OrderStatus.ACCEPTED, session_ends=CLOSES), RESTING),
            set(),
            DAY,
            False,
            id="it lacks two that rested",
        ),
        pytest.param((BOUGHT, RESTING), set(), NEXT_DAY, True, id="its session is over"),
    ],
)
def test_a_book_is_whole_where_it_shows_what_it_has_shown(
    orders: tuple[Order, ...], shown: set[str], at: datetime, is_whole: bool
) -> None:
    assert (why_not_whole(run(*orders), shown, Moment(at, at)) == "") is is_whole
