"""Why an exit that is due does not stand at its broker, and when somebody is told of that.

Pure. What is sold, and what stands before it, is `engine.domain.exits`.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from engine.domain.action import Ignore, Tell, Untold, Wait
from engine.domain.moment import Moment
from engine.domain.orders import SEND_WITHIN, TERMINAL, Leg, Order, OrderStatus
from engine.domain.routing import Alert
from engine.domain.run import PASSING_TROUBLES, Run

#: How long an exit that is due may be without an order that is known to stand at its broker before somebody is told.
TOLD_AFTER = timedelta(seconds=2)


def tell_why(run: Run, now: Moment) -> Tell | Wait | Ignore:
    """Tell somebody why the exit of `run`, which is due, does not stand at its broker, once it is time to."""
    for since, tell in _untold(run):
        return tell if now.real >= since + TOLD_AFTER else Wait(since + TOLD_AFTER)
    return Ignore("nothing_to_tell")


def _untold(run: Run) -> Iterator[tuple[datetime, Tell]]:
    """What the exit waits for that nobody was told of, and since when, real time."""
    exiting = run.live(Leg.EXIT)
    if exiting is not None:
        since = _in_doubt_since(exiting)
        if since is not None and not exiting.doubt_alerted:
            yield since, Tell(Untold.IN_DOUBT, exiting)
        return
    refused = _refused(run)
    if refused and not (any(order.refusal_alerted for order in refused) or _is_told_of_trouble(run)):
        yield refused[0].send_by - SEND_WITHIN, Tell(Untold.REFUSED, refused[-1])
    if run.cover_awaited_since is not None and not (run.cover_awaited_told or run.uncovered_told):
        yield run.cover_awaited_since, Tell(Untold.UNCOVERED)


def _in_doubt_since(exiting: Order) -> datetime | None:
    """Since when nobody knows whether it stands at its broker, real time; None where that is known."""
    if exiting.is_doubtful:
        return exiting.send_by - SEND_WITHIN
    if not exiting.is_unconfirmed:
        return None
    return max(exiting.updated_at or exiting.send_by, exiting.unseen_since or exiting.send_by - SEND_WITHIN)


def _refused(run: Run) -> list[Order]:
    """The last exits that came to nothing, one after the other in this session: what we took back was no failure."""
    refused: list[Order] = []
    for order in sorted((each for each in run.orders if each.leg is Leg.EXIT), key=lambda each: -each.attempt):
        has_failed = order.status in TERMINAL and not (order.filled_quantity or order.was_taken_back)
        if not has_failed or order.session_ends != run.closes_at:
            break
        refused.insert(0, order)
    return refused


def _is_told_of_trouble(run: Run) -> bool:
    return any(code in PASSING_TROUBLES for code in run.failure.split("; "))


def told_why(run: Run, tell: Tell) -> tuple[Run, Alert]:
    """`run` once somebody was told why its exit waits, and the alert: once an order, or for as long as it waits."""
    if tell.order is None:
        return replace(run, cover_awaited_told=True), Alert("critical", tell.what, _uncovered(run))
    if tell.what is Untold.REFUSED:
        told, message = replace(tell.order, refusal_alerted=True), _why_refused(run, tell.order)
    else:
        told, message = replace(tell.order, doubt_alerted=True), _in_doubt(run, tell.order)
    return run.with_order(told), Alert("critical", tell.what, message)


def _in_doubt(run: Run, order: Order) -> str:
    what = "its answer was lost" if order.is_doubtful else "was accepted, and the broker's book does not show it"
    if order.status is OrderStatus.SENDING:
        what = "nothing was heard of it since"
    return (
        f"an exit of {order.quantity} of {run.strategy.symbol}, order {order.client_order_id}, was sent at "
        f"{order.send_by - SEND_WITHIN:%H:%M:%S} UTC and {what}: the engine asks the broker's book what became of it, "
        f"and sends no second one until {order.settles_at:%H:%M:%S} UTC, or for as long as the book cannot be read; "
        "look in the broker's app whether it stands: if it does not, `engine strategy resolve` has the next one sent"
    )


def _why_refused(run: Run, order: Order) -> str:
    next_at = f"at {run.exit_retry_at:%H:%M:%S} UTC" if run.exit_retry_at else "as soon as the book has told its end"
    return (
        f"an exit of {order.quantity} of {run.strategy.symbol} is due, and its broker refused it, or ended it unfilled "
        f"({order.reason or order.status}), last order {order.client_order_id}: the next one is sent {next_at}, and so "
        "on until all is sold"
    )


def _uncovered(run: Run) -> str:
    return (
        f"an exit of {run.held} of {run.strategy.symbol} ({run.strategy.product}) is due since "
        f"{run.cover_awaited_since:%H:%M:%S} UTC at the latest, and the broker's positions show nothing that it could "
        "sell: they are read again every second, and what they show is sold at once; they may lag behind the purchase, "
        "or somebody else has sold: then `engine strategy resolve` ends the run"
    )
