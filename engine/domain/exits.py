"""When what is held is sold: one attempt at a time, only what the account still has, whichever cause asks."""

from datetime import datetime, timedelta

from engine.domain.action import AskBook, Cancel, Decision, Ignore, Policy, Submit, Wait
from engine.domain.moment import Moment
from engine.domain.orders import Leg, Order, OrderStatus, Product
from engine.domain.run import ExitReason, NetSeen, Run
from engine.domain.strategy import StopMode

#: How far past its session's end an exit may still be sent; market time.
AFTER_CLOSE = timedelta(minutes=1)
#: How far apart the clocks of two machines may be.
CLOCKS_APART = timedelta(seconds=1)
#: Causes from the weakest to the strongest: a stronger one does not wait for a weaker one's resting order.
STRENGTH = (ExitReason.SCHEDULE, ExitReason.SAFETY_ABORT, ExitReason.FORCE_STOP, ExitReason.STOP_LOSS)


def sell_all(run: Run, reason: ExitReason, now: Moment, policy: Policy) -> Decision:
    """Sell everything held for `reason`, or what stands before it."""
    return _sell(run, run.held, reason, now, policy)


def sell_surplus(run: Run, now: Moment, policy: Policy) -> Decision:
    """Sell what was bought beyond the quantity: two attempts filled where one was wanted."""
    surplus = run.held - run.strategy.quantity
    return _sell(run, surplus, None, now, policy) if surplus > 0 else Ignore("no_surplus")


def is_session_over(run: Run, now: Moment) -> bool:
    """Whether nothing of this run can be sold any more."""
    return now.market > run.closes_at + AFTER_CLOSE


def ask(run: Run, reason: str, now: Moment, interval: timedelta) -> Decision:
    """Ask the book, but not again within `interval`."""
    if run.book_asked_at is not None and now.real < run.book_asked_at + interval:
        return Wait(run.book_asked_at + interval)
    return AskBook(reason)


def _sell(run: Run, quantity: int, reason: ExitReason | None, now: Moment, policy: Policy) -> Decision:
    if quantity <= 0:
        return Ignore("not_bought")
    if run.is_frozen:
        return Ignore("frozen")
    if run.stop_requested is StopMode.LEAVE:
        # Its user keeps it: an exit sent now would only be taken back again.
        return Ignore("left")
    if exiting := run.live(Leg.EXIT):
        return _escalate(run, exiting, reason, now)
    return _blocked(run, now) or _uncovered(run, now, policy) or Submit(Leg.EXIT, quantity, reason)


def _blocked(run: Run, now: Moment) -> Decision | None:
    if is_session_over(run, now):
        return Ignore("session_over")
    if run.dirty:
        # The book may hold an exit we do not know of; a second one would be a short.
        return Ignore("book_unread")
    return Wait(run.retry_at) if run.retry_at and now.real < run.retry_at else None


def _escalate(run: Run, exiting: Order, reason: ExitReason | None, now: Moment) -> Decision:
    """A stronger cause meets an exit that rests: it is taken back, for the next one to be priced anew."""
    if reason is None or exiting.status is OrderStatus.CANCEL_PENDING or not exiting.is_resting:
        return Ignore("exit_in_flight")
    if run.exit_reason is not None and STRENGTH.index(reason) <= STRENGTH.index(run.exit_reason):
        return Ignore("exit_in_flight")
    return Wait(exiting.send_by) if now.real < exiting.send_by else Cancel(exiting, f"escalated by {reason}")


def _uncovered(run: Run, now: Moment, policy: Policy) -> Decision | None:
    """What must come first where the account may no longer have what we hold: a person or the broker may have sold."""
    told = [order.updated_at for order in run.orders if order.updated_at is not None and order.filled_quantity]
    proven_at = max(told, default=None)
    if run.net is not None and _knows_of(run, run.net, proven_at):
        if run.net.quantity < run.held:
            return ask(run, "not_covered", now, policy.silence_limit)
        proven_at = run.net.at
    return None if _is_fresh(run, proven_at, now, policy) else ask(run, "position_unproven", now, policy.ask_interval)


def _knows_of(run: Run, net: NetSeen, last_fill: datetime | None) -> bool:
    """Whether the account was read after our last fill: with the book that told of it, or clearly later."""
    if last_fill is None or net.at > last_fill + CLOCKS_APART:
        return True
    return run.book_read_at is not None and last_fill <= run.book_read_at <= net.at


def _is_fresh(run: Run, proven_at: datetime | None, now: Moment, policy: Policy) -> bool:
    squared_off = run.strategy.product is Product.INTRADAY and now.market >= run.closes_at - policy.square_off
    limit = policy.square_off_trust if squared_off else policy.trust_limit
    return proven_at is not None and now.real - proven_at <= limit
