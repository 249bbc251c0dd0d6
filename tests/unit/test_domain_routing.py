"""Both routing tables: every answer to an order sent, and every end that evidence tells later."""

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import product
from typing import Any

import pytest

from engine.domain.broker import Outcome, RejectCause, Reply
from engine.domain.orders import TERMINAL, Leg, Order, OrderStatus
from engine.domain.routing import Route, apply_ends, apply_reply, hold_for_token, retry_delay, route
from engine.domain.run import RunStatus
from engine.domain.strategy import AbortPolicy, StopMode
from tests.builders import BUY_AT, CLOSES, entry, exit_, order, run, strategy

R, C, S = Route, RejectCause, OrderStatus
AT = BUY_AT + timedelta(seconds=2)
CAUSES: tuple[RejectCause | None, ...] = (*RejectCause, None)
ATTEMPTS = (1, 2, 3, 4, 5, 40)


def _expected(outcome: Outcome, leg: Leg, attempt: int, cause: RejectCause | None) -> Route:
    """The specification's table, row by row."""
    first_three = attempt <= 3
    match (outcome, leg):
        case (Outcome.ACCEPTED, _):
            return R.AWAIT_FILL
        case (Outcome.TIMEOUT, _):
            return R.SETTLE
        case (Outcome.TOKEN_INVALID, Leg.ENTRY):
            return R.ABORT
        case (Outcome.TOKEN_INVALID, Leg.EXIT):
            return R.HOLD_FOR_TOKEN
        case (_, Leg.ENTRY):
            return R.ABORT if cause in (C.MARGIN, C.INPUT) or not first_three else R.RETRY
        case _:
            again = R.RETRY if first_three else R.RETRY_AND_ALERT
            return R.HOLD_FOR_AUTHORISATION if cause is C.AUTHORISATION else again


CASES = [(*case, _expected(*case)) for case in product(Outcome, Leg, ATTEMPTS, CAUSES)]


@pytest.mark.parametrize(("outcome", "leg", "attempt", "cause", "expected"), CASES)
def test_every_answer_leads_where_the_specification_says(
    outcome: Outcome, leg: Leg, attempt: int, cause: RejectCause | None, expected: Route
) -> None:
    assert route(outcome, leg, attempt, cause) is expected


def test_an_exit_is_never_abandoned() -> None:
    roads = {
        route(outcome, Leg.EXIT, attempt, cause) for outcome, attempt, cause in product(Outcome, range(1, 200), CAUSES)
    }
    assert R.ABORT not in roads


@pytest.mark.parametrize(
    ("attempt", "seconds"), [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 30), (7, 30), (5000, 30)]
)
def test_the_pause_doubles_up_to_half_a_minute(attempt: int, seconds: int) -> None:
    assert retry_delay(attempt) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("outcome", "status", "unsent"),
    [
        (Outcome.ACCEPTED, S.ACCEPTED, False),
        (Outcome.REJECTED, S.REJECTED, False),
        (Outcome.TIMEOUT, S.UNKNOWN, False),
        (Outcome.TOKEN_INVALID, S.REJECTED, True),
        (Outcome.SERVER_DOWN, S.REJECTED, True),
    ],
)
@pytest.mark.parametrize("leg", Leg)
def test_an_answer_moves_its_order(leg: Leg, outcome: Outcome, status: OrderStatus, *, unsent: bool) -> None:
    sent = order(leg, S.SENDING)
    answered = apply_reply(run(sent), sent, Reply(outcome, "B7", message="told"), AT).run.last_order(leg)
    assert answered == replace(sent, status=status, broker_order_id="B7", reason="told", updated_at=AT, unsent=unsent)


@pytest.mark.parametrize(("attempt", "pause"), [(1, 1), (2, 2), (3, 4)])
@pytest.mark.parametrize("leg", Leg)
def test_a_refused_attempt_is_tried_again_after_its_pause(leg: Leg, attempt: int, pause: int) -> None:
    sent = order(leg, S.SENDING, attempt=attempt)
    routed = apply_reply(run(sent), sent, Reply(Outcome.REJECTED, cause=C.OTHER), AT)
    assert (routed.route, routed.run.retry_at(leg)) == (R.RETRY, AT + timedelta(seconds=pause))
    other = Leg.ENTRY if leg is Leg.EXIT else Leg.EXIT
    assert routed.run.retry_at(other) is None
    assert not routed.alerts


def test_a_broker_that_asks_for_patience_gets_it() -> None:
    sent = exit_(S.SENDING)
    routed = apply_reply(run(sent), sent, Reply(Outcome.REJECTED, cause=C.RATE_LIMITED, retry_after=0.5), AT)
    assert routed.run.exit_retry_at == AT + timedelta(seconds=0.5)


def test_an_exit_that_keeps_failing_is_alerted_and_tried_on() -> None:
    sent = exit_(S.SENDING, attempt=9)
    routed = apply_reply(run(sent), sent, Reply(Outcome.SERVER_DOWN), AT)
    assert (routed.run.failure, routed.run.exit_retry_at) == ("exit_keeps_failing", AT + timedelta(seconds=30))
    assert (routed.run.status, routed.run.is_frozen) == (RunStatus.FAILED, False)
    assert [(alert.severity, alert.code) for alert in routed.alerts] == [("critical", "exit_keeps_failing")]


@pytest.mark.parametrize("reply", [Reply(Outcome.SERVER_DOWN), Reply(Outcome.TOKEN_INVALID)])
def test_an_exit_in_trouble_is_told_of_once_not_at_every_attempt(reply: Reply) -> None:
    first = exit_(S.SENDING, attempt=9)
    told = apply_reply(run(first), first, reply, AT)
    second = exit_(S.SENDING, attempt=10)
    assert len(told.alerts) == 1
    assert not apply_reply(told.run.with_order(second), second, reply, AT).alerts


def test_an_exit_with_a_dead_token_waits_for_authentication_and_says_so() -> None:
    sent = exit_(S.SENDING)
    routed = apply_reply(run(sent), sent, Reply(Outcome.TOKEN_INVALID), AT)
    assert routed.run.exit_retry_at == AT + timedelta(seconds=5)
    assert [alert.code for alert in routed.alerts] == ["token_invalid"]


def test_an_exit_whose_sale_wants_authorising_is_told_of_at_once_with_what_to_do_and_tried_on() -> None:
    wants = Reply(Outcome.REJECTED, cause=C.AUTHORISATION, message="TPIN")
    first, second = exit_(S.SENDING), exit_(S.SENDING, attempt=2)
    routed = apply_reply(run(first), first, wants, AT)
    ((severity, code, message),) = [(alert.severity, alert.code, alert.message) for alert in routed.alerts]
    assert (severity, code) == ("critical", "authorisation_needed")
    assert "authorise" in message
    assert "TPIN" in message
    assert routed.run.exit_retry_at == AT + timedelta(seconds=1)
    assert not routed.run.is_frozen
    again = apply_reply(routed.run.with_order(second), second, wants, AT)
    assert (again.alerts, again.run.exit_retry_at) == ((), AT + timedelta(seconds=2))


@pytest.mark.parametrize(
    "reply", [Reply(Outcome.TOKEN_INVALID), Reply(Outcome.REJECTED, cause=C.MARGIN, message="no margin")]
)
def test_an_entry_that_cannot_succeed_asks_for_the_abort(reply: Reply) -> None:
    sent = entry(S.SENDING)
    routed = apply_reply(run(sent), sent, reply, AT)
    assert routed.run.abort_requested == f"entry_rejected: {reply.message or 'rejected'}"
    assert routed.run.entry_retry_at is None


@pytest.mark.parametrize("outcome", [Outcome.ACCEPTED, Outcome.TIMEOUT])
def test_acceptance_and_doubt_ask_for_nothing_yet(outcome: Outcome) -> None:
    sent = entry(S.SENDING)
    routed = apply_reply(run(sent), sent, Reply(outcome), AT)
    assert (routed.run.entry_retry_at, routed.run.abort_requested, routed.alerts) == (None, "", ())


LIVE = [status for status in S if status not in TERMINAL]
#: The end, and the route by (leg, whether part of it filled).
LATER = [
    (S.REJECTED, Leg.ENTRY, 0, R.RETRY),
    (S.REJECTED, Leg.EXIT, 0, R.RETRY),
    (S.REJECTED, Leg.EXIT, 4, R.RETRY),
    (S.CANCELED, Leg.ENTRY, 0, R.RETRY),
    (S.CANCELED, Leg.ENTRY, 4, R.SETTLED),
    (S.CANCELED, Leg.EXIT, 0, R.RETRY),
    (S.CANCELED, Leg.EXIT, 4, R.RETRY),
    (S.EXPIRED, Leg.ENTRY, 0, R.RETRY),
    (S.EXPIRED, Leg.ENTRY, 4, R.SETTLED),
    (S.EXPIRED, Leg.EXIT, 0, R.RETRY),
    (S.EXPIRED, Leg.EXIT, 4, R.RETRY),
    (S.FILLED, Leg.ENTRY, 10, R.SETTLED),
    (S.FILLED, Leg.EXIT, 10, R.SETTLED),
]


@pytest.mark.parametrize(("end", "leg", "filled", "expected"), LATER)
@pytest.mark.parametrize("before", LIVE)
def test_an_end_told_later_leads_where_the_specification_says(
    before: OrderStatus, end: OrderStatus, leg: Leg, filled: int, expected: Route
) -> None:
    old, new = run(order(leg, before)), run(order(leg, end, filled))
    routed = apply_ends(old, new, AT)
    assert routed.route is expected
    pause = timedelta(seconds=1 if end is S.REJECTED else 0)
    assert routed.run.retry_at(leg) == (AT + pause if expected is R.RETRY else None)


@pytest.mark.parametrize(("attempt", "seconds"), [(1, 0), (2, 2), (3, 4), (8, 30)])
@pytest.mark.parametrize("end", [S.CANCELED, S.EXPIRED])
def test_what_was_canceled_is_replaced_at_once_but_not_again_and_again(
    end: OrderStatus, attempt: int, seconds: int
) -> None:
    old, new = run(exit_(S.ACCEPTED, attempt=attempt)), run(exit_(end, attempt=attempt))
    assert apply_ends(old, new, AT).run.exit_retry_at == AT + timedelta(seconds=seconds)


@pytest.mark.parametrize(("closes_at", "seconds"), [(CLOSES, 30), (CLOSES + timedelta(days=1), 0)])
def test_an_exit_that_ended_with_its_session_holds_up_none_of_the_next(closes_at: datetime, seconds: int) -> None:
    old = run(exit_(S.ACCEPTED, attempt=8, session_ends=CLOSES), closes_at=closes_at)
    ended = apply_ends(old, run(exit_(S.EXPIRED, attempt=8, session_ends=CLOSES), closes_at=closes_at), AT)
    assert ended.run.exit_retry_at == AT + timedelta(seconds=seconds)


def test_an_exit_pauses_by_what_its_broker_failed_alone() -> None:
    """Six were taken back, to be sent anew for a stronger cause or another quantity; the seventh is refused."""
    ours = [exit_(S.CANCELED, attempt=number, cancels=1) for number in range(1, 7)]
    old = run(*ours, exit_(S.SENDING, attempt=7))
    routed = apply_reply(old, old.orders[-1], Reply(Outcome.REJECTED, cause=RejectCause.OTHER), AT)
    assert (routed.route, routed.run.exit_retry_at) == (R.RETRY, AT + timedelta(seconds=1))
    ended = apply_ends(old, old.with_order(exit_(S.CANCELED, attempt=7)), AT)
    assert (ended.route, ended.run.exit_retry_at) == (R.RETRY, AT)


def test_an_end_that_was_known_leads_nowhere_again() -> None:
    known = run(entry(S.CANCELED))
    assert apply_ends(known, known, AT).run.entry_retry_at is None


@pytest.mark.parametrize("end", [S.REJECTED, S.CANCELED, S.EXPIRED])
@pytest.mark.parametrize("leg", Leg)
def test_the_end_of_an_attempt_that_was_replaced_delays_nothing(leg: Leg, end: OrderStatus) -> None:
    live = order(leg, S.ACCEPTED, attempt=2)
    old = run(order(leg, S.UNKNOWN, given_up=True), live)
    new = run(order(leg, end, given_up=True), live)
    routed = apply_ends(old, new, AT)
    assert (routed.route, routed.run) == (R.SETTLED, new)


def test_a_rejection_after_acceptance_exhausts_an_entry_as_an_answer_would() -> None:
    old: Order = entry(S.ACCEPTED, attempt=4)
    routed = apply_ends(run(old), run(replace(old, status=S.REJECTED, reason="no margin")), AT)
    assert (routed.route, routed.run.abort_requested) == (R.ABORT, "entry_rejected: no margin")


#: How an order of so many filled ended, what else its run has, and what is told.
IN_PART: list[tuple[OrderStatus, OrderStatus, Leg, int, dict[str, Any], list[str]]] = [
    (S.PARTIALLY_FILLED, S.CANCELED, Leg.ENTRY, 4, {}, ["bought_in_part"]),
    (S.ACCEPTED, S.EXPIRED, Leg.ENTRY, 4, {}, ["bought_in_part"]),
    (S.CANCEL_PENDING, S.CANCELED, Leg.ENTRY, 4, {}, ["bought_in_part"]),
    (S.CANCEL_PENDING, S.CANCELED, Leg.ENTRY, 4, {"stop_requested": StopMode.CLOSE}, []),
    (S.CANCEL_PENDING, S.CANCELED, Leg.ENTRY, 4, {"status": RunStatus.FAILED, "failure": "aborted"}, []),
    (S.CANCELED, S.CANCELED, Leg.ENTRY, 5, {}, ["bought_in_part"]),
    (S.CANCELED, S.CANCELED, Leg.ENTRY, 4, {}, []),
    # Somebody else lowered it, or canceled it: it is sent again.
    (S.PARTIALLY_FILLED, S.FILLED, Leg.ENTRY, 6, {}, ["bought_in_part"]),
    (S.ACCEPTED, S.FILLED, Leg.ENTRY, 10, {}, []),
    (S.FILLED, S.FILLED, Leg.ENTRY, 6, {}, []),
    (S.ACCEPTED, S.CANCELED, Leg.ENTRY, 0, {}, ["entry_canceled"]),
    (S.ACCEPTED, S.EXPIRED, Leg.ENTRY, 0, {}, []),
    (S.ACCEPTED, S.CANCELED, Leg.EXIT, 0, {}, []),
    (S.PARTIALLY_FILLED, S.CANCELED, Leg.EXIT, 4, {}, []),
]


@pytest.mark.parametrize(("before", "end", "leg", "filled", "state", "codes"), IN_PART)
def test_an_entry_that_ended_in_part_is_alerted_where_its_run_goes_on(
    before: OrderStatus, end: OrderStatus, leg: Leg, filled: int, state: dict[str, Any], codes: list[str]
) -> None:
    old, new = run(order(leg, before, min(filled, 4)), **state), run(order(leg, end, filled), **state)
    assert [alert.code for alert in apply_ends(old, new, AT).alerts] == codes


def test_an_entry_that_we_took_back_ourselves_is_no_news() -> None:
    old, new = run(entry(S.CANCEL_PENDING, cancels=1)), run(entry(S.CANCELED, cancels=1))
    assert apply_ends(old, new, AT).alerts == ()


PARTS = [exit_(S.CANCELED, 2, attempt=number) for number in range(1, 7)]


#: Exits before the one that ends, how much that filled, and how long the next one waits: its exchange ends each short.
IN_PARTS = [(PARTS, 2, 0), (PARTS, 0, 0), ([exit_(S.CANCELED, attempt=number) for number in range(1, 7)], 2, 0)]


@pytest.mark.parametrize(("before", "filled", "seconds"), IN_PARTS)
def test_an_exit_that_fills_in_parts_is_no_failure(before: list[Order], filled: int, seconds: int) -> None:
    old = run(entry(S.FILLED, 100, quantity=100), *before, exit_(S.ACCEPTED, attempt=7))
    routed = apply_ends(old, old.with_order(exit_(S.CANCELED, filled, attempt=7)), AT)
    assert (routed.route, routed.run.exit_retry_at) == (R.RETRY, AT + timedelta(seconds=seconds))


@pytest.mark.parametrize("failure", ["safety_abort", "entry_rejected: no margin"])
def test_the_trouble_of_an_exit_hides_no_abort(failure: str) -> None:
    flatten = strategy(on_abort=AbortPolicy.FLATTEN)
    aborted = run(entry(S.FILLED, 10), spec=flatten, status=RunStatus.FAILED, failure=failure)
    troubled = hold_for_token(aborted)
    assert (troubled.run.is_to_be_flattened, [alert.code for alert in troubled.alerts]) == (True, ["token_invalid"])
    assert troubled.run.failure == f"{failure}; token_invalid"
    again = hold_for_token(troubled.run)
    assert (again.run, again.alerts) == (troubled.run, ())
