"""What an order that may still trade needs: doubt is settled by the book, silence too, and resting has an end."""

from collections.abc import Iterator

from engine.domain.action import Abort, Cancel, Decision, GiveUp, Ignore, Policy, Reprice, Wait
from engine.domain.exits import ask, covers_too_little, is_exit_due, is_needless, is_session_over
from engine.domain.moment import Moment
from engine.domain.orders import Leg, Order, OrderStatus
from engine.domain.run import Run, RunStatus

#: Why an order nobody takes is priced anew, or taken back.
RESTS_TOO_LONG = "resting_too_long"


def watch(run: Run, now: Moment, policy: Policy) -> Decision:
    """What the run's orders need now, or the wait until one of them does."""
    waits: list[Wait] = []
    for decision in _each(run, now, policy):
        if isinstance(decision, Wait):
            waits.append(decision)
        elif not isinstance(decision, Ignore):
            return decision
    return min(waits, key=lambda wait: wait.until) if waits else Ignore("nothing_new")


def _each(run: Run, now: Moment, policy: Policy) -> Iterator[Decision]:
    for order in run.orders:
        if order.is_live:
            decision = _live(run, order, now, policy)
            if isinstance(decision, Wait) and order.is_unconfirmed and now.real < order.settles_at:
                # However seldom it is asked to be canceled: as its doubt ends the next attempt is due.
                decision = Wait(min(decision.until, order.settles_at))
            yield decision
        elif order.is_watched:
            yield _given_up(run, order, now, policy)


def _live(run: Run, order: Order, now: Moment, policy: Policy) -> Decision:
    if order.is_doubtful or (order.is_unconfirmed and now.real >= order.settles_at):
        return _doubtful(run, order, now, policy)
    known_at = order.updated_at or order.send_by
    if order.is_resting and (why := _no_longer_wanted(run, order, now)):
        return _take_back(run, order, why, now, policy)
    if order.status is OrderStatus.CANCEL_PENDING:
        return _take_back(run, order, RESTS_TOO_LONG, now, policy)
    resting_since = max(order.send_by, order.repriced_at or order.send_by)
    is_held_back = (run.is_frozen and order.leg is Leg.EXIT) or is_session_over(run, now)
    if now.real >= resting_since + policy.rest_limit and not is_held_back:
        # An exit keeps its place in the queue: without it a falling market would never reach it.
        return (Reprice if order.leg is Leg.EXIT else Cancel)(order, RESTS_TOO_LONG)
    # What a silent entry bought is to be sold at once where its stop is reached already, by an exit that does stand.
    is_urgent = (order.leg is Leg.ENTRY or order.is_unconfirmed) and is_exit_due(run, now)
    limit = policy.ask_interval if is_urgent else policy.silence_limit
    if now.real >= known_at + limit:
        return ask(run, "silent", now, limit)
    return Wait(known_at + limit)


def _take_back(run: Run, order: Order, why: str, now: Moment, policy: Policy) -> Decision:
    """Cancel it: again for as long as the book shows it, for a cancel may be lost, or refused."""
    asked_at = order.updated_at or order.send_by
    # What is to be sold waits for it. One that cannot be canceled must not use up the account's calls.
    first = policy.ask_interval if is_exit_due(run, now) else policy.silence_limit
    limit = min(first * 2 ** min(max(0, order.cancels - 1), 16), policy.rest_limit)
    if is_session_over(run, now):
        return ask(run, "cancel_unanswered", now, policy.watch_interval)
    if order.status is not OrderStatus.CANCEL_PENDING:
        return Cancel(order, why)
    if now.real < asked_at + limit:
        return Wait(asked_at + limit)
    is_shown = run.book_read_at is not None and run.book_read_at > asked_at
    return Cancel(order, why) if is_shown else ask(run, "cancel_unanswered", now, limit)


def _no_longer_wanted(run: Run, order: Order, now: Moment) -> str:
    """Why a live order is taken back, "" where it may stand."""
    if is_needless(run, order):
        return "needless"
    return "covers_too_little" if order.leg is Leg.EXIT and covers_too_little(run, order, now) else ""


def _doubtful(run: Run, order: Order, now: Moment, policy: Policy) -> Decision:
    if run.book_read_at is not None and run.book_read_at >= order.settles_at:
        return GiveUp(order)
    if run.status is RunStatus.ACTIVE and now.real >= order.settles_at + policy.doubt_limit:
        return Abort("attempt_unsettled")
    if order.status is OrderStatus.SENDING and now.real < order.send_by:
        return Wait(order.send_by)
    return ask(run, "in_doubt", now, policy.ask_interval)


def _given_up(run: Run, order: Order, now: Moment, policy: Policy) -> Decision:
    """It appeared all the same: another one is in its place. Else the book is asked until its session is over."""
    if order.has_appeared:
        return _take_back(run, order, "given_up_before_it_appeared", now, policy)
    if _is_over(run, now):
        return Ignore("session_over")
    over_at = now.when(run.closes_at)
    asked = ask(run, "given_up", now, policy.watch_interval)
    return Wait(max(over_at, now.real)) if isinstance(asked, Wait) and now.real < over_at < asked.until else asked


def is_watched_out(run: Run, now: Moment) -> bool:
    """Whether nothing that was given up can trade any more."""
    return not run.watched or _is_over(run, now)


def _is_over(run: Run, now: Moment) -> bool:
    """Whether the book was read after the session's end: what did not appear by then never will."""
    return run.book_read_at is not None and run.book_read_at >= now.when(run.closes_at)
