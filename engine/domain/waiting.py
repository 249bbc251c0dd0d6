"""Why an exit that is due does not stand at its broker, and when somebody is told of that.

Pure. What is sold, and what stands before it, is `engine.domain.exits`.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from engine.domain.action import Ignore, Tell, Wait
from engine.domain.moment import Moment
from engine.domain.orders import SEND_WITHIN, Leg, Order, OrderStatus
from engine.domain.routing import Alert
from engine.domain.run import Run

#: How long an exit that is due may be without an order that is known to stand at its broker before somebody is told.
TOLD_AFTER = timedelta(seconds=2)


def tell_why(run: Run, now: Moment) -> Tell | Wait | Ignore:
    """Tell somebody why the exit of `run`, which is due, does not stand at its broker, once it is time to."""
    exiting = run.live(Leg.EXIT)
    since = None if exiting is None else _in_doubt_since(exiting)
    if exiting is None or since is None or exiting.doubt_alerted:
        return Ignore("nothing_to_tell")
    return Tell(exiting) if now.real >= since + TOLD_AFTER else Wait(since + TOLD_AFTER)


def _in_doubt_since(exiting: Order) -> datetime | None:
    """Since when nobody knows whether it stands at its broker, real time; None where that is known."""
    if exiting.is_doubtful:
        return exiting.send_by - SEND_WITHIN
    if not exiting.is_unconfirmed:
        return None
    return max(exiting.updated_at or exiting.send_by, exiting.unseen_since or exiting.send_by - SEND_WITHIN)


def told_why(run: Run, order: Order) -> tuple[Run, Alert]:
    """`run` once somebody was told why its exit waits, by what became of `order`, and the alert; once an order."""
    what = "its answer was lost" if order.is_doubtful else "was accepted, and the broker's book does not show it"
    if order.status is OrderStatus.SENDING:
        what = "nothing was heard of it since"
    message = (
        f"an exit of {order.quantity} of {run.strategy.symbol}, order {order.client_order_id}, was sent at "
        f"{order.send_by - SEND_WITHIN:%H:%M:%S} UTC and {what}: the engine asks the broker's book what became of it, "
        f"and sends no second one until {order.settles_at:%H:%M:%S} UTC, or for as long as the book cannot be read; "
        "look in the broker's app whether it stands: if it does not, `engine strategy resolve` has the next one sent"
    )
    return run.with_order(replace(order, doubt_alerted=True)), Alert("critical", "exit_in_doubt", message)
