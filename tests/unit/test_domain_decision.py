"""Every event in every situation a run can be in, and the one thing it leads to."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from engine.domain.action import Abort, AskBook, Cancel, Decision, Finish, GiveUp, Ignore, Policy, Reprice, Submit, Wait
from engine.domain.decision import URGENCY, decide, next_action, outlook
from engine.domain.events import EventType
from engine.domain.orders import Leg, Order, OrderStatus
from engine.domain.run import ExitReason, NetSeen, RunStatus
from engine.domain.strategy import AbortPolicy
from tests.builders import BUY_AT, PATIENCE, SELL_AT, S, at, entry, exit_, latch, run, strategy
from tests.situations import BOUGHT, CASES, NOON, OVERDUE, Case, seen

E, ST = EventType, OrderStatus
POLICY = Policy()
TABLE = [pytest.param(case, kind, id=f"{case.name}-{kind}") for case in CASES for kind in E]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_table_says_what_every_event_means(case: Case) -> None:
    assert set(case.decisions) == set(E)


@pytest.mark.parametrize(("case", "kind"), TABLE)
def test_an_event_means_what_the_table_says(case: Case, kind: EventType) -> None:
    assert decide(case.run, kind, case.now, POLICY) == case.decisions[kind]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_most_urgent_action_is_the_first_that_is_neither_ignored_nor_too_early(case: Case) -> None:
    acting = [(kind, case.decisions[kind]) for kind in URGENCY if not isinstance(case.decisions[kind], Ignore | Wait)]
    assert next_action(case.run, case.now, POLICY) == (acting[0] if acting else None)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_run_is_looked_at_again_at_once_or_when_its_first_wait_ends(case: Case) -> None:
    waits = [decision.until for decision in case.decisions.values() if isinstance(decision, Wait)]
    acts = any(not isinstance(decision, Ignore | Wait) for decision in case.decisions.values())
    expected = case.now.real if acts else min(waits, default=None)
    assert outlook(case.run, case.now, POLICY)[1] == expected


def test_what_protects_a_position_comes_before_what_opens_one() -> None:
    assert set(URGENCY) == set(E)
    assert URGENCY[0] is E.STOPLOSS
    assert URGENCY[-1] is E.BUY


#: A live order sent at 0 s: its status, when it was last heard of, when the book was asked and read, the time, and
#: what the watch makes of it. All in seconds.
WATCH: list[tuple[OrderStatus, float | None, float | None, float | None, float, str]] = [
    (ST.SENDING, None, None, None, -1, "wait 0"),
    (ST.SENDING, None, None, None, 0, "in_doubt"),
    (ST.UNKNOWN, 0, None, None, 0, "in_doubt"),
    (ST.UNKNOWN, 0, 0, None, 0.5, "wait 1"),
    (ST.UNKNOWN, 0, 0, None, 1, "in_doubt"),
    (ST.UNKNOWN, 0, 60, None, 72.999, "in_doubt"),
    (ST.UNKNOWN, 0, 60, None, 73, "abort"),
    (ST.SENDING, None, None, None, 73, "abort"),
    (ST.UNKNOWN, 0, 12, 12.999, 12.999, "wait 13"),
    (ST.UNKNOWN, 0, 12, 12.999, 50, "in_doubt"),
    (ST.UNKNOWN, 0, 13, 13, 13, "give up"),
    (ST.SENDING, None, 13, 13, 13, "give up"),
    (ST.ACCEPTED, 0, None, None, 4.999, "wait 5"),
    (ST.ACCEPTED, 0, None, None, 5, "silent"),
    (ST.ACCEPTED, None, None, None, 5, "silent"),
    (ST.ACCEPTED, 0, 5, 5, 7, "wait 10"),
    (ST.ACCEPTED, 0, 5, 5, 10, "silent"),
    (ST.ACCEPTED, 8, None, None, 10, "wait 13"),
    (ST.ACCEPTED, 29, None, None, 30, "too long"),
    (ST.PARTIALLY_FILLED, 29, None, None, 30, "too long"),
    (ST.CANCEL_PENDING, 29, None, None, 30, "wait 34"),
    (ST.CANCEL_PENDING, 29, None, None, 34, "cancel_unanswered"),
    (ST.CANCEL_PENDING, 29, 29, 29, 34, "cancel_unanswered"),
    (ST.CANCEL_PENDING, 29, 30, 30, 33.999, "wait 34"),
    (ST.CANCEL_PENDING, 29, 30, 30, 34, "cancel"),
]


@pytest.mark.parametrize(("status", "heard", "asked", "read", "now", "expected"), WATCH)
@pytest.mark.parametrize("make", [entry, exit_])
def test_a_live_order_is_watched_until_it_is_settled(
    make: Callable[..., Order],
    status: OrderStatus,
    heard: float | None,
    asked: float | None,
    read: float | None,
    now: float,
    expected: str,
) -> None:
    def when(seconds: float | None) -> datetime | None:
        return None if seconds is None else BUY_AT + timedelta(seconds=seconds)

    order = make(status, send_by=BUY_AT, settles_at=BUY_AT + PATIENCE, updated_at=when(heard))
    bought = () if make is entry else (entry(OrderStatus.FILLED, 10),)
    watched = run(*bought, order, book_asked_at=when(asked), book_read_at=when(read))
    match expected.split():
        case ["wait", seconds]:
            decision: Decision = Wait(BUY_AT + timedelta(seconds=float(seconds)))
        case ["give", "up"]:
            decision = GiveUp(order)
        case ["abort"]:
            decision = Abort("attempt_unsettled")
        case ["too", "long"]:
            decision = (Reprice if make is exit_ else Cancel)(order, "resting_too_long")
        case ["cancel"]:
            decision = Cancel(order, "resting_too_long")
        case _:
            decision = AskBook(expected)
    assert decide(watched, E.ORDER_UPDATE, at(BUY_AT, seconds=now), POLICY) == decision


def test_a_market_that_runs_fast_is_waited_for_in_real_time() -> None:
    hour_early = replace(at(BUY_AT), market=BUY_AT - timedelta(hours=1), speed=60)
    assert decide(run(), E.BUY, hour_early, POLICY) == Wait(BUY_AT + timedelta(minutes=1))
    half_hour_late = replace(hour_early, market=BUY_AT + timedelta(minutes=30))
    assert decide(run(), E.BUY, half_hour_late, POLICY) == Submit(Leg.ENTRY, 10)


def test_a_buy_whose_sale_is_already_due_is_missed_however_little_late() -> None:
    fast = replace(at(SELL_AT), speed=100_000)
    assert decide(run(), E.BUY, fast, POLICY) == Finish(RunStatus.MISSED, "buy_time_missed")


def test_the_latch_stays_the_reason_to_sell_whatever_the_price_does() -> None:
    later = at(BUY_AT, hours=4)
    breached = run(entry(ST.FILLED, 10), latch=latch(), net=NetSeen(10, later.real))
    assert decide(breached, E.STOPLOSS, later, POLICY) == Submit(Leg.EXIT, 10, ExitReason.STOP_LOSS)


#: What failed before the square-off, and the policy -> whether it sells all the same. `sell_at` is never after it.
SQUARED_OFF: list[tuple[str, AbortPolicy, bool]] = [
    ("", AbortPolicy.PROTECT, True),
    ("attempt_unsettled", AbortPolicy.PROTECT, True),
    ("entry_retries_exhausted", AbortPolicy.PROTECT, True),
    ("exit_keeps_failing", AbortPolicy.PROTECT, True),
    ("token_invalid", AbortPolicy.PROTECT, True),
    ("attempt_unsettled", AbortPolicy.FLATTEN, True),
    # Hands off until a human says more; an exit's own trouble is no abort.
    ("attempt_unsettled", AbortPolicy.FREEZE, False),
    ("exit_keeps_failing", AbortPolicy.FREEZE, True),
]


@pytest.mark.parametrize(("failure", "policy", "sells"), SQUARED_OFF)
def test_a_position_is_squared_off_whatever_else_failed(failure: str, policy: AbortPolicy, sells: bool) -> None:
    held = run(
        entry(ST.FILLED, 10, updated_at=BUY_AT),
        spec=strategy(on_abort=policy),
        status=RunStatus.FAILED if failure else RunStatus.ACTIVE,
        failure=failure,
        net=NetSeen(10, SELL_AT),
    )
    sale = Submit(Leg.EXIT, 10, ExitReason.SCHEDULE)
    assert decide(held, E.SELL, at(SELL_AT), POLICY) == (sale if sells else Ignore("frozen"))


#: How many seconds ahead of this machine's clock a reading was asked for, and whether a position is sold by it.
AHEAD = [(-30.0, True), (-30.001, False), (0.0, True), (10.0, True), (10.001, False), (3600.0, False)]


@pytest.mark.parametrize(("ahead", "sells"), AHEAD)
def test_a_reading_of_another_machines_clock_is_believed_up_to_ten_seconds_ahead(ahead: float, sells: bool) -> None:
    now = at(BUY_AT, hours=2)
    held = run(entry(ST.FILLED, 10), latch=latch(), net=NetSeen(10, now.real + timedelta(seconds=ahead)))
    sale = Submit(Leg.EXIT, 10, ExitReason.STOP_LOSS)
    assert decide(held, E.STOPLOSS, now, POLICY) == (sale if sells else AskBook("position_unproven"))


def test_a_surplus_whose_exit_keeps_failing_sells_no_more_than_the_surplus() -> None:
    troubled = run(
        entry(ST.FILLED, 20),
        spec=strategy(on_abort=AbortPolicy.FLATTEN),
        status=RunStatus.FAILED,
        failure="exit_keeps_failing",
        net=NetSeen(20, at(BUY_AT, hours=2).real),
    )
    assert decide(troubled, E.SAFETY_ABORT, at(BUY_AT, hours=2), POLICY) == Ignore("already_aborted")
    assert next_action(troubled, at(BUY_AT, hours=2), POLICY) == (E.SELL, Submit(Leg.EXIT, 10, None))


def test_a_stop_prices_no_exit_anew_whose_shares_are_gone() -> None:
    resting = exit_(ST.ACCEPTED, send_by=BUY_AT, seen=True)
    gone = run(
        entry(ST.FILLED, 10),
        resting,
        latch=latch(),
        exit_reason=ExitReason.SCHEDULE,
        net=NetSeen(-10, BUY_AT + timedelta(seconds=9), 10),
        uncovered_since=BUY_AT + timedelta(seconds=3),
        uncovered=10,
        uncovered_told=10,
    )
    now = at(BUY_AT, seconds=10)
    assert decide(gone, E.STOPLOSS, now, POLICY) == Ignore("exit_needless")
    assert decide(gone, E.ORDER_UPDATE, now, POLICY) == Cancel(resting, "needless")


@pytest.mark.parametrize(
    ("asked_before", "expected"), [(1, Reprice(OVERDUE, "resting_too_long")), (2, AskBook("cover"))]
)
def test_a_question_of_cover_that_is_not_answered_and_what_an_order_needs_have_their_turns(
    asked_before: int, expected: Decision
) -> None:
    lacks = replace(
        seen(BOUGHT, OVERDUE), net=NetSeen(10, NOON.real, 4), unread_since=NOON.real - 9 * S,
        book_asked_at=NOON.real - asked_before * S,
    )  # fmt: skip
    assert decide(lacks, EventType.ORDER_UPDATE, NOON, Policy()) == expected
