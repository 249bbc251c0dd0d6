"""Orders that ended with more filled, by their trades or a push, than the broker's book says: one of them is wrong.

Pure. What is sold goes by the greater number, for a share that is sold twice is a short; a human must look.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from engine.domain.orders import TERMINAL, Evidence, Order, OrderStatus
from engine.domain.routing import Alert
from engine.domain.run import Run

#: How long a book may be behind what is known of an order before somebody is told.
AGREES_WITHIN = timedelta(seconds=15)


def told_of_disputes(run: Run, booked: Iterable[Evidence], at: datetime) -> tuple[Run, tuple[Alert, ...]]:
    """`run` whose book, read at real time `at`, says `booked` of its orders, and the alerts; once an order."""
    said, alerts = {item.client_order_id: item for item in booked}, list[Alert]()
    for order in run.orders:
        item = said.get(order.client_order_id)
        # A book that lacks it takes nothing back.
        since = order.disputed_since if item is None else _disputed_since(order, item, at)
        is_told = order.dispute_alerted or (since is not None and at >= since + AGREES_WITHIN)
        if is_told and not order.dispute_alerted:
            alerts.append(Alert("critical", "fills_disputed", _message(run, order, item)))
        run = run.with_order(replace(order, disputed_since=since, dispute_alerted=is_told))
    return run, tuple(alerts)


def _disputed_since(order: Order, item: Evidence, at: datetime) -> datetime | None:
    """Since when, real time. A complete order whose book is behind its trades is complete all the same."""
    ended_short = item.status in TERMINAL and item.status is not OrderStatus.FILLED
    is_disputed = ended_short and order.filled_quantity > item.filled_quantity
    return (order.disputed_since or at) if is_disputed else None


def _message(run: Run, order: Order, item: Evidence | None) -> str:
    said = "lacks it since" if item is None else f"says {item.filled_quantity} filled, {item.status}"
    return (
        f"an {order.leg} of {order.quantity} of {run.strategy.symbol}, order {order.broker_order_id} at the broker, "
        f"filled {order.filled_quantity} by its trades, and the broker's book {said}: the engine goes by "
        f"{order.filled_quantity}; look in the broker's app at the position, and sell there what is left over"
    )
