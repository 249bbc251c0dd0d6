"""What a run makes of evidence and of an order book, and what abort and STOP leave of it."""

from dataclasses import replace
from datetime import timedelta

import pytest

from engine import lifecycle
from engine.domain.moment import Moment
from engine.domain.orders import SEND_WITHIN, Leg, Order, OrderStatus
from engine.domain.run import NetSeen, RunStatus, client_order_id
from engine.domain.strategy import AbortPolicy
from tests.builders import BUY_AT, CLOSES, DEPLOYMENT, PATIENCE, book_entry, entry, evidence, exit_, run, strategy

S = OrderStatus
REAL = BUY_AT + timedelta(seconds=3)
BOUGHT = entry(S.FILLED, 10)


def test_no_evidence_changes_nothing() -> None:
    before = run(BOUGHT)
    assert lifecycle.absorb(before, [], REAL) == lifecycle.Absorbed(before)


def test_old_evidence_changes_nothing() -> None:
    before = run(BOUGHT)
    stale = evidence(BOUGHT, S.PARTIALLY_FILLED, 4)
    assert lifecycle.absorb(before, [stale], REAL) == lifecycle.Absorbed(before)


def test_the_first_fill_is_told() -> None:
    before = run(entry(S.ACCEPTED))
    fill = evidence(before.orders[0], S.PARTIALLY_FILLED, 4, filled_at=BUY_AT)
    assert lifecycle.absorb(before, [fill], REAL).is_first_fill is True


@pytest.mark.parametrize("leg", [Leg.ENTRY, Leg.EXIT])
def test_a_later_fill_is_no_first_fill(leg: Leg) -> None:
    before = run(entry(S.PARTIALLY_FILLED, 4), exit_(S.ACCEPTED, quantity=4))
    order = before.last_order(leg)
    assert order is not None
    absorbed = lifecycle.absorb(before, [evidence(order, S.FILLED, order.quantity)], REAL)
    assert absorbed.is_first_fill is False
    assert absorbed.run != before


def test_a_rejection_after_acceptance_leads_to_the_next_attempt() -> None:
    before = run(entry(S.ACCEPTED))
    absorbed = lifecycle.absorb(before, [evidence(before.orders[0], S.REJECTED)], REAL)
    assert absorbed.run.entry_retry_at == REAL + timedelta(seconds=1)


def test_evidence_of_an_attempt_the_run_does_not_know_sends_it_to_the_book() -> None:
    before = run(BOUGHT)
    unknown = evidence(entry(S.ACCEPTED, attempt=2), S.FILLED, 10)
    assert lifecycle.absorb(before, [unknown], REAL).run == replace(before, dirty=True, unread=True)


def test_another_order_under_an_id_of_ours_sends_its_run_to_the_book_and_only_the_book_is_believed() -> None:
    before = run(entry(S.ACCEPTED, broker_order_id="B1"))
    other = evidence(before.orders[0], S.FILLED, 10, broker_order_id="B2")
    assert lifecycle.absorb(before, [other], REAL) == lifecycle.Absorbed(replace(before, dirty=True, unread=True))
    assert lifecycle.absorb(before, [other], REAL, by_book=True).run.held == 10


#: Orders before, evidence as (leg, attempt, status, filled), and the alerts it must raise.
EXCESS: list[tuple[str, tuple[Order, ...], tuple[Leg, int, OrderStatus, int], list[str]]] = [
    ("as ordered", (entry(S.ACCEPTED),), (Leg.ENTRY, 1, S.FILLED, 10), []),
    ("more than ordered", (entry(S.ACCEPTED),), (Leg.ENTRY, 1, S.FILLED, 12), ["overfilled"]),
    ("still more", (entry(S.FILLED, 12),), (Leg.ENTRY, 1, S.FILLED, 13), ["overfilled"]),
    (
        "an attempt given up fills beside its replacement",
        (entry(S.UNKNOWN, given_up=True), entry(S.FILLED, 10, attempt=2)),
        (Leg.ENTRY, 1, S.FILLED, 10),
        ["overfilled", "given_up_appeared"],
    ),
    ("sold as bought", (BOUGHT, exit_(S.ACCEPTED)), (Leg.EXIT, 1, S.FILLED, 10), []),
    ("sold more than ordered", (BOUGHT, exit_(S.ACCEPTED)), (Leg.EXIT, 1, S.FILLED, 11), ["oversold"]),
    (
        "an exit given up fills beside its replacement",
        (BOUGHT, exit_(S.UNKNOWN, given_up=True), exit_(S.FILLED, 10, attempt=2)),
        (Leg.EXIT, 1, S.PARTIALLY_FILLED, 1),
        ["oversold", "given_up_appeared"],
    ),
]


@pytest.mark.parametrize(("orders", "told", "codes"), [row[1:] for row in EXCESS], ids=[row[0] for row in EXCESS])
def test_more_bought_or_sold_than_wanted_is_never_silent(
    orders: tuple[Order, ...], told: tuple[Leg, int, OrderStatus, int], codes: list[str]
) -> None:
    before = run(*orders)
    leg, attempt, status, filled = told
    about = next(o for o in orders if (o.leg, o.attempt) == (leg, attempt))
    absorbed = lifecycle.absorb(before, [evidence(about, status, filled)], REAL)
    assert [alert.code for alert in absorbed.alerts] == codes
    assert all(alert.severity == "critical" for alert in absorbed.alerts)
    again = lifecycle.absorb(absorbed.run, [evidence(about, status, filled)], REAL)
    assert not again.alerts


def test_the_book_proves_only_orders_that_carry_our_ids() -> None:
    mine = run(BOUGHT)
    told = evidence(BOUGHT, S.FILLED, 10)
    foreign = book_entry(replace(told, client_order_id="manual"), tag="manual")
    other_run = book_entry(replace(told, client_order_id=DEPLOYMENT), tag=client_order_id("XX", mine.id, Leg.ENTRY, 1))
    assert lifecycle.evidence_of([foreign, book_entry(told), other_run], mine) == [told]
    assert lifecycle.told_of_doubles([foreign, book_entry(told), other_run], mine) == (mine, ())


def test_two_orders_under_one_id_are_alerted_once_and_their_fills_added() -> None:
    mine = run(entry(S.UNKNOWN))
    first = evidence(mine.orders[0], S.FILLED, 10, broker_order_id="B1")
    second = evidence(mine.orders[0], S.PARTIALLY_FILLED, 4, broker_order_id="B2")
    book = [book_entry(first), book_entry(second)]
    assert [item.filled_quantity for item in lifecycle.evidence_of(book, mine)] == [14]
    told, alerts = lifecycle.told_of_doubles(book, mine)
    assert [alert.code for alert in alerts] == ["double_order"]
    assert lifecycle.told_of_doubles(book, told) == (told, ())


def test_of_an_order_that_has_a_double_only_the_whole_book_tells_the_end() -> None:
    before = run(entry(S.ACCEPTED, broker_order_id="B1", double_alerted=True))
    end = evidence(before.orders[0], S.CANCELED)
    after = lifecycle.absorb(before, [end], REAL).run
    assert (after.orders, after.dirty, after.unread) == (before.orders, True, True)


def test_another_order_of_an_attempt_that_was_replaced_is_taken_back() -> None:
    before = run(entry(S.CANCELED, broker_order_id="B1"), entry(S.ACCEPTED, attempt=2, broker_order_id="B2"))
    other = evidence(before.orders[0], S.ACCEPTED, broker_order_id="B3")
    found = lifecycle.absorb(before, [other], REAL, by_book=True).run.orders[0]
    assert (found.broker_order_id, found.has_appeared) == ("B3", True)


def test_an_order_of_ours_found_in_the_book_is_adopted_in_doubt() -> None:
    mine = run()
    found = evidence(entry(S.ACCEPTED, attempt=3), S.FILLED, 10)
    adopted = lifecycle.adopt(mine, [book_entry(found)], DEPLOYMENT, REAL)
    order = entry(S.UNKNOWN, attempt=3, send_by=REAL, settles_at=REAL, broker_order_id="B1", session_ends=CLOSES)
    assert adopted.orders == (order,)
    assert lifecycle.next_order(adopted, Leg.ENTRY, 10, DEPLOYMENT, Moment(BUY_AT, REAL), PATIENCE).attempt == 4


@pytest.mark.parametrize(
    "tag", ["", "manual", client_order_id("XX", run().id, Leg.ENTRY, 1), client_order_id("EE", run().id, Leg.ENTRY, 1)]
)
def test_no_other_order_of_the_book_is_adopted(tag: str) -> None:
    known = run(entry(S.ACCEPTED))
    line = book_entry(evidence(known.orders[0], S.FILLED, 10), tag=tag)
    assert lifecycle.adopt(known, [line], DEPLOYMENT, REAL) == known


def test_an_order_of_another_run_is_not_adopted() -> None:
    line = book_entry(evidence(entry(S.ACCEPTED), S.FILLED, 10))
    other = run(spec=strategy(id=8))
    assert lifecycle.adopt(other, [line], DEPLOYMENT, REAL) == other


@pytest.mark.parametrize("leg", Leg)
def test_the_next_order_has_the_next_number_and_the_id_anyone_can_compute(leg: Leg) -> None:
    before = run(entry(S.REJECTED), entry(S.FILLED, 10, attempt=2), exit_(S.REJECTED))
    order = lifecycle.next_order(before, leg, 6, DEPLOYMENT, Moment(BUY_AT, REAL), PATIENCE)
    number = {Leg.ENTRY: 3, Leg.EXIT: 2}[leg]
    assert (order.attempt, order.quantity, order.status) == (number, 6, S.SENDING)
    send_by = REAL + SEND_WITHIN
    assert (order.granted_at, order.send_by, order.settles_at) == (BUY_AT, send_by, send_by + PATIENCE)
    assert order.client_order_id == client_order_id(DEPLOYMENT, before.id, leg, number)


def test_an_abort_fails_the_run_and_says_what_is_still_held() -> None:
    before = run(BOUGHT, spec=strategy(on_abort=AbortPolicy.FREEZE), abort_requested="why")
    after, (alert,) = lifecycle.abort(before, "why")
    assert (after.status, after.failure, after.abort_requested) == (RunStatus.FAILED, "why", "")
    assert (alert.severity, alert.code) == ("critical", "safety_abort")
    assert "why; still holding 10: policy freeze" in alert.message


@pytest.mark.parametrize(
    ("status", "bought", "codes"),
    [
        (RunStatus.STOPPED, False, []),
        (RunStatus.FAILED, False, []),
        (RunStatus.MISSED, False, ["missed"]),
        (RunStatus.STOPPED, True, ["position_left"]),
    ],
)
def test_a_stop_says_what_a_human_must_know(status: RunStatus, bought: bool, codes: list[str]) -> None:
    after, alerts = lifecycle.finish(run(*([BOUGHT] if bought else [])), status, "reason", REAL)
    assert after.status is status
    assert [alert.code for alert in alerts] == codes


#: Readings of the account after the first that lacks ten: seconds since that one and units missing; the alerts in all.
READINGS: list[tuple[list[tuple[float, int]], list[str]]] = [
    ([], []),
    ([(0.0, 10)], []),
    ([(0.5, 10)], []),
    ([(1.0, 10)], ["not_covered"]),
    ([(1.0, 10), (2.0, 10)], ["not_covered"]),
    ([(0.5, 0), (1.5, 10)], []),
]


@pytest.mark.parametrize(("later", "codes"), READINGS)
def test_only_two_readings_that_are_a_second_apart_say_that_the_account_lacks_what_is_held(
    later: list[tuple[float, int]], codes: list[str]
) -> None:
    checked, told = run(BOUGHT), list[str]()
    for seconds, missing in [(0.0, 10), *later]:
        net = NetSeen(10 - missing, REAL + timedelta(seconds=seconds), missing)
        checked, alerts = lifecycle.check_cover(replace(checked, net=net))
        told += [alert.code for alert in alerts]
    assert told == codes
    assert (checked.failure, checked.status) == (("not_covered", RunStatus.FAILED) if codes else ("", RunStatus.ACTIVE))


#: Readings that lack so many of ten, four of them bought so many seconds before; whether the second one is told of.
LAGGING = [(4, 1.0, False), (4, 15.0, False), (4, 15.5, True), (5, 1.0, True), (10, 1.0, True)]


@pytest.mark.parametrize("policy", AbortPolicy)
def test_a_fill_after_an_abort_is_told_of(policy: AbortPolicy) -> None:
    doubtful = entry(S.UNKNOWN)
    aborted = run(doubtful, spec=strategy(on_abort=policy), status=RunStatus.FAILED, failure="attempt_unsettled")
    learned = lifecycle.absorb(aborted, [evidence(doubtful, S.FILLED, 10)], REAL)
    assert [alert.code for alert in learned.alerts] == ["bought_after_abort"]


def test_an_exit_that_filled_ends_the_trouble_of_the_exits_before_it() -> None:
    surplus = exit_(S.ACCEPTED, quantity=10)
    troubled = run(entry(S.FILLED, 20), surplus, status=RunStatus.FAILED, failure="exit_keeps_failing")
    learned = lifecycle.absorb(troubled, [evidence(surplus, S.FILLED, 10)], REAL).run
    assert (learned.held, learned.status, learned.failure) == (10, RunStatus.ACTIVE, "")


@pytest.mark.parametrize(
    ("readings", "told"),
    [
        ((1, 1, 1, 10, 10, 10), [1, 10]),
        ((1, 1, 10, 1, 1, 1), [1]),
        ((10, 10, 4, 4, 10, 10), [10, 10]),
        ((1, 2, 3, 4, 5, 6), [2, 4, 6]),
    ],
)
def test_whoever_was_told_of_one_unit_is_told_of_the_others(readings: tuple[int, ...], told: list[int]) -> None:
    checked, said = run(BOUGHT), list[int]()
    for seconds, missing in enumerate(readings):
        net = NetSeen(10 - missing, REAL + timedelta(seconds=seconds), missing)
        checked, alerts = lifecycle.check_cover(replace(checked, net=net))
        said += [int(alert.message.split()[3]) for alert in alerts]
    assert said == told


def test_of_a_run_that_failed_before_it_is_told_once_that_it_is_not_covered_and_once_more_after_it_was() -> None:
    checked, told = run(BOUGHT, status=RunStatus.FAILED, failure="buy_time_missed_in_doubt"), list[str]()
    for seconds, missing in enumerate((10, 10, 10, 10, 0, 10, 10, 10)):
        net = NetSeen(10 - missing, REAL + timedelta(seconds=seconds), missing)
        checked, alerts = lifecycle.check_cover(replace(checked, net=net))
        told += [alert.code for alert in alerts]
    assert told == ["not_covered", "not_covered"]
    assert checked.failure == "buy_time_missed_in_doubt"


@pytest.mark.parametrize(("later", "status"), [(4, S.UNKNOWN), (16, S.EXPIRED)])
def test_an_exit_sent_as_its_session_ended_may_yet_appear(later: int, status: OrderStatus) -> None:
    sent = exit_(S.UNKNOWN, session_ends=CLOSES, settles_at=REAL + timedelta(seconds=15))
    known = run(BOUGHT, sent)
    now = Moment(CLOSES + timedelta(seconds=30), REAL + timedelta(seconds=later))
    after = lifecycle.after_book(known, [], now, timedelta(seconds=10)).run
    assert after.orders[1].status is status


def test_an_exit_that_the_book_lacks_after_its_session_failed_as_any_other() -> None:
    sent = exit_(S.UNKNOWN, attempt=4, session_ends=CLOSES, settles_at=REAL)
    now = Moment(CLOSES + timedelta(seconds=30), REAL + timedelta(seconds=1))
    learned = lifecycle.after_book(run(BOUGHT, sent), [], now, timedelta(seconds=10))
    assert [alert.code for alert in learned.alerts] == ["exit_keeps_failing"]
    assert learned.run.exit_retry_at == now.real + timedelta(seconds=8)


def test_an_entry_that_the_book_lacks_after_its_session_is_told_of_where_it_bought_a_part() -> None:
    sent = entry(S.PARTIALLY_FILLED, 4, session_ends=CLOSES, settles_at=REAL)
    now = Moment(CLOSES + timedelta(seconds=30), REAL + timedelta(seconds=1))
    learned = lifecycle.after_book(run(sent), [], now, timedelta(seconds=10))
    assert [alert.code for alert in learned.alerts] == ["bought_in_part"]


#: Units stated to be closed elsewhere of ten that are held, units that an exit turns out to have sold, what is left of
#: the statement and of the position, and what a human is told.
STATED = [
    (10, 0, 10, 0, []),
    (10, 10, 0, 0, ["closed_and_sold"]),
    (10, 4, 6, 0, ["closed_and_sold"]),
    (4, 6, 4, 0, []),
    (4, 12, 0, -2, ["closed_and_sold", "oversold"]),
]


@pytest.mark.parametrize(("stated", "sold", "closed", "held", "codes"), STATED)
def test_what_our_own_exit_sold_was_not_closed_elsewhere(
    stated: int, sold: int, closed: int, held: int, codes: list[str]
) -> None:
    before = run(BOUGHT, exit_(S.ACCEPTED), closed_elsewhere=stated)
    status = S.FILLED if sold >= 10 else S.PARTIALLY_FILLED
    told = lifecycle.absorb(before, [evidence(exit_(S.ACCEPTED), status, sold)] if sold else [], REAL)
    assert (told.run.closed_elsewhere, told.run.held) == (closed, held)
    assert [alert.code for alert in told.alerts if "sold" in alert.code] == codes
