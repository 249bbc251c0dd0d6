"""When what is held is sold: one attempt at a time, only what the account still has, whichever cause asks."""

from collections.abc import Iterable
from datetime import timedelta

from engine.domain.action import AskBook, Decision, Ignore, Policy, Reprice, Submit, Tell, Wait
from engine.domain.broker import Quote
from engine.domain.moment import Moment
from engine.domain.orders import Leg, Order, OrderStatus, Product
from engine.domain.run import ExitReason, Run
from engine.domain.strategy import StopMode
from engine.domain.waiting import tell_why

#: How far past its session's end an exit may still be sent; market time.
AFTER_CLOSE = timedelta(minutes=1)
#: How far apart the clocks of two machines may be: what claims to be of later than that proves nothing. A worker whose
#: clock is behind by less goes by what others have read; the live state drops what its own clock calls of the future.
CLOCKS_APART = timedelta(seconds=10)
#: How long the account must have lacked what its runs hold until an exit that rests is taken back for that.
TAKEN_BACK_AFTER = timedelta(seconds=5)
#: How often an exit that rests is asked to be priced anew before it is canceled and sent again instead.
REPRICES = 2
#: Why the book is asked where what is known of the position is too old to sell by.
UNPROVEN = "position_unproven"
#: Causes from the weakest to the strongest: a stronger one does not wait for a weaker one's resting order.
STRENGTH = (ExitReason.SCHEDULE, ExitReason.SAFETY_ABORT, ExitReason.FORCE_STOP, ExitReason.STOP_LOSS)


def sell_all(run: Run, reason: ExitReason, now: Moment, policy: Policy) -> Decision:
    """Sell everything held for `reason`, or what stands before it."""
    return _sell(run, run.held, reason, now, policy)


def sell_surplus(run: Run, now: Moment, policy: Policy) -> Decision:
    """Sell what was bought beyond the quantity: two attempts filled where one was wanted."""
    surplus = run.held - run.strategy.quantity
    return _sell(run, surplus, None, now, policy) if surplus > 0 else Ignore("no_surplus")


def is_exit_due(run: Run, now: Moment) -> bool:
    """Whether something asks for what is held to be sold now."""
    is_stopped = run.stop_requested is StopMode.CLOSE
    return run.latch is not None or is_stopped or run.is_to_be_flattened or now.market >= run.sell_at


def is_session_over(run: Run, now: Moment) -> bool:
    """Whether nothing of this run can be sold any more."""
    return now.market > run.closes_at + AFTER_CLOSE


def ask(run: Run, reason: str, now: Moment, interval: timedelta) -> Decision:
    """Ask the book, but not again within `interval`."""
    if run.book_asked_at is not None and now.real < run.book_asked_at + interval:
        return Wait(run.book_asked_at + interval)
    return AskBook(reason)


def ask_what_became_of(orders: Iterable[Order], run: Run, now: Moment, policy: Policy) -> Decision:
    """Ask the book about `orders`, which ended short, once it can settle them."""
    settles_from = max(run.settles_from(order) for order in orders)
    return Wait(settles_from) if now.real < settles_from else ask(run, "attempt_unsettled", now, policy.ask_interval)


def _sell(run: Run, quantity: int, reason: ExitReason | None, now: Moment, policy: Policy) -> Decision:
    if quantity <= 0:
        return Ignore("not_bought")
    if run.is_frozen:
        return Ignore("frozen")
    if run.stop_requested is StopMode.LEAVE:
        # Its user keeps it: an exit sent now would only be taken back again.
        return Ignore("left")
    decision = _next_exit(run, quantity, reason, now, policy)
    if reason is None or isinstance(decision, Submit) or is_session_over(run, now):
        return decision
    return _telling(run, decision, now)


def _next_exit(run: Run, quantity: int, reason: ExitReason | None, now: Moment, policy: Policy) -> Decision:
    if exiting := run.live(Leg.EXIT):
        return _escalate(run, exiting, reason, now)
    if run.appeared(Leg.EXIT):
        return Ignore("exit_in_flight")
    return _blocked(run, now, policy) or _covered(run, quantity, reason, now, policy)


def _telling(run: Run, decision: Decision, now: Moment) -> Decision:
    """`decision`, for which no exit goes out that is due, or what somebody is to be told of that first."""
    told = tell_why(run, now)
    if isinstance(told, Tell):
        return told
    if isinstance(told, Wait) and isinstance(decision, Wait | Ignore):
        return min(told, decision, key=lambda wait: wait.until) if isinstance(decision, Wait) else told
    return decision


def _blocked(run: Run, now: Moment, policy: Policy) -> Decision | None:
    if is_session_over(run, now):
        return Ignore("session_over")
    if run.unread:
        # The book may hold an exit we do not know of; a second one would be a short.
        return ask(run, "book_unread", now, policy.ask_interval)
    if run.exit_retry_at and now.real < run.exit_retry_at:
        return Wait(run.exit_retry_at)
    if exits := [order for order in run.unsettled if order.leg is Leg.EXIT]:
        # What its broker called refused or canceled may rest or have filled.
        return ask_what_became_of(exits, run, now, policy)
    return None


def _escalate(run: Run, exiting: Order, reason: ExitReason | None, now: Moment) -> Decision:
    """A stronger cause meets an exit that rests: that order is priced anew."""
    is_going = exiting.status is OrderStatus.CANCEL_PENDING or not exiting.is_resting
    if reason is None or is_going or is_session_over(run, now):
        return Ignore("exit_in_flight")
    if is_needless(run, exiting):
        # It is taken back: priced anew it would only fill sooner.
        return Ignore("exit_needless")
    if run.exit_reason is not None and STRENGTH.index(reason) <= STRENGTH.index(run.exit_reason):
        return Ignore("exit_in_flight")
    return Wait(exiting.send_by) if now.real < exiting.send_by else Reprice(exiting, f"escalated by {reason}", reason)


def _covered(run: Run, quantity: int, reason: ExitReason | None, now: Moment, policy: Policy) -> Decision:
    """Sell what the account still has of it: a person or the broker may have sold, or the reading may be wrong."""
    has = quantity if run.net is None else min(quantity, run.net.quantity)
    if has <= 0:
        # One reading proves nothing: it is taken again, often until somebody was alerted, then less so.
        return ask(run, "not_covered", now, policy.uncovered_interval if run.uncovered_told else policy.ask_interval)
    if not _is_fresh(run, now, policy):
        return ask(run, UNPROVEN, now, policy.ask_interval)
    return Submit(Leg.EXIT, has, reason)


def is_needless(run: Run, order: Order) -> bool:
    """Whether more of a live order may fill than there is for it to buy or sell."""
    left = order.may_fill + order.beyond
    if order.leg is Leg.ENTRY:
        return left > max(0, run.strategy.quantity - run.filled(Leg.ENTRY))
    return left > run.held or _is_promised_twice(run)


def _is_promised_twice(run: Run) -> bool:
    """Whether the account's exits may sell more than it has, by readings of several seconds."""
    if run.net is None or run.net.quantity >= 0 or not run.uncovered_told or run.uncovered_since is None:
        return False
    if run.net.missing > run.uncovered:
        # More than was ever looked at, by this reading alone.
        return False
    return run.net.at >= run.uncovered_since + TAKEN_BACK_AFTER


def tells_the_lowest(exiting: Order, quote: Quote) -> bool:
    """Whether a quote's band says how low a limit may be: exchanges widen it, and who trades below it proves it old.

    A price of before the exit was sent proves nothing: it may be one of yesterday, and the band one of today.
    """
    is_left = 0 < quote.last_price < quote.lower_band
    has_traded_since = exiting.granted_at is None or quote.at > exiting.granted_at
    return quote.lower_band > 0 and not (is_left and has_traded_since)


def rests_at_the_lowest(exiting: Order, quote: Quote) -> bool:
    """Whether no price sells sooner: its limit is the day's lowest by its broker's word, or, where that does not tell,
    by ours and nothing trades above it. What trades above it would have filled it."""
    if exiting.limit_shown is not None:
        return exiting.limit_shown <= quote.lower_band
    is_asked_for = exiting.limit_price is not None and exiting.limit_price <= quote.lower_band
    return is_asked_for and quote.last_price <= quote.lower_band


def covers_too_little(run: Run, exiting: Order, now: Moment) -> bool:
    """Whether an exit rests that sells less than is to be sold: more was bought or is there since, or its owner
    lowered it."""
    left = exiting.may_fill
    wanted = run.held if is_exit_due(run, now) else run.held - run.strategy.quantity
    if run.net is None or run.net.at <= exiting.send_by:
        return False
    return min(wanted, run.net.quantity + left) > left


def is_cover_in_question(run: Run) -> bool:
    """Whether the account lacks more of what its runs hold than was told, or has some of it again after that."""
    if run.net is None or run.held <= 0:
        return False
    return run.net.missing != run.uncovered_told


def _is_fresh(run: Run, now: Moment, policy: Policy) -> bool:
    """Whether what is known of the position is young enough to sell by: a fill of its own or a reading."""
    squared_off = run.strategy.product is Product.INTRADAY and now.market >= run.closes_at - policy.square_off
    usual = policy.square_off_trust if squared_off else policy.trust_limit
    ages = [(_fill_known_for(order, now), usual) for order in run.orders if order.filled_quantity]
    if run.net is not None:
        # Asked for by this very exit: a broker that answers slowly has no newer word.
        is_asked_for = run.unproven_since is not None and run.net.at >= run.unproven_since
        ages.append((now.real - run.net.at, policy.trust_limit if is_asked_for else usual))
    return any(age is not None and -CLOCKS_APART <= age <= limit for age, limit in ages)


def _fill_known_for(order: Order, now: Moment) -> timedelta | None:
    """How old the news of an order's last fill is, real time: what was learned late says nothing of what came since."""
    if order.updated_at is None:
        return None
    learned = now.real - order.updated_at
    return learned if order.filled_at is None else max(learned, now.late(order.filled_at))
