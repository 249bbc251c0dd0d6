"""The life of a run between two commits: evidence absorbed, abort, STOP. Pure but for the timers it cancels.

The ten steps are in `engine.pipeline`; what to do next is `engine.domain.decision`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from engine.domain.broker import BookEntry
from engine.domain.orders import Evidence, Leg, Order, OrderStatus
from engine.domain.routing import Alert, apply_ends
from engine.domain.run import SIDE_OF, Run, RunStatus, client_order_id, parse_client_order_id


@dataclass(frozen=True, slots=True)
class Absorbed:
    """A run after evidence, what to tell a human, and the time of its first fill if this was it."""

    run: Run
    alerts: tuple[Alert, ...] = ()
    first_fill: datetime | None = None


def absorb(run: Run, evidence: Iterable[Evidence], real: datetime, market: datetime) -> Absorbed:
    """`run` after `evidence`: fills move the position, ends lead to the next attempt."""
    after, known = run, {order.client_order_id for order in run.orders}
    for item in evidence:
        # An attempt of ours that we do not know of: the book adopts it.
        after = after.absorb(item, real) if item.client_order_id in known else replace(after, dirty=True)
    if after == run:
        return Absorbed(run)
    routed = apply_ends(run, after, real)
    alerts = (*routed.alerts, *_excess(run, after))
    return Absorbed(routed.run, alerts, _first_fill(run, after, market))


def _first_fill(before: Run, after: Run, market: datetime) -> datetime | None:
    if before.filled(Leg.ENTRY) > 0 or after.filled(Leg.ENTRY) == 0:
        return None
    times = [order.filled_at for order in after.orders if order.filled_at and order.leg is Leg.ENTRY]
    return min(times, default=market)


def _excess(before: Run, after: Run) -> Iterator[Alert]:
    """What a human must know where more filled than was wanted, by whichever of the orders."""
    bought, wanted = after.filled(Leg.ENTRY), after.strategy.quantity
    if bought > max(before.filled(Leg.ENTRY), wanted):
        yield Alert("critical", "overfilled", f"bought {bought} of {wanted}: the exit sells all of it")
    if after.held < min(before.held, 0):
        yield Alert("critical", "oversold", f"sold {-after.held} more than bought: the account may be short")


def evidence_of(book: Iterable[BookEntry], run: Run) -> tuple[list[Evidence], tuple[Alert, ...]]:
    """What an order book proves of `run`'s orders; two orders under one id are a double, and alerted."""
    ours = {order.client_order_id for order in run.orders}
    by_id: dict[str, list[Evidence]] = {}
    for entry in book:
        if entry.tag in ours:
            by_id.setdefault(entry.tag, []).append(entry.evidence)
    doubles = tuple(
        Alert("critical", "double_order", f"{len(found)} orders at the broker under {tag}: resolve by hand")
        for tag, found in by_id.items()
        if len({item.broker_order_id for item in found}) > 1
    )
    return [_combined(found) for found in by_id.values()], doubles


def _combined(found: list[Evidence]) -> Evidence:
    """One statement of several orders under one id: what filled is what we hold, whichever of them filled it."""
    best = max(found, key=lambda item: item.filled_quantity)
    return replace(best, filled_quantity=sum(item.filled_quantity for item in found))


def next_order(run: Run, leg: Leg, quantity: int, deployment: str, send_by: datetime) -> Order:
    """The next attempt of `leg`, not yet granted."""
    attempt = run.attempts(leg) + 1
    return Order(
        client_order_id=client_order_id(deployment, run.id, leg, attempt),
        leg=leg,
        side=SIDE_OF[leg],
        attempt=attempt,
        quantity=quantity,
        status=OrderStatus.SENDING,
        send_by=send_by,
    )


def abort(run: Run, reason: str) -> tuple[Run, tuple[Alert, ...]]:
    """`run` after SAFETY_ABORT: failed, its entry blocked; the position is left to the strategy's policy."""
    kept = f" still holding {run.held}: policy {run.strategy.on_abort}" if run.held > 0 else ""
    alert = Alert("critical", "safety_abort", f"{reason};{kept or ' nothing held'}")
    return replace(run, status=RunStatus.FAILED, failure=reason, abort_requested=""), (alert,)


def finish(run: Run, status: RunStatus, reason: str) -> tuple[Run, tuple[Alert, ...]]:
    """`run` after STOP with `status`; what a human must know of it."""
    ended = replace(run, status=status, failure=run.failure if status is not RunStatus.MISSED else reason)
    if status is RunStatus.MISSED:
        return ended, (Alert("warning", "missed", f"not bought: {reason}"),)
    if run.held > 0:
        return ended, (Alert("critical", "position_left", f"stopped holding {run.held}, as asked"),)
    return ended, ()


def adopt(run: Run, book: Iterable[BookEntry], deployment: str, at: datetime) -> Run:
    """`run` with the orders of `book` that carry its ids and that it does not know: only ids we can recompute."""
    known = {order.client_order_id for order in run.orders}
    for entry in book:
        ours = parse_client_order_id(deployment, entry.tag)
        if ours is None or ours[0] != run.id or entry.tag in known:
            continue
        _, leg, attempt = ours
        order = Order(
            client_order_id=entry.tag,
            leg=leg,
            side=SIDE_OF[leg],
            attempt=attempt,
            quantity=entry.evidence.quantity,
            status=OrderStatus.UNKNOWN,
            send_by=at,
            broker_order_id=entry.evidence.broker_order_id,
        )
        run, known = run.with_order(order), known | {entry.tag}
    return run
