"""Situations a run can be in, each with what every event means in it; the decision table of the tests."""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from engine.domain.action import (
    Abort,
    AskBook,
    Cancel,
    Decision,
    Finish,
    GiveUp,
    Ignore,
    Reprice,
    Submit,
    Tell,
    Untold,
    Wait,
)
from engine.domain.events import EventType
from engine.domain.moment import Moment
from engine.domain.orders import Leg, Order, OrderStatus
from engine.domain.run import ExitReason, NetSeen, Run, RunStatus
from engine.domain.strategy import AbortPolicy, StopMode
from tests.builders import BUY_AT, CLOSES, QUANTITY, SELL_AT, S, at, entry, exit_, latch, run, strategy

E, ST = EventType, OrderStatus
BEFORE, TIME, LATE = at(BUY_AT - S), at(BUY_AT), at(BUY_AT + timedelta(seconds=31))
NOON, EVENING = at(BUY_AT, hours=2), at(SELL_AT)
#: Orders sent, or heard of, at the moment of the decision: neither silent nor resting too long.
FRESH: dict[str, Any] = {"send_by": NOON.real, "updated_at": NOON.real}
BOUGHT = entry(ST.FILLED, 10)
RESTING = entry(ST.ACCEPTED, **FRESH)
PART = entry(ST.PARTIALLY_FILLED, 4, **FRESH)
DOUBTFUL = entry(ST.UNKNOWN, **FRESH)
EXIT_LOST = exit_(ST.UNKNOWN, **FRESH)
EXIT_UNSHOWN = exit_(ST.ACCEPTED, seen=False, send_by=NOON.real, updated_at=NOON.real - 2 * S)
STOPPED_OUT: dict[str, Any] = {"latch": latch(), "exit_reason": ExitReason.STOP_LOSS}
EXITING = exit_(ST.ACCEPTED, **FRESH)
SENT_NOW = exit_(ST.ACCEPTED, send_by=NOON.real + 2 * S, updated_at=NOON.real)
FILLED_NOW = entry(ST.FILLED, 10, updated_at=NOON.real - S)
LOST = entry(ST.UNKNOWN, given_up=True)
APPEARED = entry(ST.ACCEPTED, given_up=True, **FRESH)
EXIT_APPEARED = exit_(ST.ACCEPTED, given_up=True, **FRESH)
BOUGHT_AGAIN = entry(ST.FILLED, 10, attempt=2)
OVERDUE = exit_(ST.ACCEPTED, send_by=NOON.real - 30 * S, updated_at=NOON.real)


def failed(policy: AbortPolicy) -> dict[str, Any]:
    """A run that was aborted under `policy`."""
    return {"spec": strategy(on_abort=policy), "status": RunStatus.FAILED, "failure": "why"}


def seen(*orders: Order, net: int | None = QUANTITY, now: Moment = NOON, **changes: Any) -> Run:
    """A run whose account held `net` of its symbol when it was asked, a moment ago."""
    return run(*orders, net=None if net is None else NetSeen(net, now.real), **changes)


FROZEN, FLATTEN, PROTECT = failed(AbortPolicy.FREEZE), failed(AbortPolicy.FLATTEN), failed(AbortPolicy.PROTECT)


def ignored(**reasons: str) -> dict[EventType, Decision]:
    """The events named and why each is ignored."""
    return {E[name]: Ignore(reason) for name, reason in reasons.items()}


def exits(quantity: int, *names: str) -> dict[EventType, Decision]:
    """The events named, each selling `quantity` for its own reason."""
    why = ExitReason
    reasons = {E.SELL: why.SCHEDULE, E.STOPLOSS: why.STOP_LOSS, E.FORCE_STOP: why.FORCE_STOP}
    reasons |= {E.SAFETY_ABORT: why.SAFETY_ABORT}
    return {E[name]: Submit(Leg.EXIT, quantity, reasons[E[name]]) for name in names}


@dataclass(frozen=True)
class Case:
    """A situation and what each event means in it."""

    name: str
    run: Run
    now: Moment
    decisions: dict[EventType, Decision]


NOTHING_ASKED = ignored(STOPLOSS="not_latched", SAFETY_ABORT="no_abort_requested", FORCE_STOP="no_stop_requested")
NOT_BOUGHT = NOTHING_ASKED | ignored(SELL="not_bought", ORDER_UPDATE="nothing_new")
SOLD_AT_ONCE: dict[EventType, Decision] = {
    kind: Submit(Leg.EXIT, 10, ExitReason.STOP_LOSS) for kind in (E.STOPLOSS, E.RETRY)
}
HELD = NOTHING_ASKED | ignored(BUY="position_not_none", ORDER_UPDATE="nothing_new")
BUYS = {E.BUY: Submit(Leg.ENTRY, 10), E.RETRY: Submit(Leg.ENTRY, 10)}
SELLS_LATER: dict[EventType, Decision] = {E.SELL: Wait(SELL_AT), E.RETRY: Wait(SELL_AT)}
MISSED: dict[EventType, Decision] = {kind: Finish(RunStatus.MISSED, "buy_time_missed") for kind in (E.BUY, E.RETRY)}
WATCHED: dict[EventType, Decision] = {E.ORDER_UPDATE: Wait(NOON.real + 5 * S)}
#: What an open entry bought may be untold: where an exit is due its silence is short.
WATCHED_CLOSELY: dict[EventType, Decision] = {E.ORDER_UPDATE: Wait(NOON.real + S)}
ENTRY_OPEN = ignored(BUY="entry_in_flight", SELL="not_bought", RETRY="nothing_to_retry") | WATCHED
EXIT_OPEN = ignored(BUY="position_not_none", STOPLOSS="exit_in_flight", SELL="exit_in_flight") | WATCHED
STOPPING = ignored(BUY="run_not_active", SAFETY_ABORT="no_abort_requested", STOPLOSS="not_latched")
ABORTED = ignored(BUY="run_not_active", FORCE_STOP="no_stop_requested")
UNWANTED = "entry_no_longer_wanted"

CASES = [
    Case("before its time", seen(), BEFORE, NOT_BOUGHT | {E.BUY: Wait(BUY_AT), E.RETRY: Wait(BUY_AT)}),
    Case("at its time", seen(), TIME, NOT_BOUGHT | BUYS),
    Case("as late as allowed", seen(), at(BUY_AT, seconds=30), NOT_BOUGHT | BUYS),
    Case("too late", seen(), LATE, NOT_BOUGHT | MISSED),
    Case(
        "at its time, the book unread",
        seen(unread=True),
        TIME,
        NOT_BOUGHT | ignored(BUY="book_unread", RETRY="nothing_to_retry") | {E.ORDER_UPDATE: AskBook("broker_update")},
    ),
    Case(
        "retry pending",
        seen(entry(ST.REJECTED), entry_retry_at=TIME.real + S),
        TIME,
        NOT_BOUGHT | {E.BUY: Wait(TIME.real + S), E.RETRY: Wait(TIME.real + S)},
    ),
    Case("retry due", seen(entry(ST.REJECTED), entry_retry_at=TIME.real), TIME, NOT_BOUGHT | BUYS),
    Case(
        "retries used up",
        seen(entry(ST.CANCELED, attempt=4)),
        TIME,
        NOT_BOUGHT | {kind: Abort("entry_retries_exhausted") for kind in (E.BUY, E.RETRY)},
    ),
    Case(
        "latched before its entry was granted, not bought",
        seen(RESTING, latch=replace(latch(), seen_at=RESTING.send_by - 3 * S)),
        NOON,
        NOT_BOUGHT | ENTRY_OPEN | ignored(STOPLOSS="not_bought") | WATCHED_CLOSELY,
    ),
    Case(
        "latched but not bought",
        seen(RESTING, latch=replace(latch(), seen_at=RESTING.send_by)),
        NOON,
        NOT_BOUGHT
        | ENTRY_OPEN
        | ignored(STOPLOSS="not_bought")
        | WATCHED_CLOSELY
        | {E.RETRY: Cancel(RESTING, "entry_no_longer_wanted")},
    ),
    Case("entry in flight", seen(RESTING), NOON, NOTHING_ASKED | ENTRY_OPEN),
    Case(
        "entry being sent",
        seen(entry(ST.SENDING, send_by=NOON.real + 2 * S)),
        NOON,
        NOTHING_ASKED | ENTRY_OPEN | {E.ORDER_UPDATE: Wait(NOON.real + 2 * S)},
    ),
    Case("entry in doubt", seen(DOUBTFUL), NOON, NOTHING_ASKED | ENTRY_OPEN | {E.ORDER_UPDATE: AskBook("in_doubt")}),
    Case("bought", seen(BOUGHT), NOON, HELD | SELLS_LATER),
    Case("partly bought, the rest resting", seen(PART), NOON, HELD | SELLS_LATER | WATCHED),
    Case(
        "bought, the scheduled sale due",
        seen(BOUGHT, now=EVENING),
        EVENING,
        HELD | exits(10, "SELL") | {E.RETRY: Submit(Leg.EXIT, 10, ExitReason.SCHEDULE)},
    ),
    Case(
        "latched",
        seen(BOUGHT, latch=latch()),
        NOON,
        HELD | SELLS_LATER | exits(10, "STOPLOSS") | {E.RETRY: Submit(Leg.EXIT, 10, ExitReason.STOP_LOSS)},
    ),
    Case(
        "latched, the book unread after a loss of state",
        seen(BOUGHT, latch=latch(), unread=True),
        NOON,
        HELD
        | SELLS_LATER
        | {kind: AskBook("book_unread") for kind in (E.STOPLOSS, E.RETRY)}
        | {E.ORDER_UPDATE: AskBook("broker_update")},
    ),
    Case(
        "latched, the book to be looked at",
        seen(BOUGHT, latch=latch(), dirty=True),
        NOON,
        HELD | SELLS_LATER | SOLD_AT_ONCE | {E.ORDER_UPDATE: AskBook("broker_update")},
    ),
    Case(
        "at its time, the book to be looked at",
        seen(dirty=True),
        TIME,
        NOT_BOUGHT | BUYS | {E.ORDER_UPDATE: AskBook("broker_update")},
    ),
    Case(
        "latched, the entry's pause not over",
        seen(BOUGHT, latch=latch(), entry_retry_at=NOON.real + 60 * S),
        NOON,
        HELD | SELLS_LATER | SOLD_AT_ONCE,
    ),
    Case(
        "latched, an exit refused by an answer alone",
        seen(BOUGHT, exit_(ST.REJECTED, seen=False, settled=False), latch=latch()),
        NOON,
        HELD | SELLS_LATER | {kind: AskBook("attempt_unsettled") for kind in (E.STOPLOSS, E.RETRY, E.ORDER_UPDATE)},
    ),
    Case(
        "latched, an exit canceled and its trades unread",
        seen(BOUGHT, exit_(ST.CANCELED, settled=False), latch=latch()),
        NOON,
        HELD | SELLS_LATER | {kind: AskBook("attempt_unsettled") for kind in (E.STOPLOSS, E.RETRY, E.ORDER_UPDATE)},
    ),
    Case(
        "latched, an exit that never left",
        seen(BOUGHT, exit_(ST.REJECTED, seen=False, settled=False, unsent=True), latch=latch()),
        NOON,
        HELD | SELLS_LATER | SOLD_AT_ONCE,
    ),
    Case(
        "an entry canceled in part and its trades unread",
        seen(entry(ST.CANCELED, 4, settled=False)),
        NOON,
        HELD | SELLS_LATER | {E.ORDER_UPDATE: AskBook("attempt_unsettled")},
    ),
    Case(
        "latched, an entry canceled in part and its trades unread: the sale comes first",
        seen(entry(ST.CANCELED, 4, settled=False), latch=latch()),
        NOON,
        HELD
        | SELLS_LATER
        | {kind: Submit(Leg.EXIT, 4, ExitReason.STOP_LOSS) for kind in (E.STOPLOSS, E.RETRY)}
        | {E.ORDER_UPDATE: AskBook("attempt_unsettled")},
    ),
    Case(
        "an entry refused by an answer alone, its retry due",
        seen(entry(ST.REJECTED, seen=False, settled=False, updated_at=TIME.real - S), entry_retry_at=TIME.real),
        TIME,
        NOT_BOUGHT | {kind: AskBook("attempt_unsettled") for kind in (E.BUY, E.RETRY, E.ORDER_UPDATE)},
    ),
    Case(
        "an entry refused by an answer alone, its pause not over: a book read now may lack it still",
        seen(entry(ST.REJECTED, seen=False, settled=False, updated_at=TIME.real), entry_retry_at=TIME.real + 4 * S),
        TIME,
        NOT_BOUGHT | {kind: Wait(TIME.real + 4 * S) for kind in (E.BUY, E.RETRY, E.ORDER_UPDATE)},
    ),
    Case(
        "latched, an exit canceled a moment ago: its trades may lack some of it still",
        seen(BOUGHT, exit_(ST.CANCELED, settled=False, updated_at=NOON.real - 0.4 * S), latch=latch()),
        NOON,
        HELD | SELLS_LATER | {kind: Wait(NOON.real + 0.6 * S) for kind in (E.STOPLOSS, E.RETRY, E.ORDER_UPDATE)},
    ),
    Case(
        "an entry accepted and shown nowhere until its grace was over",
        seen(entry(ST.ACCEPTED, seen=False, **FRESH, settles_at=NOON.real), book_read_at=NOON.real),
        NOON,
        NOTHING_ASKED
        | ENTRY_OPEN
        | {E.ORDER_UPDATE: GiveUp(entry(ST.ACCEPTED, seen=False, **FRESH, settles_at=NOON.real))},
    ),
    Case(
        "latched with the entry still open",
        seen(PART, latch=latch()),
        NOON,
        HELD
        | SELLS_LATER
        | WATCHED_CLOSELY
        | exits(4, "STOPLOSS")
        | {E.RETRY: Submit(Leg.EXIT, 4, ExitReason.STOP_LOSS)},
    ),
    Case(
        "latched, what was held sold, the entry still open",
        seen(PART, exit_(ST.FILLED, 4, quantity=4), latch=latch()),
        NOON,
        HELD | WATCHED_CLOSELY | ignored(STOPLOSS="not_bought", SELL="not_bought") | {E.RETRY: Cancel(PART, UNWANTED)},
    ),
    Case(
        "latched, exit retry pending",
        seen(BOUGHT, exit_(ST.REJECTED), latch=latch(), exit_retry_at=NOON.real + S),
        NOON,
        HELD | {E.SELL: Wait(SELL_AT), E.STOPLOSS: Wait(NOON.real + S), E.RETRY: Wait(NOON.real + S)},
    ),
    Case(
        "latched, exit in flight",
        seen(BOUGHT, EXITING, latch=latch(), exit_reason=ExitReason.STOP_LOSS),
        NOON,
        NOTHING_ASKED | EXIT_OPEN | SELLS_LATER,
    ),
    Case(
        "exit in doubt, and somebody was told",
        seen(BOUGHT, exit_(ST.UNKNOWN, doubt_alerted=True, **FRESH), latch=latch()),
        NOON,
        NOTHING_ASKED | EXIT_OPEN | SELLS_LATER | {E.ORDER_UPDATE: AskBook("in_doubt")},
    ),
    Case(
        "exit in doubt for two seconds",
        seen(BOUGHT, EXIT_LOST, latch=latch()),
        NOON,
        NOTHING_ASKED
        | EXIT_OPEN
        | SELLS_LATER
        | {
            E.STOPLOSS: Tell(Untold.IN_DOUBT, EXIT_LOST),
            E.RETRY: Tell(Untold.IN_DOUBT, EXIT_LOST),
            E.ORDER_UPDATE: AskBook("in_doubt"),
        },
    ),
    Case(
        "exit in doubt for a second",
        seen(BOUGHT, exit_(ST.UNKNOWN, send_by=NOON.real + S, updated_at=NOON.real), latch=latch()),
        NOON,
        NOTHING_ASKED
        | EXIT_OPEN
        | {E.STOPLOSS: Wait(NOON.real + S), E.RETRY: Wait(NOON.real + S), E.SELL: Wait(SELL_AT)}
        | {E.ORDER_UPDATE: AskBook("in_doubt")},
    ),
    Case(
        "exit accepted, and shown by nobody for a second",
        seen(BOUGHT, replace(EXIT_UNSHOWN, updated_at=NOON.real - S), **STOPPED_OUT),
        NOON,
        NOTHING_ASKED
        | EXIT_OPEN
        | {E.STOPLOSS: Wait(NOON.real + S), E.RETRY: Wait(NOON.real + S), E.SELL: Wait(SELL_AT)}
        | {E.ORDER_UPDATE: AskBook("silent")},
    ),
    Case(
        "exit accepted, and shown by nobody for two seconds",
        seen(BOUGHT, EXIT_UNSHOWN, **STOPPED_OUT),
        NOON,
        NOTHING_ASKED
        | EXIT_OPEN
        | SELLS_LATER
        | {
            E.STOPLOSS: Tell(Untold.IN_DOUBT, EXIT_UNSHOWN),
            E.RETRY: Tell(Untold.IN_DOUBT, EXIT_UNSHOWN),
            E.ORDER_UPDATE: AskBook("silent"),
        },
    ),
    Case(
        "a surplus whose exit is in doubt for two seconds",
        seen(entry(ST.FILLED, 20), EXIT_LOST, net=20),
        NOON,
        EXIT_OPEN | NOTHING_ASKED | SELLS_LATER | {E.ORDER_UPDATE: AskBook("in_doubt")},
    ),
    Case(
        "exit partly filled, then canceled",
        seen(BOUGHT, exit_(ST.CANCELED, 7), latch=latch()),
        NOON,
        HELD | SELLS_LATER | exits(3, "STOPLOSS") | {E.RETRY: Submit(Leg.EXIT, 3, ExitReason.STOP_LOSS)},
    ),
    Case(
        "exit resting too long",
        seen(BOUGHT, OVERDUE),
        NOON,
        NOTHING_ASKED
        | EXIT_OPEN
        | SELLS_LATER
        | ignored(STOPLOSS="not_latched")
        | {E.ORDER_UPDATE: Reprice(OVERDUE, "resting_too_long")},
    ),
    Case(
        "the broker hinted",
        seen(RESTING, dirty=True),
        NOON,
        NOTHING_ASKED | ENTRY_OPEN | {E.ORDER_UPDATE: AskBook("broker_update")},
    ),
    Case(
        "the book was asked a moment ago",
        seen(RESTING, dirty=True, book_asked_at=NOON.real),
        NOON,
        NOTHING_ASKED | ENTRY_OPEN | {E.ORDER_UPDATE: Wait(NOON.real + S)},
    ),
    Case(
        "stop requested before buying",
        seen(stop_requested=StopMode.CLOSE),
        TIME,
        STOPPING
        | ignored(SELL="not_bought")
        | {kind: Finish(RunStatus.STOPPED, "force_stop_close") for kind in (E.FORCE_STOP, E.RETRY)}
        | {E.ORDER_UPDATE: Finish(RunStatus.STOPPED, "flat")},
    ),
    Case(
        "stop requested with the entry resting",
        seen(RESTING, stop_requested=StopMode.LEAVE),
        NOON,
        STOPPING
        | ignored(SELL="not_bought")
        | WATCHED
        | {kind: Cancel(RESTING, UNWANTED) for kind in (E.FORCE_STOP, E.RETRY)},
    ),
    Case(
        "stop requested with the entry in doubt",
        seen(DOUBTFUL, stop_requested=StopMode.CLOSE),
        NOON,
        STOPPING
        | ignored(SELL="not_bought", RETRY="nothing_to_retry", FORCE_STOP="entry_not_cancelable_yet")
        | {E.ORDER_UPDATE: AskBook("in_doubt")},
    ),
    Case(
        "close requested while holding",
        seen(BOUGHT, stop_requested=StopMode.CLOSE),
        NOON,
        STOPPING
        | ignored(ORDER_UPDATE="nothing_new")
        | exits(10, "FORCE_STOP")
        | {E.SELL: Wait(SELL_AT), E.RETRY: Submit(Leg.EXIT, 10, ExitReason.FORCE_STOP)},
    ),
    Case(
        "close requested with the exit in flight and the entry open",
        seen(
            PART,
            exit_(ST.ACCEPTED, quantity=4, **FRESH),
            stop_requested=StopMode.CLOSE,
            exit_reason=ExitReason.FORCE_STOP,
        ),
        NOON,
        STOPPING
        | WATCHED_CLOSELY
        | {E.SELL: Wait(SELL_AT)}
        | {kind: Cancel(PART, UNWANTED) for kind in (E.FORCE_STOP, E.RETRY)},
    ),
    Case(
        "leave requested while holding",
        seen(BOUGHT, stop_requested=StopMode.LEAVE),
        NOON,
        STOPPING
        | ignored(ORDER_UPDATE="nothing_new")
        | {E.SELL: Wait(SELL_AT)}
        | {kind: Finish(RunStatus.STOPPED, "force_stop_leave") for kind in (E.FORCE_STOP, E.RETRY)},
    ),
    Case(
        "leave requested with the exit in flight",
        seen(BOUGHT, EXITING, stop_requested=StopMode.LEAVE, latch=latch()),
        NOON,
        STOPPING
        | WATCHED
        | ignored(STOPLOSS="left")
        | {E.SELL: Wait(SELL_AT)}
        | {kind: Cancel(EXITING, "exit_no_longer_wanted") for kind in (E.FORCE_STOP, E.RETRY)},
    ),
    Case(
        "abort requested",
        seen(BOUGHT, abort_requested="why"),
        NOON,
        NOTHING_ASKED
        | ignored(BUY="run_not_active", ORDER_UPDATE="nothing_new")
        | SELLS_LATER
        | {E.SAFETY_ABORT: Abort("why")},
    ),
    Case(
        "failed with the entry resting",
        seen(RESTING, **PROTECT),
        NOON,
        ABORTED
        | WATCHED
        | ignored(STOPLOSS="not_latched", SELL="not_bought", RETRY="nothing_to_retry")
        | {E.SAFETY_ABORT: Cancel(RESTING, UNWANTED)},
    ),
    Case(
        "failed and protected",
        seen(BOUGHT, latch=latch(), **PROTECT),
        NOON,
        ABORTED
        | ignored(SAFETY_ABORT="already_aborted", ORDER_UPDATE="nothing_new")
        | {E.SELL: Wait(SELL_AT)}
        | exits(10, "STOPLOSS")
        | {E.RETRY: Submit(Leg.EXIT, 10, ExitReason.STOP_LOSS)},
    ),
    Case(
        "failed and flattened",
        seen(BOUGHT, **FLATTEN),
        NOON,
        ABORTED | ignored(STOPLOSS="not_latched", ORDER_UPDATE="nothing_new") | SELLS_LATER | exits(10, "SAFETY_ABORT"),
    ),
    Case(
        "failed and frozen",
        seen(BOUGHT, latch=latch(), **FROZEN),
        EVENING,
        ABORTED
        | ignored(STOPLOSS="frozen", SELL="frozen", RETRY="nothing_to_retry")
        | ignored(SAFETY_ABORT="already_aborted", ORDER_UPDATE="nothing_new"),
    ),
    Case(
        "failed and frozen, its exit canceled and the trades unread",
        seen(BOUGHT, exit_(ST.CANCELED, settled=False), latch=latch(), **FROZEN),
        EVENING,
        ABORTED
        | ignored(STOPLOSS="frozen", SELL="frozen", RETRY="nothing_to_retry", SAFETY_ABORT="already_aborted")
        | {E.ORDER_UPDATE: AskBook("attempt_unsettled")},
    ),
    Case(
        "failed with nothing held",
        seen(entry(ST.REJECTED), **PROTECT),
        TIME,
        ABORTED
        | ignored(STOPLOSS="not_latched", SELL="not_bought", RETRY="nothing_to_retry", SAFETY_ABORT="already_aborted")
        | {E.ORDER_UPDATE: Finish(RunStatus.FAILED, "why")},
    ),
    Case(
        "sold",
        seen(BOUGHT, exit_(ST.FILLED, 10), exit_reason=ExitReason.STOP_LOSS, latch=latch()),
        EVENING,
        HELD
        | ignored(STOPLOSS="not_bought", SELL="not_bought", RETRY="nothing_to_retry")
        | {E.ORDER_UPDATE: Finish(RunStatus.STOPPED, "stop_loss")},
    ),
    Case(
        "latched while the scheduled exit rests",
        seen(BOUGHT, EXITING, latch=latch(), exit_reason=ExitReason.SCHEDULE),
        NOON,
        NOTHING_ASKED
        | EXIT_OPEN
        | SELLS_LATER
        | {kind: Reprice(EXITING, "escalated by stop_loss", ExitReason.STOP_LOSS) for kind in (E.STOPLOSS, E.RETRY)},
    ),
    Case(
        "latched a moment after the scheduled exit was sent",
        seen(BOUGHT, SENT_NOW, latch=latch(), exit_reason=ExitReason.SCHEDULE),
        NOON,
        NOTHING_ASKED | EXIT_OPEN | SELLS_LATER | {kind: Wait(SENT_NOW.send_by) for kind in (E.STOPLOSS, E.RETRY)},
    ),
    Case(
        "a stop asked for while the scheduled exit rests, its session over",
        seen(BOUGHT, EXITING, stop_requested=StopMode.CLOSE, exit_reason=ExitReason.SCHEDULE, session_told=CLOSES),
        at(CLOSES, minutes=2),
        STOPPING
        | ignored(FORCE_STOP="exit_in_flight", SELL="exit_in_flight", RETRY="nothing_to_retry")
        | {E.ORDER_UPDATE: AskBook("silent")},
    ),
    Case(
        "a stop asked for while the stop-loss exit rests",
        seen(BOUGHT, EXITING, stop_requested=StopMode.CLOSE, exit_reason=ExitReason.STOP_LOSS),
        NOON,
        STOPPING | WATCHED | ignored(FORCE_STOP="exit_in_flight") | SELLS_LATER,
    ),
    Case(
        "latched, the position not proven for an hour",
        seen(BOUGHT, net=None, latch=latch()),
        NOON,
        HELD | SELLS_LATER | {kind: AskBook("position_unproven") for kind in (E.STOPLOSS, E.RETRY)},
    ),
    Case(
        "latched, what was read since the exit waits is of an hour ago",
        seen(BOUGHT, now=at(NOON.market, hours=-1), latch=latch(), unproven_since=NOON.real - 7200 * S),
        NOON,
        HELD | SELLS_LATER | {kind: AskBook("position_unproven") for kind in (E.STOPLOSS, E.RETRY)},
    ),
    Case(
        "latched near the square-off, what the exit asked for is of a minute ago and the fill of twenty seconds ago",
        seen(
            replace(BOUGHT, updated_at=CLOSES - 620 * S),
            now=at(CLOSES, minutes=-11),
            latch=latch(),
            unproven_since=CLOSES - 670 * S,
        ),
        at(CLOSES, minutes=-10),
        HELD | {kind: AskBook("position_unproven") for kind in (E.STOPLOSS, E.SELL, E.RETRY)},
    ),
    Case(
        "latched near the square-off, what the exit asked for is of twenty seconds ago",
        seen(BOUGHT, now=at(CLOSES, minutes=-10, seconds=-20), latch=latch(), unproven_since=CLOSES - 630 * S),
        at(CLOSES, minutes=-10),
        HELD | exits(10, "STOPLOSS", "SELL") | {E.RETRY: Submit(Leg.EXIT, 10, ExitReason.STOP_LOSS)},
    ),
    Case(
        "latched a second after the news of a fill that is an hour old: the engine slept, or its line was down",
        seen(replace(FILLED_NOW, filled_at=NOON.market - 3600 * S), net=None, latch=latch()),
        NOON,
        HELD | SELLS_LATER | {kind: AskBook("position_unproven") for kind in (E.STOPLOSS, E.RETRY)},
    ),
    Case(
        "latched a second after the news of a fill that is as old as a reading may be",
        seen(replace(FILLED_NOW, filled_at=NOON.market - 30 * S), net=None, latch=latch()),
        NOON,
        HELD | SELLS_LATER | exits(10, "STOPLOSS") | {E.RETRY: Submit(Leg.EXIT, 10, ExitReason.STOP_LOSS)},
    ),
    Case(
        "latched a second after the fill",
        seen(FILLED_NOW, net=None, latch=latch()),
        NOON,
        HELD | SELLS_LATER | exits(10, "STOPLOSS") | {E.RETRY: Submit(Leg.EXIT, 10, ExitReason.STOP_LOSS)},
    ),
    Case(
        "latched, the account holds less than the run",
        seen(BOUGHT, net=9, latch=latch()),
        NOON,
        HELD | SELLS_LATER | {kind: Submit(Leg.EXIT, 9, ExitReason.STOP_LOSS) for kind in (E.STOPLOSS, E.RETRY)},
    ),
    Case(
        "latched, the account has nothing of it",
        seen(BOUGHT, net=0, latch=latch()),
        NOON,
        HELD | SELLS_LATER | {kind: AskBook("not_covered") for kind in (E.STOPLOSS, E.RETRY)},
    ),
    Case(
        "latched, the account has nothing of it for two seconds",
        seen(BOUGHT, net=0, latch=latch(), cover_awaited_since=NOON.real - 2 * S),
        NOON,
        HELD | SELLS_LATER | {kind: Tell(Untold.UNCOVERED) for kind in (E.STOPLOSS, E.RETRY)},
    ),
    Case(
        "latched, the account has nothing of it for two seconds, and somebody was told of that",
        seen(BOUGHT, net=0, latch=latch(), cover_awaited_since=NOON.real - 2 * S, cover_awaited_told=True),
        NOON,
        HELD | SELLS_LATER | {kind: AskBook("not_covered") for kind in (E.STOPLOSS, E.RETRY)},
    ),
    Case(
        "latched, the account has had nothing of it, and has it again",
        seen(BOUGHT, latch=latch(), cover_awaited_since=NOON.real - 2 * S),
        NOON,
        HELD | SELLS_LATER | SOLD_AT_ONCE,
    ),
    Case(
        "the sale is due while the broker squares off",
        seen(BOUGHT, now=at(CLOSES, minutes=-10, seconds=-6)),
        at(CLOSES, minutes=-10),
        HELD | {kind: AskBook("position_unproven") for kind in (E.SELL, E.RETRY)},
    ),
    Case(
        "held, its session cut short to end before its sale",
        replace(seen(BOUGHT), sell_at=CLOSES + 3600 * S),
        NOON,
        HELD | {kind: Wait(CLOSES + 3600 * S) for kind in (E.SELL, E.RETRY)} | {E.ORDER_UPDATE: Wait(CLOSES + 61 * S)},
    ),
    Case(
        "held when its session is over",
        seen(BOUGHT, now=at(CLOSES, minutes=2)),
        at(CLOSES, minutes=2),
        HELD | ignored(SELL="session_over", RETRY="nothing_to_retry") | {E.ORDER_UPDATE: Abort("session_over")},
    ),
    Case(
        "held when its session is over, its exit expired and the trades unread",
        seen(BOUGHT, exit_(ST.EXPIRED, settled=False), session_told=CLOSES),
        at(CLOSES, minutes=2),
        HELD | ignored(SELL="session_over", RETRY="nothing_to_retry") | {E.ORDER_UPDATE: AskBook("attempt_unsettled")},
    ),
    Case(
        "flagged when its session is over",
        seen(BOUGHT, now=at(CLOSES, minutes=2), **PROTECT),
        at(CLOSES, minutes=2),
        ABORTED
        | ignored(STOPLOSS="not_latched", SELL="session_over", RETRY="nothing_to_retry")
        | ignored(SAFETY_ABORT="already_aborted", ORDER_UPDATE="nothing_new"),
    ),
    Case(
        "an abort asked for while an exit keeps failing",
        seen(BOUGHT, status=RunStatus.FAILED, failure="exit_keeps_failing", abort_requested="why"),
        NOON,
        ABORTED
        | ignored(STOPLOSS="not_latched", ORDER_UPDATE="nothing_new")
        | SELLS_LATER
        | {E.SAFETY_ABORT: Abort("why")},
    ),
    Case(
        "sold, an attempt given up",
        seen(LOST, BOUGHT_AGAIN, exit_(ST.FILLED, 10), exit_reason=ExitReason.SCHEDULE, book_asked_at=NOON.real),
        NOON,
        HELD | ignored(SELL="not_bought", RETRY="nothing_to_retry") | {E.ORDER_UPDATE: Wait(NOON.real + 30 * S)},
    ),
    Case(
        "sold, an attempt given up, the book not asked for a while",
        seen(LOST, BOUGHT_AGAIN, exit_(ST.FILLED, 10), exit_reason=ExitReason.SCHEDULE),
        NOON,
        HELD | ignored(SELL="not_bought", RETRY="nothing_to_retry") | {E.ORDER_UPDATE: AskBook("given_up")},
    ),
    Case(
        "sold, an attempt given up, its session read to the end",
        seen(LOST, BOUGHT_AGAIN, exit_(ST.FILLED, 10), exit_reason=ExitReason.SCHEDULE, book_read_at=CLOSES),
        at(CLOSES, seconds=1),
        HELD
        | ignored(SELL="not_bought", RETRY="nothing_to_retry")
        | {E.ORDER_UPDATE: Finish(RunStatus.STOPPED, "schedule")},
    ),
    Case(
        "an attempt that was given up appeared",
        seen(APPEARED, BOUGHT_AGAIN),
        NOON,
        HELD | SELLS_LATER | {E.ORDER_UPDATE: Cancel(APPEARED, "given_up_before_it_appeared")},
    ),
    Case(
        "an entry that was given up appeared before another was sent",
        seen(APPEARED),
        TIME,
        NOTHING_ASKED
        | ignored(BUY="entry_in_flight", SELL="not_bought", RETRY="nothing_to_retry")
        | {E.ORDER_UPDATE: Cancel(APPEARED, "given_up_before_it_appeared")},
    ),
    Case(
        "an exit that was given up appeared before another was sent",
        seen(BOUGHT, EXIT_APPEARED, latch=latch()),
        NOON,
        HELD
        | SELLS_LATER
        | ignored(STOPLOSS="exit_in_flight")
        | {E.ORDER_UPDATE: Cancel(EXIT_APPEARED, "given_up_before_it_appeared")},
    ),
    Case(
        "an attempt that was given up filled beside its successor",
        seen(entry(ST.FILLED, 10, given_up=True), BOUGHT_AGAIN, net=20),
        NOON,
        HELD | {kind: Submit(Leg.EXIT, 10) for kind in (E.SELL, E.RETRY)},
    ),
    Case(
        "too late to buy again, an attempt given up",
        seen(LOST, book_asked_at=LATE.real),
        LATE,
        NOT_BOUGHT
        | {kind: Abort("buy_time_missed_in_doubt") for kind in (E.BUY, E.RETRY)}
        | {E.ORDER_UPDATE: Wait(LATE.real + 30 * S)},
    ),
    Case(
        "close requested, an attempt given up",
        seen(LOST, stop_requested=StopMode.CLOSE, book_asked_at=NOON.real),
        NOON,
        STOPPING
        | ignored(SELL="not_bought", FORCE_STOP="given_up_attempts_watched", RETRY="nothing_to_retry")
        | {E.ORDER_UPDATE: Wait(NOON.real + 30 * S)},
    ),
    Case(
        "an entry in doubt long after it should have settled",
        seen(entry(ST.UNKNOWN, send_by=NOON.real - 73 * S, settles_at=NOON.real - 60 * S)),
        NOON,
        NOTHING_ASKED | ENTRY_OPEN | {E.ORDER_UPDATE: Abort("attempt_unsettled")},
    ),
    Case(
        "frozen, its exit resting too long",
        seen(BOUGHT, OVERDUE, **FROZEN),
        NOON,
        ABORTED | ignored(STOPLOSS="not_latched", SAFETY_ABORT="already_aborted") | SELLS_LATER | WATCHED,
    ),
    Case(
        "frozen, and its user wants it closed",
        seen(BOUGHT, stop_requested=StopMode.CLOSE, **FROZEN),
        NOON,
        ABORTED
        | ignored(STOPLOSS="not_latched", SAFETY_ABORT="already_aborted", ORDER_UPDATE="nothing_new")
        | exits(10, "FORCE_STOP")
        | {E.SELL: Wait(SELL_AT), E.RETRY: Submit(Leg.EXIT, 10, ExitReason.FORCE_STOP)},
    ),
    Case(
        "a human stated that the doubtful entry was never placed, before its book was read",
        seen(DOUBTFUL, absent=DOUBTFUL.client_order_id),
        NOON,
        NOTHING_ASKED
        | ENTRY_OPEN
        | {kind: AskBook("stated_absent") for kind in (E.FORCE_STOP, E.RETRY)}
        | {E.ORDER_UPDATE: AskBook("in_doubt")},
    ),
    Case(
        "a human stated that the doubtful entry was never placed, and its book lacks it",
        seen(DOUBTFUL, absent=DOUBTFUL.client_order_id, book_read_at=NOON.real + S),
        NOON,
        NOTHING_ASKED
        | ENTRY_OPEN
        | {kind: GiveUp(DOUBTFUL) for kind in (E.FORCE_STOP, E.RETRY)}
        | {E.ORDER_UPDATE: AskBook("in_doubt")},
    ),
    Case(
        "a human stated that the doubtful entry was never placed, and its book cannot be read",
        seen(DOUBTFUL, absent=DOUBTFUL.client_order_id, unread_since=NOON.real),
        NOON,
        NOTHING_ASKED
        | ENTRY_OPEN
        | {kind: GiveUp(DOUBTFUL) for kind in (E.FORCE_STOP, E.RETRY)}
        | {E.ORDER_UPDATE: AskBook("in_doubt")},
    ),
    Case(
        "a human stated that the position is closed",
        seen(BOUGHT, latch=latch(), closed_elsewhere=10, **PROTECT),
        EVENING,
        ABORTED
        | ignored(STOPLOSS="not_bought", SELL="not_bought", SAFETY_ABORT="already_aborted")
        | {kind: Finish(RunStatus.STOPPED, "closed_elsewhere") for kind in (E.FORCE_STOP, E.RETRY, E.ORDER_UPDATE)},
    ),
    Case(
        "a human stated that the position is closed, an exit in flight",
        seen(BOUGHT, EXITING, closed_elsewhere=10, **PROTECT),
        NOON,
        ABORTED
        | WATCHED
        | ignored(STOPLOSS="not_latched", SELL="not_bought", SAFETY_ABORT="already_aborted")
        | {kind: Cancel(EXITING, "exit_no_longer_wanted") for kind in (E.FORCE_STOP, E.RETRY)}
        | {E.ORDER_UPDATE: Cancel(EXITING, "needless")},
    ),
    Case(
        "a human stated that the position is closed, and more was bought since",
        seen(BOUGHT, closed_elsewhere=4, latch=latch()),
        NOON,
        HELD | SELLS_LATER | exits(6, "STOPLOSS") | {E.RETRY: Submit(Leg.EXIT, 6, ExitReason.STOP_LOSS)},
    ),
    Case(
        "a human stated that the position is closed, the book unread",
        seen(BOUGHT, closed_elsewhere=10, dirty=True, **PROTECT),
        NOON,
        ABORTED
        | ignored(STOPLOSS="not_latched", SELL="not_bought", SAFETY_ABORT="already_aborted")
        | ignored(FORCE_STOP="book_unread", RETRY="nothing_to_retry")
        | {E.ORDER_UPDATE: AskBook("broker_update")},
    ),
    Case(
        "stop requested, the book unread",
        seen(stop_requested=StopMode.LEAVE, dirty=True),
        TIME,
        STOPPING
        | ignored(SELL="not_bought", FORCE_STOP="book_unread", RETRY="nothing_to_retry")
        | {E.ORDER_UPDATE: AskBook("broker_update")},
    ),
]
