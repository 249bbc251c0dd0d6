"""Every task in Celery's eager mode, on a real Valkey and Redis and the real paper broker, from BUY to the end."""

from datetime import timedelta

import pytest
from redis import Redis

from engine.domain.events import Event, EventType
from engine.domain.orders import Leg, OrderStatus
from engine.domain.run import Position
from engine.domain.strategy import AbortPolicy
from tests.desk import Desk, event_of
from tests.eager import bought, call, heard, sides, wake
from tests.processes import eventually


def test_an_accepted_buy_is_no_position_until_the_broker_tells_of_its_fill(desk: Desk) -> None:
    run = desk.arm()
    assert wake(run, EventType.BUY) == "submitted: accepted"
    assert desk.live(run).position is Position.NONE
    desk.hear()
    wake(run, EventType.ORDER_UPDATE)
    (order,) = desk.live(run).orders
    assert (order.leg, order.status, order.filled_quantity) == (Leg.ENTRY, OrderStatus.FILLED, 10)
    assert desk.live(run).position is Position.BOUGHT


def test_a_run_is_bought_and_sold_by_schedule_and_ends_stopped(desk: Desk) -> None:
    run = bought(desk, sell_in=1.5)
    desk.parts.clock.sleep_until(run.sell_at)
    assert wake(run, EventType.SELL) == "submitted: accepted"
    assert heard(desk, run) == ("stopped", "sold")
    assert sides(desk) == [("buy", 10), ("sell", 10)]


def test_a_wake_up_that_comes_early_waits_and_trades_nothing(desk: Desk) -> None:
    run = desk.arm(buy_in=60)
    assert wake(run, EventType.BUY) == f"waits: {run.buy_at.isoformat()}"
    held = bought(desk)
    assert wake(held, EventType.SELL) == f"waits: {held.sell_at.isoformat()}"
    assert sides(desk) == [("buy", 10)]


def test_a_breach_is_exited_by_stoploss_at_once(desk: Desk) -> None:
    run = bought(desk)
    assert desk.tick("1500.05") == []
    (breach,) = desk.tick("1499.95")
    assert call(Event(breach.event_id, EventType.STOPLOSS, breach.run_id)) == "submitted: accepted"
    assert heard(desk, run) == ("stopped", "exited_by_sl")
    assert sides(desk) == [("buy", 10), ("sell", 10)]


def test_a_latched_breach_is_exited_even_when_the_price_has_come_back(desk: Desk) -> None:
    run = bought(desk)
    (breach,) = desk.tick("1499.95")
    assert desk.tick("1560.00") == []
    assert call(Event(breach.event_id, EventType.STOPLOSS, breach.run_id)) == "submitted: accepted"
    assert heard(desk, run) == ("stopped", "exited_by_sl")


def test_a_stoploss_nobody_latched_sells_nothing(desk: Desk) -> None:
    run = bought(desk)
    assert wake(run, EventType.STOPLOSS) == "ignored: not_latched"
    assert sides(desk) == [("buy", 10)]


def test_repeated_and_crossing_messages_send_one_order_a_leg(desk: Desk) -> None:
    run = desk.arm(sell_in=1.5)
    buys = [wake(run, EventType.BUY) for _ in range(3)]
    assert buys == ["submitted: accepted", *["ignored: entry_in_flight"] * 2]
    heard(desk, run)
    desk.tick("1490.00")
    desk.parts.clock.sleep_until(run.sell_at)
    exits = [wake(run, kind) for kind in (EventType.STOPLOSS, EventType.SELL, EventType.STOPLOSS, EventType.SELL)]
    # Nobody has shown it yet, so that each looks again before its owner would have to hear of it.
    assert exits[0] == "submitted: accepted"
    assert all(outcome.startswith("waits: ") for outcome in exits[1:])
    assert heard(desk, run) == ("stopped", "exited_by_sl")
    assert wake(run, EventType.SELL) == "gone"
    assert sides(desk) == [("buy", 10), ("sell", 10)]


def test_a_refused_entry_is_retried_after_its_pause_and_not_before(desk: Desk, redis: Redis) -> None:
    run = desk.arm()
    desk.paper.fault("reject")
    assert wake(run, EventType.BUY) == "submitted: rejected"
    due = desk.live(run).entry_retry_at
    assert due is not None
    # The wake-up waits on the queue of retries for the pause to pass; early, it asks for nothing.
    assert redis.llen("orders:3") == 1
    assert wake(run, EventType.RETRY).startswith("waits: ")
    assert desk.sent() == []
    desk.parts.clock.sleep_until(due)
    # What its broker called refused could rest: the book is read before it is sent again.
    assert wake(run, EventType.RETRY) == "book read: attempt_unsettled"
    heard(desk, run)
    assert [order.status for order in desk.live(run).orders] == [OrderStatus.REJECTED, OrderStatus.FILLED]
    assert sides(desk) == [("buy", 10)]


def test_a_refused_exit_is_retried_until_it_is_flat(desk: Desk) -> None:
    run = bought(desk)
    desk.paper.fault("reject", side="sell")
    (breach,) = desk.tick("1490.00")
    assert call(Event(breach.event_id, EventType.STOPLOSS, run.id)) == "submitted: rejected"
    due = desk.live(run).exit_retry_at
    assert due is not None
    desk.parts.clock.sleep_until(due)
    # What its broker called refused could rest: the book is read before it is sent again.
    assert wake(run, EventType.RETRY) == "book read: attempt_unsettled"
    assert heard(desk, run) == ("stopped", "exited_by_sl")


def test_an_answer_that_never_came_is_settled_by_the_book_and_sent_once(desk: Desk) -> None:
    run = desk.arm()
    desk.paper.fault("accept_then_reset")
    assert wake(run, EventType.BUY) == "submitted: timeout"
    # In doubt, the holder asks the book at once, and finds the order there.
    assert eventually(lambda: wake(run, EventType.ORDER_UPDATE) != "" and desk.live(run).held == 10)
    assert sides(desk) == [("buy", 10)]


def test_a_cause_that_would_refuse_again_aborts_the_entry_and_alerts(desk: Desk) -> None:
    run = desk.arm()
    desk.paper.fault("reject_margin")
    assert wake(run, EventType.BUY) == "submitted: rejected"
    # What its broker called refused could rest: the run ends once its book has been read a moment later.
    assert eventually(lambda: wake(run, EventType.ORDER_UPDATE) == "gone")
    assert desk.ended(run) == ("failed", "none")
    (aborted,) = desk.records("aborted")
    assert [alert["code"] for alert in aborted["alerts"]] == ["safety_abort"]
    assert wake(run, EventType.RETRY) == "gone"


@pytest.mark.parametrize(
    ("policy", "orders", "end"),
    [
        (AbortPolicy.FLATTEN, [("buy", 10), ("sell", 10)], ("failed", "sold")),
        (AbortPolicy.FREEZE, [("buy", 10)], None),
        (AbortPolicy.PROTECT, [("buy", 10)], None),
    ],
)
def test_safety_abort_treats_the_position_as_the_strategy_says(
    desk: Desk, policy: AbortPolicy, orders: list[tuple[str, int]], end: tuple[str, str] | None
) -> None:
    run = bought(desk, on_abort=policy)
    desk.ask(run, abort_requested="corrupt_state")
    assert wake(run, EventType.SAFETY_ABORT) == "aborted: corrupt_state"
    assert heard(desk, run) == end
    assert sides(desk) == orders
    # An abort is told to a human, whatever becomes of the position.
    (aborted,) = desk.records("aborted")
    assert [alert["severity"] for alert in aborted["alerts"]] == ["critical"]


def test_an_aborted_run_is_still_protected_by_its_stop(desk: Desk) -> None:
    run = bought(desk, on_abort=AbortPolicy.PROTECT)
    desk.ask(run, abort_requested="corrupt_state")
    wake(run, EventType.SAFETY_ABORT)
    (breach,) = desk.tick("1490.00")
    assert call(Event(breach.event_id, EventType.STOPLOSS, run.id)) == "submitted: accepted"
    assert heard(desk, run) == ("failed", "exited_by_sl")


def test_a_frozen_run_is_touched_by_nothing_but_a_human(desk: Desk) -> None:
    run = bought(desk, on_abort=AbortPolicy.FREEZE)
    desk.ask(run, abort_requested="corrupt_state")
    wake(run, EventType.SAFETY_ABORT)
    (breach,) = desk.tick("1490.00")
    assert call(Event(breach.event_id, EventType.STOPLOSS, run.id)) == "ignored: frozen"
    assert sides(desk) == [("buy", 10)]


def test_a_message_alone_aborts_and_stops_nothing(desk: Desk) -> None:
    run = bought(desk)
    assert wake(run, EventType.SAFETY_ABORT) == "ignored: no_abort_requested"
    assert wake(run, EventType.FORCE_STOP) == "ignored: no_stop_requested"
    assert desk.live(run).position is Position.BOUGHT
    assert sides(desk) == [("buy", 10)]


def test_force_stop_closes_the_position_and_is_done_on_fill_evidence(desk: Desk) -> None:
    run = bought(desk)
    desk.ask(run, stop_requested="close")
    assert wake(run, EventType.FORCE_STOP) == "submitted: accepted"
    assert desk.ended(run) is None
    assert heard(desk, run) == ("stopped", "sold")
    assert sides(desk) == [("buy", 10), ("sell", 10)]


def test_force_stop_may_leave_the_position_and_says_so(desk: Desk) -> None:
    run = bought(desk)
    desk.ask(run, stop_requested="leave")
    assert wake(run, EventType.FORCE_STOP) == "stopped: force_stop_leave"
    assert desk.ended(run) == ("stopped", "bought")
    (stopped,) = desk.records("stopped")
    assert [alert["code"] for alert in stopped["alerts"]] == ["position_left"]
    assert sides(desk) == [("buy", 10)]


def test_force_stop_before_the_buy_ends_the_run_unbought(desk: Desk) -> None:
    run = desk.arm(buy_in=60)
    desk.ask(run, stop_requested="close")
    assert wake(run, EventType.FORCE_STOP) == "stopped: force_stop_close"
    assert wake(run, EventType.BUY) == "gone"
    assert desk.sent() == []


def test_a_buy_that_comes_too_late_is_missed_and_alerted(desk: Desk) -> None:
    run = desk.arm(buy_in=-(desk.parts.policy.max_lateness / timedelta(seconds=1)) - 1)
    assert wake(run, EventType.BUY) == "missed: buy_time_missed"
    assert desk.ended(run) == ("missed", "none")
    assert [alert["code"] for body in desk.records("stopped") for alert in body["alerts"]] == ["missed"]
    assert desk.sent() == []


def test_every_event_has_exactly_one_terminal_record(desk: Desk) -> None:
    run = bought(desk, sell_in=1.5)
    desk.parts.clock.sleep_until(run.sell_at)
    events = [event_of(run, kind) for kind in (*EventType, EventType.BUY, EventType.SELL)]
    told = {event.id: call(event) for event in events}
    heard(desk, run)
    after = event_of(run, EventType.SELL)
    assert call(after) == "gone"
    assert {event.id: desk.outcomes(event) for event in events} == {event: [said] for event, said in told.items()}
    assert desk.outcomes(after) == ["ignored: run_ended"]
