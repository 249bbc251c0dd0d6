"""What to do next with a run: a pure function of the run, the event and the two clocks.

Level-triggered: everything is decided from the run's fields, so a lost event costs time and a repeated one
nothing. Says what to do, not how; `engine.domain.routing` says what follows an answer.
"""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from engine.domain.action import Abort, Action, Cancel, Decision, Finish, GiveUp, Ignore, Policy, Reprice, Submit, Wait
from engine.domain.events import EventType
from engine.domain.exits import (
    AFTER_CLOSE,
    ask,
    ask_what_became_of,
    is_cover_in_question,
    is_session_over,
    sell_all,
    sell_surplus,
)
from engine.domain.moment import Moment
from engine.domain.orders import SEND_WITHIN, Leg, Order, OrderStatus
from engine.domain.run import CLOSED_ELSEWHERE, EXIT_TROUBLES, SESSION_OVER, ExitReason, Position, Run, RunStatus
from engine.domain.strategy import StopMode
from engine.domain.watch import is_watched_out, watch

#: How long after the last moment an exit may be sent a human is told of what is held.
TOLD_AFTER = timedelta(seconds=1)


def decide(run: Run, event: EventType, now: Moment, policy: Policy) -> Decision:
    """What `event` means for `run` now."""
    return _RULES[event](run, now, policy)


def next_action(run: Run, now: Moment, policy: Policy) -> tuple[EventType, Action] | None:
    """The most urgent thing the run's own fields ask for, with the event that stands for it; None if nothing."""
    for event, rule in _OWN_RULES:
        decision = rule(run, now, policy)
        if not isinstance(decision, _IDLE):
            return event, decision
    return None


def outlook(run: Run, now: Moment, policy: Policy) -> tuple[bool, datetime | None]:
    """Whether the run asks for something right now, and when it next needs a look, real time.

    None where only an event can change it.
    """
    times: list[datetime] = []
    for _, rule in _OWN_RULES:
        decision = rule(run, now, policy)
        if isinstance(decision, Wait):
            times.append(decision.until)
        elif not isinstance(decision, Ignore):
            return True, now.real
    return False, min(times, default=None)


def _buy(run: Run, now: Moment, policy: Policy) -> Decision:
    if blocked := _buy_blocked(run):
        return Ignore(blocked)
    if run.unsettled:
        # It may have filled after all: nothing is bought again, nor given up, before its broker has said.
        return ask_what_became_of(run.unsettled, run, now, policy)
    if now.is_trusted and (missed := _missed(run, now, policy)):
        # What was given up may still be bought: then the run lives on, under its abort policy.
        return Abort(f"{missed}_in_doubt") if run.watched else Finish(RunStatus.MISSED, missed)
    if now.market < run.buy_at or not now.is_trusted:
        # By a clock that others doubt nothing is opened, nor missed: whoever comes next, or the sweeper, asks again.
        return Wait(now.when(run.buy_at))
    return _next_entry(run, now, policy)


def _next_entry(run: Run, now: Moment, policy: Policy) -> Decision:
    """The next attempt to buy, where there may be one and its pause is over."""
    if run.attempts(Leg.ENTRY) >= policy.entry_attempts:
        return Abort("entry_retries_exhausted")
    if run.entry_retry_at and now.real < run.entry_retry_at:
        return Wait(run.entry_retry_at)
    return Submit(Leg.ENTRY, run.strategy.quantity)


def _missed(run: Run, now: Moment, policy: Policy) -> str:
    """Why nothing is bought any more, "" where it still may be."""
    if run.closes_at <= run.buy_at:
        # Its session changed after it was accepted, and has no such time now; or it was never armed, and says why.
        return "not_armed" if run.failure else "outside_session"
    is_over = now.late(run.buy_at) > policy.max_lateness or now.market >= max(run.buy_at, run.sell_at)
    return "buy_time_missed" if is_over else ""


def _buy_blocked(run: Run) -> str:
    if run.status is not RunStatus.ACTIVE or run.abort_requested or run.stop_requested:
        return "run_not_active"
    if run.position is not Position.NONE:
        return "position_not_none"
    if run.live(Leg.ENTRY) or run.appeared(Leg.ENTRY):
        return "entry_in_flight"
    # The book may hold an entry we do not know of: after a loss of state it is asked before anything is bought.
    return "book_unread" if run.unread else ""


def _sell(run: Run, now: Moment, policy: Policy) -> Decision:
    if now.market >= run.sell_at:
        return sell_all(run, ExitReason.SCHEDULE, now, policy)
    surplus = sell_surplus(run, now, policy)
    if not isinstance(surplus, Ignore):
        return surplus
    return Wait(now.when(run.sell_at)) if run.held > 0 else Ignore("not_bought")


def _stop_loss(run: Run, now: Moment, policy: Policy) -> Decision:
    if run.latch is None:
        return Ignore("not_latched")
    return sell_all(run, ExitReason.STOP_LOSS, now, policy)


def _force_stop(run: Run, now: Moment, policy: Policy) -> Decision:
    if resolved := _resolved(run, now, policy):
        return resolved
    if run.stop_requested is None:
        return Ignore("no_stop_requested")
    if run.stop_requested is StopMode.CLOSE and run.held > 0:
        decision = sell_all(run, ExitReason.FORCE_STOP, now, policy)
        entry = run.live(Leg.ENTRY)
        return decision if not isinstance(decision, Ignore) or entry is None else _withdraw(entry)
    if run.dirty or run.unread or run.unsettled or run.is_disputed:
        # The book may hold orders or fills we do not know of: a loss can take those of the last second.
        return _end(run, Ignore("book_unread"))
    if run.stop_requested is StopMode.CLOSE and not is_watched_out(run, now):
        return _end(run, Ignore("given_up_attempts_watched"))
    return _end(run, Finish(RunStatus.STOPPED, f"force_stop_{run.stop_requested}"))


def _resolved(run: Run, now: Moment, policy: Policy) -> Decision | None:
    """What follows of what a human stated: an attempt that was never placed, a position that is closed."""
    stated = [o for o in run.orders if o.client_order_id == run.absent and (o.is_doubtful or o.is_unconfirmed)]
    if stated:
        return _stated_absent(run, stated[0], now, policy)
    if not run.closed_elsewhere or run.held > 0:
        # What filled since the statement is not closed: it goes on as any position.
        return None
    unsure = run.dirty or run.unread or run.unsettled
    return _end(run, Ignore("book_unread") if unsure else Finish(RunStatus.STOPPED, CLOSED_ELSEWHERE))


def _stated_absent(run: Run, order: Order, now: Moment, policy: Policy) -> Decision:
    """A human says that an attempt was never placed: the book is read first; where it cannot be, he is believed."""
    is_read = run.book_read_at is not None and run.book_read_at > (order.updated_at or order.send_by)
    if is_read or run.unread_since is not None:
        return GiveUp(order)
    return ask(run, "stated_absent", now, policy.ask_interval)


def _end(run: Run, end: Decision) -> Decision:
    """`end`, once nothing of the run can trade: what rests is taken back, an exit too."""
    if entry := run.live(Leg.ENTRY):
        return _withdraw(entry)
    exiting = run.live(Leg.EXIT)
    return end if exiting is None else _withdraw(exiting)


def _safety_abort(run: Run, now: Moment, policy: Policy) -> Decision:
    is_aborted = run.status is RunStatus.FAILED and run.failure not in EXIT_TROUBLES
    if run.abort_requested and not is_aborted:
        return Abort(run.abort_requested)
    if not run.has_failed:
        return Ignore("no_abort_requested")
    entry = run.live(Leg.ENTRY)
    if entry is not None:
        return _withdraw(entry)
    if run.is_to_be_flattened:
        return sell_all(run, ExitReason.SAFETY_ABORT, now, policy)
    return Ignore("already_aborted")


def _order_update(run: Run, now: Moment, policy: Policy) -> Decision:
    if run.dirty or run.unread:
        return _ask_in_turn(run, "broker_update", now, policy)
    # One that is left or closed sells nothing that would have asked.
    if run.unsettled and (run.is_terminal or run.stop_requested is StopMode.LEAVE):
        return ask_what_became_of(run.unsettled, run, now, policy)
    if run.is_terminal and run.is_disputed:
        return ask(run, "fills_disputed", now, policy.ask_interval)
    if run.is_terminal and is_watched_out(run, now):
        return _over(run)
    return _holding(run, now, policy)


def _ask_in_turn(run: Run, reason: str, now: Moment, policy: Policy) -> Decision:
    """Ask the book; while it does not answer, what the run's orders need comes in turn: it may not do so for long."""
    watched = watch(run, now, policy) if run.unread_since is not None else Ignore("readable")
    if not isinstance(watched, Abort | Cancel | Reprice):
        return ask(run, reason, now, policy.ask_interval)
    asked = ask(run, reason, now, 2 * policy.ask_interval)
    return watched if isinstance(asked, Wait) else asked


def _holding(run: Run, now: Moment, policy: Policy) -> Decision:
    """What a run that goes on needs: its session's end told, its account looked at, its orders watched."""
    is_left = run.status is not RunStatus.ACTIVE and run.failure not in EXIT_TROUBLES
    # Each evening anew, for as long as it is held.
    is_to_be_told = run.held > 0 and not is_left and run.session_told != run.closes_at
    if is_to_be_told and is_session_over(run, now):
        return Abort(SESSION_OVER)
    if not is_session_over(run, now) and is_cover_in_question(run):
        return _ask_in_turn(run, "cover", now, policy)
    decision = watch(run, now, policy)
    if run.unsettled and isinstance(decision, _IDLE):
        # More of it may have filled, and until it is settled positions do not prove what others sold.
        return ask_what_became_of(run.unsettled, run, now, policy)
    if run.is_disputed and isinstance(decision, _IDLE):
        return ask(run, "fills_disputed", now, policy.ask_interval)
    if is_to_be_told and run.sell_at > run.closes_at and isinstance(decision, Ignore):
        # Its session was cut short: no sale of its own has it looked at before.
        return Wait(now.when(run.closes_at + AFTER_CLOSE + TOLD_AFTER))
    return decision


def _over(run: Run) -> Finish:
    if run.closed_elsewhere:
        return Finish(RunStatus.STOPPED, CLOSED_ELSEWHERE)
    status = RunStatus.STOPPED if run.status is RunStatus.ACTIVE else run.status
    return Finish(status, run.exit_reason or run.failure or "flat")


def _withdraw(order: Order) -> Decision:
    if order.status is OrderStatus.CANCEL_PENDING or not order.is_resting:
        return Ignore(f"{order.leg}_not_cancelable_yet")
    return Cancel(order, f"{order.leg}_no_longer_wanted")


def _exit_leaves_entry(run: Run, _now: Moment, _policy: Policy) -> Decision:
    """The stop was reached, or an exit asked for, while the entry still rests: take the rest of the entry back."""
    entry = run.live(Leg.ENTRY)
    is_exiting = run.filled(Leg.EXIT) > 0 or run.live(Leg.EXIT) is not None
    if entry is None or not (is_exiting or _is_breached_since(run, entry)):
        return Ignore("no_entry_to_withdraw")
    return _withdraw(entry)


def _is_breached_since(run: Run, entry: Order) -> bool:
    """Whether the stop was reached after `entry` was granted; what was seen before did not keep it from being sent."""
    seen_at = run.latch.seen_at if run.latch is not None else None
    return seen_at is not None and seen_at >= entry.send_by - SEND_WITHIN


def _retry(run: Run, now: Moment, policy: Policy) -> Decision:
    """A retry is whichever attempt is due again: an exit before an entry."""
    return _first((*_EXITS, *_REST), run, now, policy)


def _retry_rest(run: Run, now: Moment, policy: Policy) -> Decision:
    """A retry where no exit is due."""
    return _first(_REST, run, now, policy)


_Rule = Callable[[Run, Moment, Policy], Decision]


def _first(rules: Iterable[_Rule], run: Run, now: Moment, policy: Policy) -> Decision:
    """The first of `rules` that acts, else the first that waits."""
    waiting: Wait | None = None
    for rule in rules:
        decision = rule(run, now, policy)
        if not isinstance(decision, _IDLE):
            return decision
        if isinstance(decision, Wait):
            waiting = waiting or decision
    return waiting or Ignore("nothing_to_retry")


#: Decisions that do nothing now.
_IDLE = (Wait, Ignore)
_EXITS: tuple[_Rule, ...] = (_stop_loss, _force_stop, _sell)
_REST: tuple[_Rule, ...] = (_exit_leaves_entry, _buy)
_RULES: dict[EventType, _Rule] = {
    EventType.BUY: _buy,
    EventType.SELL: _sell,
    EventType.STOPLOSS: _stop_loss,
    EventType.RETRY: _retry,
    EventType.SAFETY_ABORT: _safety_abort,
    EventType.FORCE_STOP: _force_stop,
    EventType.ORDER_UPDATE: _order_update,
}

#: The order in which a run's own fields are served: what protects a position before what opens one.
URGENCY: tuple[EventType, ...] = (
    EventType.STOPLOSS,
    EventType.SAFETY_ABORT,
    EventType.FORCE_STOP,
    EventType.SELL,
    EventType.RETRY,
    EventType.ORDER_UPDATE,
    EventType.BUY,
)

#: `URGENCY` with every rule asked once: a retry need not ask the exits before it again, nor BUY what the retry has.
_OWN_RULES: tuple[tuple[EventType, _Rule], ...] = (
    (EventType.STOPLOSS, _stop_loss),
    (EventType.SAFETY_ABORT, _safety_abort),
    (EventType.FORCE_STOP, _force_stop),
    (EventType.SELL, _sell),
    (EventType.RETRY, _retry_rest),
    (EventType.ORDER_UPDATE, _order_update),
)
