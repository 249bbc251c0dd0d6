"""What follows an answer: the two routing tables, for a call's outcome and for evidence that comes later.

Pure: (outcome, leg, attempts, cause) -> Route. Says what becomes of the order and the run, not how it is stored.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from engine.domain.broker import REPEATABLE, Outcome, RejectCause, Reply
from engine.domain.orders import TERMINAL, Leg, Order, OrderStatus, OrderTrigger
from engine.domain.run import Run, RunStatus


class Route(StrEnum):
    """What an answer leads to."""

    AWAIT_FILL = "await_fill"
    #: The next attempt, after the attempt's delay.
    RETRY = "retry"
    #: An exit that keeps failing: failed and alerted, and on with backoff. Exits never exhaust.
    RETRY_AND_ALERT = "retry_and_alert"
    #: Ask the book before anything is sent again.
    SETTLE = "settle"
    ABORT = "abort"
    #: The exit stays wanted until the account is authenticated again.
    HOLD_FOR_TOKEN = "hold_for_token"  # noqa: S105 - a route, not a secret
    #: The sale waits for a person to authorise it; it is tried on all the same.
    HOLD_FOR_AUTHORISATION = "hold_for_authorisation"
    #: Nothing more of this attempt; the run's own fields say what is next.
    SETTLED = "settled"


#: Retries of an entry, and of an exit before it is called failed.
RETRIES = 3
#: Seconds before retry 1, 2, 3; an exit goes on doubling up to `LONGEST_DELAY`.
FIRST_DELAY = 1.0
LONGEST_DELAY = 30.0
#: How often an exit is tried while the account's token is dead, seconds.
TOKEN_DELAY = 5.0


def retry_delay(attempt: int) -> timedelta:
    """How long to wait after failed attempt number `attempt` (1 is the first): 1, 2, 4 ... 30 s."""
    return timedelta(seconds=min(FIRST_DELAY * 2 ** min(attempt - 1, 16), LONGEST_DELAY))


def route(outcome: Outcome, leg: Leg, attempt: int, cause: RejectCause | None = None) -> Route:
    """What follows the answer to placing attempt number `attempt` of `leg`."""
    match outcome:
        case Outcome.ACCEPTED:
            return Route.AWAIT_FILL
        case Outcome.TIMEOUT:
            return Route.SETTLE
        case Outcome.TOKEN_INVALID:
            return Route.ABORT if leg is Leg.ENTRY else Route.HOLD_FOR_TOKEN
        case Outcome.REJECTED | Outcome.SERVER_DOWN:
            return _refused(leg, attempt, cause)


def _refused(leg: Leg, attempt: int, cause: RejectCause | None) -> Route:
    if leg is Leg.ENTRY:
        return Route.ABORT if cause in REPEATABLE or attempt > RETRIES else Route.RETRY
    if cause is RejectCause.AUTHORISATION:
        return Route.HOLD_FOR_AUTHORISATION
    return Route.RETRY if attempt <= RETRIES else Route.RETRY_AND_ALERT


#: What an outcome does to the order it answers.
TRIGGER_OF: dict[Outcome, OrderTrigger] = {
    Outcome.ACCEPTED: OrderTrigger.ACCEPT,
    Outcome.REJECTED: OrderTrigger.REJECT,
    Outcome.TIMEOUT: OrderTrigger.DOUBT,
    Outcome.TOKEN_INVALID: OrderTrigger.REJECT,
    Outcome.SERVER_DOWN: OrderTrigger.REJECT,
}


#: Outcomes that prove that the broker took no order.
NOT_TAKEN: frozenset[Outcome] = frozenset({Outcome.SERVER_DOWN, Outcome.TOKEN_INVALID})


@dataclass(frozen=True, slots=True)
class Alert:
    """Something a human should know. `code` is stable; `message` says what and what to do."""

    severity: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Routed:
    """A run after an answer, and what to tell a human of it."""

    run: Run
    route: Route
    alerts: tuple[Alert, ...] = ()


def apply_reply(run: Run, order: Order, reply: Reply, at: datetime, *, is_not_taken: bool = False) -> Routed:
    """`run` after the broker answered `reply` to placing `order`, at real time `at`.

    `is_not_taken`: it is proven that the broker took no order, whatever is made of the reply.
    """
    chosen = route(reply.outcome, order.leg, _tries(run, order), reply.cause)
    moved = order.on(TRIGGER_OF[reply.outcome], at, reply.message)
    moved = replace(moved, broker_order_id=reply.broker_order_id, unsent=is_not_taken or reply.outcome in NOT_TAKEN)
    after = run.with_order(moved)
    return _follow(after, moved, chosen, at, reply.retry_after)


def apply_ends(before: Run, after: Run, at: datetime) -> Routed:
    """`after`, with what follows for every attempt that evidence ended since `before`.

    An attempt that ended unfilled or partly filled leads to the next one; a filled one needs nothing more.
    """
    run, chosen = after, Route.SETTLED
    alerts: tuple[Alert, ...] = ()
    known = {order.client_order_id: order for order in before.orders}
    for order in after.orders:
        old = known.get(order.client_order_id)
        if order.status not in TERMINAL or order.given_up:
            continue
        if order.status is OrderStatus.FILLED:
            # Where that is less than was ordered, somebody else lowered it.
            alerts += _bought_in_part(run, order) if old is None or old.status is not OrderStatus.FILLED else ()
            continue
        if old is not None and old.status is order.status:
            # Its end was known, and what it had filled by then is told only now.
            alerts += _bought_in_part(run, order) if order.filled_quantity > old.filled_quantity else ()
            continue
        if _is_taken_back(old, order):
            routed = _follow(run, order, Route.RETRY, at, 0.0)
        else:
            routed = _follow(run, order, _end_route(run, order), at, None)
        told = (*_bought_in_part(run, order), *_canceled_by_others(routed, order))
        run, alerts, chosen = routed.run, (*alerts, *routed.alerts, *told), routed.route
    return Routed(run, chosen, alerts)


def _bought_in_part(run: Run, ended: Order) -> tuple[Alert, ...]:
    """What to tell a human of an entry that ended short of its quantity, where its run goes on with what it bought."""
    is_leaving = run.stop_requested is not None or run.has_failed or run.live(Leg.EXIT) is not None
    is_whole = ended.filled_quantity >= ended.quantity
    if ended.leg is Leg.EXIT or not ended.filled_quantity or is_whole or is_leaving:
        return ()
    rest = "was taken off the order by somebody else" if ended.status is OrderStatus.FILLED else f"was {ended.status}"
    message = f"bought {ended.filled_quantity} of {ended.quantity}: the rest {rest} and is not bought"
    return (Alert("warning", "bought_in_part", message),)


def _canceled_by_others(routed: Routed, ended: Order) -> tuple[Alert, ...]:
    """What to tell a human of an entry that he, or its exchange, canceled, and that is bought again.

    The one is not told from the other: an exchange cancels for a moment's lack of sellers what is still wanted.
    """
    is_ours = ended.leg is Leg.EXIT or ended.cancels > 0 or ended.status is not OrderStatus.CANCELED
    if is_ours or ended.filled_quantity or routed.route is not Route.RETRY:
        return ()
    message = (
        f"entry {ended.client_order_id} was canceled at the broker, not by the engine, and is sent again: if you "
        "canceled it, stop the strategy with `engine strategy stop`"
    )
    return (Alert("warning", "entry_canceled", message),)


def _is_taken_back(before: Order | None, ended: Order) -> bool:
    """Whether an exit was canceled because we asked: no trouble, and the next one need not wait."""
    is_asked = before is not None and before.status is OrderStatus.CANCEL_PENDING
    return is_asked and ended.leg is Leg.EXIT and ended.status is OrderStatus.CANCELED


def _end_route(run: Run, order: Order) -> Route:
    if order.status is OrderStatus.REJECTED:
        return _refused(order.leg, _tries(run, order), RejectCause.OTHER)
    if order.leg is Leg.EXIT and not order.filled_quantity:
        # An exchange that ends every exit is one that refuses them.
        return _refused(order.leg, _tries(run, order), RejectCause.OTHER)
    return Route.SETTLED if order.leg is Leg.ENTRY and order.filled_quantity > 0 else Route.RETRY


def _follow(run: Run, order: Order, chosen: Route, at: datetime, retry_after: float | None) -> Routed:
    if run.is_frozen:
        # A human decides; no later trouble of an exit may take the place of why.
        return Routed(run, Route.SETTLED)
    retry_at = at + (timedelta(seconds=retry_after) if retry_after is not None else _delay_after(run, order))
    reason, routed = order.reason or str(order.status), Routed(run, chosen)
    match chosen:
        case Route.RETRY:
            routed = Routed(run.pausing(order.leg, retry_at), chosen)
        case Route.RETRY_AND_ALERT:
            message = f"exit attempt {order.attempt} failed ({reason}); tried again until flat"
            troubled = _troubled(run.pausing(order.leg, retry_at), chosen, "exit_keeps_failing", message)
            routed = replace(troubled, run=replace(troubled.run, status=RunStatus.FAILED))
        case Route.HOLD_FOR_TOKEN:
            routed = hold_for_token(run.pausing(order.leg, at + timedelta(seconds=TOKEN_DELAY)))
        case Route.HOLD_FOR_AUTHORISATION:
            held = run.pausing(order.leg, retry_at)
            routed = _troubled(held, chosen, "authorisation_needed", _authorise(run, reason))
        case Route.ABORT:
            routed = Routed(replace(run, abort_requested=f"entry_{order.status}: {reason}"), chosen)
        case Route.AWAIT_FILL | Route.SETTLE | Route.SETTLED:
            pass
    return routed


def _authorise(run: Run, reason: str) -> str:
    return (
        f"the broker wants the sale of {run.strategy.symbol} authorised at the depository ({reason}): do so in the "
        "broker's app or web page, under holdings; the exit is tried on meanwhile"
    )


def hold_for_token(run: Run) -> Routed:
    """`run` whose exit waits for its account's next login."""
    message = "the exit waits: authenticate the account again"
    return _troubled(run, Route.HOLD_FOR_TOKEN, "token_invalid", message)


def _tries(run: Run, order: Order) -> int:
    """How often its broker was tried for `order`, it included: what we took back of an exit was no failure of his."""
    return run.failures(order) if order.leg is Leg.EXIT else order.attempt


def _delay_after(run: Run, order: Order) -> timedelta:
    """What was canceled or expired is replaced at once, the first time; what fails again waits, but for no new day."""
    if order.session_ends is not None and order.session_ends < run.closes_at:
        # It is learned of only now that it ended with its session; the next one is no worse for that.
        return timedelta(0)
    refused = order.status is OrderStatus.REJECTED
    if order.leg is Leg.EXIT and order.filled_quantity and not refused:
        return timedelta(0)
    tries = _tries(run, order)
    return retry_delay(tries) if refused or tries > 1 else timedelta(0)


def _troubled(run: Run, chosen: Route, code: str, message: str) -> Routed:
    """`run` with its exit in trouble; told once, not at every attempt. Why it was aborted stays, and what follows."""
    is_told = code in run.failure.split("; ")
    failure = f"{run.failure}; {code}" if run.is_aborted else code
    return Routed(
        run if is_told else replace(run, failure=failure),
        chosen,
        () if is_told else (Alert("critical", code, message),),
    )
