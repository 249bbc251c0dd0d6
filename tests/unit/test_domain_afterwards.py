"""What is news of an order whose run has ended."""

import pytest

from engine.domain.afterwards import is_beyond
from engine.domain.orders import Evidence, Order, OrderStatus
from tests.builders import entry, evidence

S = OrderStatus
FILLED = entry(S.FILLED, 10, broker_order_id="B1")

#: What its run knew, what is told, and whether that is more.
CASES: list[tuple[Order | None, Evidence, bool]] = [
    (None, evidence(FILLED, S.ACCEPTED), True),
    (None, evidence(FILLED, S.CANCELED), False),
    (None, evidence(FILLED, S.CANCELED, 4), True),
    (FILLED, evidence(FILLED, S.FILLED, 10, broker_order_id="B1"), False),
    (entry(S.CANCELED, 4, broker_order_id="B1"), evidence(FILLED, S.CANCELED, 6, broker_order_id="B1"), True),
    # Another order under the same id is another position.
    (FILLED, evidence(FILLED, S.FILLED, 10, broker_order_id="B2"), True),
    (FILLED, evidence(FILLED, S.ACCEPTED, broker_order_id="B2"), True),
    (FILLED, evidence(FILLED, S.REJECTED, broker_order_id="B2"), False),
    # One that only an answer called refused, and that stands all the same; its book called the other one refused.
    (entry(S.REJECTED, seen=False), evidence(FILLED, S.ACCEPTED), True),
    (entry(S.REJECTED, seen=True), evidence(FILLED, S.ACCEPTED), False),
    # Whoever did not learn its order id cannot tell it from another.
    (entry(S.FILLED, 10, broker_order_id=""), evidence(FILLED, S.FILLED, 10, broker_order_id="B2"), False),
]


@pytest.mark.parametrize(("known", "told", "is_news"), CASES)
def test_a_fill_more_than_its_run_knew_is_news(known: Order | None, told: Evidence, is_news: bool) -> None:
    assert is_beyond(known, told) is is_news
