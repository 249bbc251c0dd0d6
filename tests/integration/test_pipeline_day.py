"""A run's day through the real pipeline on the real live state: bought, protected, sold, once and only once."""

from dataclasses import replace
from datetime import timedelta

import pytest

from engine.domain.broker import BookEntry
from engine.domain.events import EventType
from engine.domain.orders import Leg, OrderStatus, Side
from engine.domain.run import ExitReason, Position, RunStatus
from engine.domain.schedule import Times
from engine.runtime import keys
from tests.builders import BUY_AT, QUANTITY, SELL_AT, STOP, S, book_entry, event, evidence, exit_, run
from tests.livestate import RUN
from tests.world import World

E = EventType
BOUGHT_AND_SOLD = [(Side.BUY, QUANTITY), (Side.SELL, QUANTITY)]


def test_a_day_without_a_breach_buys_sells_and_ends(world: World) -> None:
    assert world.buy().position is Position.BOUGHT
    world.clock.advance((SELL_AT - world.clock.market).total_seconds())
    assert world.serve(E.SELL, "sell") == "submitted: accepted"
    assert world.run().held == QUANTITY
    world.push(world.broker.fill("B2"))
    assert world.sides() == BOUGHT_AND_SOLD
    assert (world.ended()["status"], world.ended()["position"]) == ("stopped", "sold")
    assert world.timers.canceled == [run().id]
    assert world.live.fields() == {}
    assert world.serve(E.SELL, "late") == "gone"
    assert world.outcomes("buy") == world.outcomes("sell") == ["submitted: accepted"]


def test_accepted_is_not_bought(world: World) -> None:
    world.buy(quantity=0)
    assert world.run().position is Position.NONE
    assert world.run().orders[0].status is OrderStatus.ACCEPTED


def test_a_breach_sells_at_once_and_says_it_was_the_stop(world: World) -> None:
    world.buy()
    world.clock.advance(60)
    world.breach(STOP)
    assert world.serve(E.STOPLOSS, "sl") == "submitted: accepted"
    assert world.run().exit_reason is ExitReason.STOP_LOSS
    world.push(world.broker.fill("B2"))
    assert world.sides() == BOUGHT_AND_SOLD
    assert world.ended()["position"] == "exited_by_sl"


def test_a_breach_whose_message_was_lost_is_swept_up(world: World) -> None:
    world.buy()
    world.clock.advance(60)
    world.breach(STOP)
    world.clock.advance(1)
    world.sweep()
    assert world.sides() == BOUGHT_AND_SOLD


def test_any_event_serves_the_most_urgent_need(world: World) -> None:
    world.buy()
    world.clock.advance(60)
    world.breach(STOP)
    assert world.serve(E.ORDER_UPDATE, "any") == "submitted: accepted"
    assert world.run().exit_reason is ExitReason.STOP_LOSS


@pytest.mark.parametrize("kind", E)
def test_ten_repeats_of_an_event_send_one_order(world: World, kind: EventType) -> None:
    world.buy(quantity=0)
    world.push(world.broker.fill("B1"))
    world.clock.advance((SELL_AT - world.clock.market).total_seconds())
    world.breach(STOP)
    world.live.store.signal(run().id, {"stop_requested": "close"}, world.clock.real)
    for number in range(10):
        world.serve(kind, f"{kind}-{number}")
    assert world.sides() == BOUGHT_AND_SOLD


def test_ten_buys_buy_once(world: World) -> None:
    world.live.arm(buying=False)
    outcomes = [world.serve(E.BUY, f"b{number}") for number in range(10)]
    assert outcomes == ["submitted: accepted", *["ignored: entry_in_flight"] * 9]
    assert world.sides() == [(Side.BUY, QUANTITY)]


def test_ten_repeats_of_an_update_count_its_fill_once(world: World) -> None:
    world.buy(quantity=0)
    for _ in range(10):
        world.push(world.broker.fill("B1", 4))
    assert world.run().held == 4


def test_an_early_wake_up_waits_for_its_time_under_the_lock(world: World) -> None:
    world.live.arm(buying=False)
    world.clock.market = BUY_AT - timedelta(milliseconds=150)
    assert world.serve(E.BUY) == "submitted: accepted"
    assert world.clock.market == BUY_AT


def test_a_far_too_early_wake_up_is_not_discarded_but_comes_back_by_due(world: World) -> None:
    world.live.arm(buying=False)
    world.clock.market = BUY_AT - 5 * S
    assert world.serve(E.BUY).startswith("waits: ")
    assert world.sides() == []
    world.clock.advance(5)
    world.sweep()
    assert world.sides() == [(Side.BUY, QUANTITY)]


def test_a_buy_beyond_its_lateness_is_missed_and_alerted(world: World) -> None:
    world.live.arm(buying=False)
    world.clock.advance(31)
    assert world.serve(E.BUY) == "missed: buy_time_missed"
    assert (world.sides(), world.ended()["status"], world.alerts()) == ([], "missed", ["missed"])


def test_a_sale_never_expires_and_waits_for_a_session_where_its_own_is_over(world: World) -> None:
    world.buy()
    world.clock.advance(2 * 24 * 3600)
    world.sweep()
    world.sweep()
    assert (world.sides(), world.alerts()) == ([(Side.BUY, QUANTITY)], ["safety_abort"])
    assert world.live.store.prolong(run().id, world.clock.market + timedelta(hours=1), world.clock.real) == "ok"
    world.sweep()
    assert world.sides() == BOUGHT_AND_SOLD


def test_a_trade_whose_day_was_closed_is_canceled_and_alerted_before_its_time(world: World) -> None:
    armed = world.live.arm(buying=False)
    world.clock.market = BUY_AT - timedelta(hours=1)
    closed = Times(armed.buy_at, armed.sell_at, closes_at=armed.buy_at)
    assert world.live.store.reschedule(armed.id, closed, world.clock.real) == "ok"
    world.sweep()
    assert (world.sides(), world.ended()["status"], world.alerts()) == ([], "missed", ["missed"])


def test_a_position_is_sold_at_the_time_a_shorter_session_gives_it(world: World) -> None:
    bought = world.buy()
    ends = world.clock.market + timedelta(hours=1)
    shorter = Times(bought.buy_at, ends - timedelta(minutes=12), ends)
    assert world.live.store.reschedule(bought.id, shorter, world.clock.real) == "ok"
    world.clock.advance(47 * 60)
    world.sweep()
    assert world.sides() == [(Side.BUY, QUANTITY)]
    world.clock.advance(70)
    world.sweep()
    assert world.sides() == BOUGHT_AND_SOLD


def test_what_somebody_else_sold_is_not_sold_again(world: World) -> None:
    bought = world.buy()
    by_hand = evidence(exit_(OrderStatus.FILLED), OrderStatus.FILLED, QUANTITY, client_order_id="by hand")
    world.broker.book["M1"] = book_entry(by_hand, side=Side.SELL)
    world.clock.advance((bought.sell_at - world.clock.market).total_seconds())
    world.pass_time(60)
    assert (world.sides(), world.alerts()) == ([(Side.BUY, QUANTITY)], ["not_covered"])
    assert world.run().status is RunStatus.FAILED
    # It was a mistake of the broker's books: the account holds it after all.
    del world.broker.book["M1"]
    world.pass_time(10)
    assert world.sides() == BOUGHT_AND_SOLD


def test_a_fill_only_the_book_tells_of_is_not_held_against_an_older_reading_of_the_account(world: World) -> None:
    world.buy(quantity=0)
    world.clock.advance(6)
    world.cover()
    world.broker.fill("B1", 4)
    assert world.pipeline.process(event(EventType.ORDER_UPDATE, "u1").as_wire()) == "book read: silent"
    assert (world.run().held, world.run().status, world.alerts()) == (4, RunStatus.ACTIVE, [])


def test_a_partly_filled_entry_protects_what_it_has(world: World) -> None:
    world.buy(quantity=4)
    world.clock.advance(1)
    world.breach(STOP)
    world.serve(E.STOPLOSS, "sl")
    assert world.sides() == [(Side.BUY, QUANTITY), (Side.SELL, 4)]
    assert world.broker.canceled == ["B1"]
    # The cancellation came too late for two more units: they are sold as well.
    late = replace(world.broker.book["B1"].evidence, filled_quantity=6)
    world.broker.book["B1"] = book_entry(late)
    world.push(world.broker.book["B1"])
    world.push(world.broker.fill("B2"))
    world.pass_time(2)
    assert world.sides() == [(Side.BUY, QUANTITY), (Side.SELL, 4), (Side.SELL, 2)]
    world.push(world.broker.fill("B3"))
    assert world.ended()["position"] == "exited_by_sl"


def test_a_partly_filled_exit_that_ends_is_followed_by_one_for_the_rest(world: World) -> None:
    world.buy()
    world.clock.advance(60)
    world.breach(STOP)
    world.serve(E.STOPLOSS, "sl")
    world.broker.fill("B2", 7)
    world.push(world.broker.end("B2", OrderStatus.CANCELED))
    world.pass_time(1)
    assert world.sides() == [*BOUGHT_AND_SOLD, (Side.SELL, 3)]
    world.push(world.broker.fill("B3"))
    assert world.ended()["position"] == "exited_by_sl"


def test_an_exit_that_rests_too_long_is_canceled_and_replaced(world: World) -> None:
    world.buy()
    world.breach(STOP)
    world.serve(E.STOPLOSS, "sl")
    world.pass_time(40)
    assert world.broker.canceled == ["B2"]
    assert world.sides() == [*BOUGHT_AND_SOLD, (Side.SELL, QUANTITY)]


def test_an_entry_that_never_fills_is_withdrawn_and_the_run_is_missed(world: World) -> None:
    world.buy(quantity=0)
    world.pass_time(45)
    assert world.broker.canceled == ["B1"]
    assert (world.sides(), world.ended()["status"]) == ([(Side.BUY, QUANTITY)], "missed")


def test_a_silent_live_order_is_looked_up_in_the_book(world: World) -> None:
    world.buy(quantity=0)
    world.broker.fill("B1")
    world.pass_time(7)
    assert world.run().position is Position.BOUGHT


def test_a_fill_below_the_stop_is_sold_though_no_further_tick_comes(world: World) -> None:
    world.live.arm(buying=False)
    world.serve(E.BUY, "buy")
    world.breach(STOP - 1)
    world.clock.advance(1)
    world.push(world.broker.fill("B1"))
    assert world.sides() == BOUGHT_AND_SOLD
    assert world.run().exit_reason is ExitReason.STOP_LOSS


def test_a_breach_before_the_fill_does_not_sell_what_was_bought_after_it(world: World) -> None:
    world.buy(quantity=0)
    world.breach(STOP)
    world.clock.advance(1)
    world.price(STOP + 100)
    world.serve(E.STOPLOSS, "sl")
    world.push(world.broker.fill("B1"))
    assert (world.sides(), world.run().latch) == ([(Side.BUY, QUANTITY)], None)
    world.clock.advance(1)
    world.breach(STOP)
    world.serve(E.STOPLOSS, "sl2")
    assert world.sides() == BOUGHT_AND_SOLD


def test_evidence_that_arrives_before_the_commit_is_not_lost(world: World) -> None:
    world.live.arm(buying=False)

    def fills_at_once(entry: BookEntry) -> None:
        world.stream.on_update(world.broker.fill(entry.evidence.broker_order_id), 1)

    world.broker.on_placed = fills_at_once
    assert world.serve(E.BUY) == "submitted: accepted"
    bought = world.run()
    assert (bought.position, bought.filled(Leg.ENTRY)) == (Position.BOUGHT, QUANTITY)


def test_an_update_of_an_attempt_the_state_does_not_know_leads_to_the_book(world: World) -> None:
    world.buy()
    world.broker.book["B9"] = replace(
        world.broker.book["B1"],
        tag="EE00000077BX01E002",
        evidence=evidence(
            replace(world.run().orders[0], client_order_id="EE00000077BX01E002"),
            OrderStatus.FILLED,
            10,
            broker_order_id="B9",
        ),
    )
    world.push(world.broker.book["B9"])
    world.deliver()
    assert world.run().held == 2 * QUANTITY
    assert "overfilled" in world.alerts()


def test_a_malformed_message_is_one_dead_letter_and_touches_no_strategy(world: World) -> None:
    world.live.arm(buying=False)
    before = world.live.fields()
    assert world.pipeline.process({"id": "x", "type": "BUY"}) == "dead_letter"
    assert [letter["reason"] for letter in world.live.records("dead_letter")] == ["run: must be a non-empty string"]
    assert (world.live.fields(), world.sides()) == (before, [])


def test_a_worker_that_cannot_read_a_run_that_holds_something_tells_its_tenant_once(world: World) -> None:
    world.buy()
    world.live.redis.delete(keys.strategy(7))
    for name in ("first", "second"):
        assert world.serve(E.FORCE_STOP, name) == "state_unreadable"
        assert world.outcomes(name) == ["state_unreadable"]
        world.live.lease_runs_out()
    assert world.alerts() == ["state_unreadable"]
    assert len(world.sides()) == 1


def test_an_event_of_a_run_nobody_knows_is_one_dead_letter(world: World) -> None:
    assert world.serve(E.BUY) == "unknown"
    assert len(world.live.records("dead_letter")) == 1
    assert world.live.redis.exists(f"runtime:{RUN}") == 0


def test_a_breach_between_the_first_fill_and_the_last_is_served_though_only_the_last_was_told(world: World) -> None:
    world.live.arm(run(), buying=False)
    world.serve(E.BUY, "buy")
    # Four units fill and nobody tells; the price is through the stop for a second; then all is filled, and told.
    world.broker.fill("B1", 4)
    world.clock.advance(1)
    world.breach(STOP)
    world.clock.advance(1)
    assert world.price(STOP + 100) == 0
    world.push(world.broker.fill("B1"))
    assert world.sides() == BOUGHT_AND_SOLD
    assert world.run().exit_reason is ExitReason.STOP_LOSS


@pytest.mark.parametrize(("seconds", "latched"), [(-3, 0), (1, 1)])
def test_a_breach_told_late_counts_only_if_it_was_traded_since_the_entry_was_granted(
    world: World, seconds: int, latched: int
) -> None:
    world.live.arm(run(), buying=False)
    # The price was at the stop, and the entry goes out once it is not.
    world.clock.advance(10)
    granted_at = world.clock.market
    world.price(STOP + 100)
    world.serve(E.BUY, "buy")
    world.push(world.broker.fill("B1"))
    world.clock.advance(5)
    assert world.price(STOP + 100) == 0
    # By a second listener, which lags.
    assert world.price(STOP, granted_at + timedelta(seconds=seconds)) == latched


@pytest.mark.parametrize(("readable", "sides"), [(True, 1), (False, 2)])
def test_a_breach_before_the_first_fill_counts_only_where_nobody_can_tell_when_that_was(
    world: World, readable: bool, sides: int
) -> None:
    world.live.arm(run(), buying=False)
    world.serve(E.BUY, "buy")
    world.clock.advance(1)
    world.breach(STOP)
    world.clock.advance(1)
    assert world.price(STOP + 100) == 0
    filled = world.broker.fill("B1")
    world.broker.unreachable = not readable
    world.push(filled)
    assert len(world.sides()) == sides
