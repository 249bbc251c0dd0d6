"""What to do next with a run: a pure function of the run, the event and the two clocks.

Level-triggered: everything is decided from the run's fields, so a lost event costs time and a repeated one
nothing. Says what to do, not how; `engine.domain.routing` says what follows an answer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from engine.domain.events import EventType
from engine.domain.moment import Moment
from engine.domain.orders import Leg, Order, OrderStatus
from engine.domain.run import ExitReason, Position, Run, RunStatus
from engine.domain.strategy import AbortPolicy, StopMode


@dataclass(frozen=True, slots=True)
class Policy:
    """The tunables decisions read; all real time."""

    #: How late a BUY may start.
    max_lateness: timedelta = timedelta(seconds=30)
    #: How long an order may rest unfilled before it is canceled.
    rest_limit: timedelta = timedelta(seconds=30)
    #: How long a live order may be silent before the book is asked.
    silence_limit: timedelta = timedelta(seconds=5)
    #: After `send_by`, how long a doubtful order may still appear: socket timeout + the broker's grace.
    settle_after: timedelta = timedelta(seconds=13)
    #: How often the book is asked while an attempt is in doubt.
    ask_interval: timedelta = timedelta(seconds=1)
    #: Sends of one entry: the first and its retries.
    entry_attempts: int = 4


@dataclass(frozen=True, slots=True)
class Submit:
    """Send the next attempt of `leg`."""

    leg: Leg
    quantity: int
    exit_reason: ExitReason | None = None


@dataclass(frozen=True, slots=True)
class Cancel:
    """Ask the broker to cancel `order`."""

    order: Order
    reason: str


@dataclass(frozen=True, slots=True)
class AskBook:
    """Ask the broker's book what became of the run's orders."""

    reason: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """An attempt in doubt stayed absent from the book through its grace: replace it, keep watching it."""

    order: Order


@dataclass(frozen=True, slots=True)
class Finish:
    """The run is over: STOP it with this status."""

    status: RunStatus
    reason: str


@dataclass(frozen=True, slots=True)
class Abort:
    """SAFETY_ABORT: mark the run failed, alert, and let its policy say what becomes of the position."""

    reason: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing yet; it will be time at `until`, real time."""

    until: datetime


@dataclass(frozen=True, slots=True)
class Ignore:
    """Nothing to do; `reason` is a stable word for the record."""

    reason: str


Decision = Submit | Cancel | AskBook | GiveUp | Finish | Abort | Wait | Ignore
Action = Submit | Cancel | AskBook | GiveUp | Finish | Abort


def decide(run: Run, event: EventType, now: Moment, policy: Policy) -> Decision:
    """What `event` means for `run` now."""
    return _RULES[event](run, now, policy)


def next_action(run: Run, now: Moment, policy: Policy) -> tuple[EventType, Action] | None:
    """The most urgent thing the run's own fields ask for, with the event that stands for it; None if nothing."""
    for event in URGENCY:
        decision = decide(run, event, now, policy)
        if not isinstance(decision, Wait | Ignore):
            return event, decision
    return None


def next_attention(run: Run, now: Moment, policy: Policy) -> datetime | None:
    """When the run next needs a look, real time; None where only an event can change it."""
    decisions = [decide(run, event, now, policy) for event in URGENCY]
    if any(not isinstance(d, Wait | Ignore) for d in decisions):
        return now.real
    return min((d.until for d in decisions if isinstance(d, Wait)), default=None)


def _buy(run: Run, now: Moment, policy: Policy) -> Decision:
    if blocked := _buy_blocked(run):
        return Ignore(blocked)
    if now.market < run.buy_at:
        return Wait(now.when(run.buy_at))
    if now.late(run.buy_at) > policy.max_lateness or now.market >= run.sell_at:
        return Finish(RunStatus.MISSED, "buy_time_missed")
    if run.attempts(Leg.ENTRY) >= policy.entry_attempts:
        return Abort("entry_retries_exhausted")
    if run.retry_at and now.real < run.retry_at:
        return Wait(run.retry_at)
    return Submit(Leg.ENTRY, run.strategy.quantity)


def _buy_blocked(run: Run) -> str:
    if run.status is not RunStatus.ACTIVE or run.abort_requested or run.stop_requested:
        return "run_not_active"
    if run.position is not Position.NONE:
        return "position_not_none"
    if run.live(Leg.ENTRY):
        return "entry_in_flight"
    # The book may hold an entry we do not know of: after a loss of state it is asked before anything is bought.
    return "book_unread" if run.dirty else ""


def _sell(run: Run, now: Moment, _policy: Policy) -> Decision:
    if now.market < run.sell_at:
        return Wait(now.when(run.sell_at)) if run.held > 0 else Ignore("not_bought")
    return _exit(run, ExitReason.SCHEDULE, now)


def _stop_loss(run: Run, now: Moment, _policy: Policy) -> Decision:
    if run.latch is None:
        return Ignore("not_latched")
    return _exit(run, ExitReason.STOP_LOSS, now)


def _force_stop(run: Run, now: Moment, _policy: Policy) -> Decision:
    if run.stop_requested is None:
        return Ignore("no_stop_requested")
    entry = run.live(Leg.ENTRY)
    if run.stop_requested is StopMode.CLOSE and run.held > 0:
        decision = _exit(run, ExitReason.FORCE_STOP, now)
        return decision if not isinstance(decision, Ignore) or entry is None else _withdraw(entry)
    if entry is not None:
        return _withdraw(entry)
    if run.live(Leg.EXIT):
        return Ignore("exit_in_flight")
    return Finish(RunStatus.STOPPED, f"force_stop_{run.stop_requested}")


def _safety_abort(run: Run, now: Moment, _policy: Policy) -> Decision:
    if not run.abort_requested and run.status is not RunStatus.FAILED:
        return Ignore("no_abort_requested")
    if run.status is not RunStatus.FAILED:
        return Abort(run.abort_requested)
    entry = run.live(Leg.ENTRY)
    if entry is not None:
        return _withdraw(entry)
    if run.strategy.on_abort is AbortPolicy.FLATTEN:
        return _exit(run, ExitReason.SAFETY_ABORT, now)
    return Ignore("already_aborted")


def _order_update(run: Run, now: Moment, policy: Policy) -> Decision:
    if run.is_terminal and not run.dirty:
        status = RunStatus.STOPPED if run.status is RunStatus.ACTIVE else run.status
        return Finish(status, run.exit_reason or run.failure or "flat")
    if run.dirty:
        return _ask(run, "broker_update", now, policy.ask_interval)
    waits: list[datetime] = []
    for order in run.orders:
        if not order.is_live:
            continue
        decision = _watch(run, order, now, policy)
        if isinstance(decision, Wait):
            waits.append(decision.until)
        else:
            return decision
    return Wait(min(waits)) if waits else Ignore("nothing_new")


def _watch(run: Run, order: Order, now: Moment, policy: Policy) -> Decision:
    """What a live order needs: doubt is settled by the book, silence too, and resting has an end."""
    known_at = order.updated_at or order.send_by
    if order.status in (OrderStatus.UNKNOWN, OrderStatus.SENDING):
        settles_at = order.send_by + policy.settle_after
        if run.book_read_at is not None and run.book_read_at >= settles_at:
            return GiveUp(order)
        if order.status is OrderStatus.SENDING and now.real < order.send_by:
            return Wait(order.send_by)
        return _ask(run, "in_doubt", now, policy.ask_interval)
    resting_since = known_at if order.status is OrderStatus.CANCEL_PENDING else order.send_by
    if now.real >= resting_since + policy.rest_limit:
        return Cancel(order, "resting_too_long")
    if now.real >= known_at + policy.silence_limit:
        return _ask(run, "silent", now, policy.silence_limit)
    return Wait(known_at + policy.silence_limit)


def _ask(run: Run, reason: str, now: Moment, interval: timedelta) -> Decision:
    """Ask the book, but not again within `interval`."""
    if run.book_asked_at is not None and now.real < run.book_asked_at + interval:
        return Wait(run.book_asked_at + interval)
    return AskBook(reason)


def _exit(run: Run, reason: ExitReason, now: Moment) -> Decision:
    """Sell what is held; whichever cause asks, one attempt at a time."""
    if run.held <= 0:
        return Ignore("not_bought")
    if run.is_frozen:
        return Ignore("frozen")
    if run.live(Leg.EXIT):
        return Ignore("exit_in_flight")
    if run.dirty:
        # The book may hold an exit we do not know of; a second one would be a short.
        return Ignore("book_unread")
    if run.retry_at and now.real < run.retry_at:
        return Wait(run.retry_at)
    return Submit(Leg.EXIT, run.held, reason)


def _withdraw(entry: Order) -> Decision:
    if entry.status is OrderStatus.CANCEL_PENDING or not entry.is_resting:
        return Ignore("entry_not_cancelable_yet")
    return Cancel(entry, "entry_no_longer_wanted")


def _exit_leaves_entry(run: Run, _now: Moment, _policy: Policy) -> Decision:
    """An exit was asked for while the entry still rests: take the rest of the entry back."""
    entry = run.live(Leg.ENTRY)
    if entry is None or run.filled(Leg.EXIT) + (1 if run.live(Leg.EXIT) else 0) == 0:
        return Ignore("no_entry_to_withdraw")
    return _withdraw(entry)


def _retry(run: Run, now: Moment, policy: Policy) -> Decision:
    """A retry is whichever attempt is due again: an exit before an entry."""
    decisions = [rule(run, now, policy) for rule in (*_EXITS, _exit_leaves_entry, _buy)]
    acting = [d for d in decisions if not isinstance(d, Wait | Ignore)]
    waiting = [d for d in decisions if isinstance(d, Wait)]
    return (acting or waiting or [Ignore("nothing_to_retry")])[0]


_Rule = Callable[[Run, Moment, Policy], Decision]
_EXITS: tuple[_Rule, ...] = (_stop_loss, _force_stop, _sell)
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
