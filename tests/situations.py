"""Situations a run can be in, each with what every event means in it; the decision table of the tests."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from engine.domain.decision import Abort, AskBook, Cancel, Decision, Finish, Ignore, Submit, Wait
from engine.domain.events import EventType
from engine.domain.moment import Moment
from engine.domain.orders import Leg, OrderStatus
from engine.domain.run import ExitReason, Run, RunStatus
from engine.domain.strategy import AbortPolicy, StopMode
from tests.builders import BUY_AT, SELL_AT, S, at, entry, exit_, latch, run, strategy

E, ST = EventType, OrderStatus
BEFORE, TIME, LATE = at(BUY_AT - S), at(BUY_AT), at(BUY_AT + timedelta(seconds=31))
NOON, EVENING = at(BUY_AT, hours=2), at(SELL_AT)
#: Orders sent, or heard of, at the moment of the decision: neither silent nor resting too long.
FRESH: dict[str, Any] = {"send_by": NOON.real, "updated_at": NOON.real}
BOUGHT = entry(ST.FILLED, 10)
RESTING = entry(ST.ACCEPTED, **FRESH)
PART = entry(ST.PARTIALLY_FILLED, 4, **FRESH)
DOUBTFUL = entry(ST.UNKNOWN, **FRESH)
EXITING = exit_(ST.ACCEPTED, **FRESH)
OVERDUE = exit_(ST.ACCEPTED, send_by=NOON.real - 30 * S, updated_at=NOON.real)


def failed(policy: AbortPolicy) -> dict[str, Any]:
    """A run that was aborted under `policy`."""
    return {"spec": strategy(on_abort=policy), "status": RunStatus.FAILED, "failure": "why"}


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
HELD = NOTHING_ASKED | ignored(BUY="position_not_none", ORDER_UPDATE="nothing_new")
BUYS = {E.BUY: Submit(Leg.ENTRY, 10), E.RETRY: Submit(Leg.ENTRY, 10)}
SELLS_LATER: dict[EventType, Decision] = {E.SELL: Wait(SELL_AT), E.RETRY: Wait(SELL_AT)}
MISSED: dict[EventType, Decision] = {kind: Finish(RunStatus.MISSED, "buy_time_missed") for kind in (E.BUY, E.RETRY)}
WATCHED: dict[EventType, Decision] = {E.ORDER_UPDATE: Wait(NOON.real + 5 * S)}
ENTRY_OPEN = ignored(BUY="entry_in_flight", SELL="not_bought", RETRY="nothing_to_retry") | WATCHED
EXIT_OPEN = ignored(BUY="position_not_none", STOPLOSS="exit_in_flight", SELL="exit_in_flight") | WATCHED
STOPPING = ignored(BUY="run_not_active", SAFETY_ABORT="no_abort_requested", STOPLOSS="not_latched")
ABORTED = ignored(BUY="run_not_active", FORCE_STOP="no_stop_requested")
UNWANTED = "entry_no_longer_wanted"

CASES = [
    Case("before its time", run(), BEFORE, NOT_BOUGHT | {E.BUY: Wait(BUY_AT), E.RETRY: Wait(BUY_AT)}),
    Case("at its time", run(), TIME, NOT_BOUGHT | BUYS),
    Case("as late as allowed", run(), at(BUY_AT, seconds=30), NOT_BOUGHT | BUYS),
    Case("too late", run(), LATE, NOT_BOUGHT | MISSED),
    Case(
        "at its time, the book unread",
        run(dirty=True),
        TIME,
        NOT_BOUGHT | ignored(BUY="book_unread", RETRY="nothing_to_retry") | {E.ORDER_UPDATE: AskBook("broker_update")},
    ),
    Case(
        "retry pending",
        run(entry(ST.REJECTED), retry_at=TIME.real + S),
        TIME,
        NOT_BOUGHT | {E.BUY: Wait(TIME.real + S), E.RETRY: Wait(TIME.real + S)},
    ),
    Case("retry due", run(entry(ST.REJECTED), retry_at=TIME.real), TIME, NOT_BOUGHT | BUYS),
    Case(
        "retries used up",
        run(entry(ST.CANCELED, attempt=4)),
        TIME,
        NOT_BOUGHT | {kind: Abort("entry_retries_exhausted") for kind in (E.BUY, E.RETRY)},
    ),
    Case(
        "latched but not bought",
        run(RESTING, latch=latch()),
        NOON,
        NOT_BOUGHT | ENTRY_OPEN | ignored(STOPLOSS="not_bought"),
    ),
    Case("entry in flight", run(RESTING), NOON, NOTHING_ASKED | ENTRY_OPEN),
    Case(
        "entry being sent",
        run(entry(ST.SENDING, send_by=NOON.real + 2 * S)),
        NOON,
        NOTHING_ASKED | ENTRY_OPEN | {E.ORDER_UPDATE: Wait(NOON.real + 2 * S)},
    ),
    Case("entry in doubt", run(DOUBTFUL), NOON, NOTHING_ASKED | ENTRY_OPEN | {E.ORDER_UPDATE: AskBook("in_doubt")}),
    Case("bought", run(BOUGHT), NOON, HELD | SELLS_LATER),
    Case("partly bought, the rest resting", run(PART), NOON, HELD | SELLS_LATER | WATCHED),
    Case(
        "bought, the scheduled sale due",
        run(BOUGHT),
        EVENING,
        HELD | exits(10, "SELL") | {E.RETRY: Submit(Leg.EXIT, 10, ExitReason.SCHEDULE)},
    ),
    Case(
        "latched",
        run(BOUGHT, latch=latch()),
        NOON,
        HELD | SELLS_LATER | exits(10, "STOPLOSS") | {E.RETRY: Submit(Leg.EXIT, 10, ExitReason.STOP_LOSS)},
    ),
    Case(
        "latched, the book unread",
        run(BOUGHT, latch=latch(), dirty=True),
        NOON,
        HELD | SELLS_LATER | ignored(STOPLOSS="book_unread") | {E.ORDER_UPDATE: AskBook("broker_update")},
    ),
    Case(
        "latched with the entry still open",
        run(PART, latch=latch()),
        NOON,
        HELD | SELLS_LATER | WATCHED | exits(4, "STOPLOSS") | {E.RETRY: Submit(Leg.EXIT, 4, ExitReason.STOP_LOSS)},
    ),
    Case(
        "latched, what was held sold, the entry still open",
        run(PART, exit_(ST.FILLED, 4, quantity=4), latch=latch()),
        NOON,
        HELD | WATCHED | ignored(STOPLOSS="not_bought", SELL="not_bought") | {E.RETRY: Cancel(PART, UNWANTED)},
    ),
    Case(
        "latched, exit retry pending",
        run(BOUGHT, exit_(ST.REJECTED), latch=latch(), retry_at=NOON.real + S),
        NOON,
        HELD | {E.SELL: Wait(SELL_AT), E.STOPLOSS: Wait(NOON.real + S), E.RETRY: Wait(NOON.real + S)},
    ),
    Case(
        "latched, exit in flight",
        run(BOUGHT, EXITING, latch=latch()),
        NOON,
        NOTHING_ASKED | EXIT_OPEN | SELLS_LATER,
    ),
    Case(
        "exit in doubt",
        run(BOUGHT, exit_(ST.UNKNOWN, **FRESH), latch=latch()),
        NOON,
        NOTHING_ASKED | EXIT_OPEN | SELLS_LATER | {E.ORDER_UPDATE: AskBook("in_doubt")},
    ),
    Case(
        "exit partly filled, then canceled",
        run(BOUGHT, exit_(ST.CANCELED, 7), latch=latch()),
        NOON,
        HELD | SELLS_LATER | exits(3, "STOPLOSS") | {E.RETRY: Submit(Leg.EXIT, 3, ExitReason.STOP_LOSS)},
    ),
    Case(
        "exit resting too long",
        run(BOUGHT, OVERDUE),
        NOON,
        NOTHING_ASKED
        | EXIT_OPEN
        | SELLS_LATER
        | ignored(STOPLOSS="not_latched")
        | {E.ORDER_UPDATE: Cancel(OVERDUE, "resting_too_long")},
    ),
    Case(
        "the broker hinted",
        run(RESTING, dirty=True),
        NOON,
        NOTHING_ASKED | ENTRY_OPEN | {E.ORDER_UPDATE: AskBook("broker_update")},
    ),
    Case(
        "the book was asked a moment ago",
        run(RESTING, dirty=True, book_asked_at=NOON.real),
        NOON,
        NOTHING_ASKED | ENTRY_OPEN | {E.ORDER_UPDATE: Wait(NOON.real + S)},
    ),
    Case(
        "stop requested before buying",
        run(stop_requested=StopMode.CLOSE),
        TIME,
        STOPPING
        | ignored(SELL="not_bought")
        | {kind: Finish(RunStatus.STOPPED, "force_stop_close") for kind in (E.FORCE_STOP, E.RETRY)}
        | {E.ORDER_UPDATE: Finish(RunStatus.STOPPED, "flat")},
    ),
    Case(
        "stop requested with the entry resting",
        run(RESTING, stop_requested=StopMode.LEAVE),
        NOON,
        STOPPING
        | ignored(SELL="not_bought")
        | WATCHED
        | {kind: Cancel(RESTING, UNWANTED) for kind in (E.FORCE_STOP, E.RETRY)},
    ),
    Case(
        "stop requested with the entry in doubt",
        run(DOUBTFUL, stop_requested=StopMode.CLOSE),
        NOON,
        STOPPING
        | ignored(SELL="not_bought", RETRY="nothing_to_retry", FORCE_STOP="entry_not_cancelable_yet")
        | {E.ORDER_UPDATE: AskBook("in_doubt")},
    ),
    Case(
        "close requested while holding",
        run(BOUGHT, stop_requested=StopMode.CLOSE),
        NOON,
        STOPPING
        | ignored(ORDER_UPDATE="nothing_new")
        | exits(10, "FORCE_STOP")
        | {E.SELL: Wait(SELL_AT), E.RETRY: Submit(Leg.EXIT, 10, ExitReason.FORCE_STOP)},
    ),
    Case(
        "close requested with the exit in flight and the entry open",
        run(PART, exit_(ST.ACCEPTED, quantity=4, **FRESH), stop_requested=StopMode.CLOSE),
        NOON,
        STOPPING
        | WATCHED
        | {E.SELL: Wait(SELL_AT)}
        | {kind: Cancel(PART, UNWANTED) for kind in (E.FORCE_STOP, E.RETRY)},
    ),
    Case(
        "leave requested while holding",
        run(BOUGHT, stop_requested=StopMode.LEAVE),
        NOON,
        STOPPING
        | ignored(ORDER_UPDATE="nothing_new")
        | {E.SELL: Wait(SELL_AT)}
        | {kind: Finish(RunStatus.STOPPED, "force_stop_leave") for kind in (E.FORCE_STOP, E.RETRY)},
    ),
    Case(
        "leave requested with the exit in flight",
        run(BOUGHT, EXITING, stop_requested=StopMode.LEAVE),
        NOON,
        STOPPING | WATCHED | ignored(FORCE_STOP="exit_in_flight") | SELLS_LATER,
    ),
    Case(
        "abort requested",
        run(BOUGHT, abort_requested="why"),
        NOON,
        NOTHING_ASKED
        | ignored(BUY="run_not_active", ORDER_UPDATE="nothing_new")
        | SELLS_LATER
        | {E.SAFETY_ABORT: Abort("why")},
    ),
    Case(
        "failed with the entry resting",
        run(RESTING, **PROTECT),
        NOON,
        ABORTED
        | WATCHED
        | ignored(STOPLOSS="not_latched", SELL="not_bought", RETRY="nothing_to_retry")
        | {E.SAFETY_ABORT: Cancel(RESTING, UNWANTED)},
    ),
    Case(
        "failed and protected",
        run(BOUGHT, latch=latch(), **PROTECT),
        NOON,
        ABORTED
        | ignored(SAFETY_ABORT="already_aborted", ORDER_UPDATE="nothing_new")
        | {E.SELL: Wait(SELL_AT)}
        | exits(10, "STOPLOSS")
        | {E.RETRY: Submit(Leg.EXIT, 10, ExitReason.STOP_LOSS)},
    ),
    Case(
        "failed and flattened",
        run(BOUGHT, **FLATTEN),
        NOON,
        ABORTED | ignored(STOPLOSS="not_latched", ORDER_UPDATE="nothing_new") | SELLS_LATER | exits(10, "SAFETY_ABORT"),
    ),
    Case(
        "failed and frozen",
        run(BOUGHT, latch=latch(), **FROZEN),
        EVENING,
        ABORTED
        | ignored(STOPLOSS="frozen", SELL="frozen", RETRY="nothing_to_retry")
        | ignored(SAFETY_ABORT="already_aborted", ORDER_UPDATE="nothing_new"),
    ),
    Case(
        "failed with nothing held",
        run(entry(ST.REJECTED), **PROTECT),
        TIME,
        ABORTED
        | ignored(STOPLOSS="not_latched", SELL="not_bought", RETRY="nothing_to_retry", SAFETY_ABORT="already_aborted")
        | {E.ORDER_UPDATE: Finish(RunStatus.FAILED, "why")},
    ),
    Case(
        "sold",
        run(BOUGHT, exit_(ST.FILLED, 10), exit_reason=ExitReason.STOP_LOSS, latch=latch()),
        EVENING,
        HELD
        | ignored(STOPLOSS="not_bought", SELL="not_bought", RETRY="nothing_to_retry")
        | {E.ORDER_UPDATE: Finish(RunStatus.STOPPED, "stop_loss")},
    ),
]
