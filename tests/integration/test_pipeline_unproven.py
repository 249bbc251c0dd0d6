"""What is not proven is asked about: acceptances no book shows, refusals that rest, fills the book tells late."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from engine.domain.broker import BookEntry, OrderChange, Quote, Reply
from engine.domain.events import EventType
from engine.domain.orders import Evidence, OrderStatus, Side
from engine.domain.run import RunStatus
from engine.runtime import keys
from tests.builders import CLOSES, QUANTITY, STOP, SYMBOL, S, run, strategy
from tests.fakes import DEAD_TOKEN, DOWN, NO_MARGIN, OK, REFUSED, Answer
from tests.livestate import ACCOUNT, run_id
from tests.world import World

E = EventType
BUY, SELL = (Side.BUY, QUANTITY), (Side.SELL, QUANTITY)
#: From sending until an order that no book shows is not there, in the tests' broker's profile.
GRACE = 2 + 13
VANISHES = Answer(OK, reaches_book=False)


# Accepted, and never in the book


def test_an_accepted_exit_the_book_never_shows_is_sent_again_and_alerted(breached: World) -> None:
    breached.broker.answers.append(VANISHES)
    assert breached.serve(E.STOPLOSS) == "submitted: accepted"
    breached.pass_time(GRACE - 1)
    assert breached.sides() == [BUY, SELL]
    breached.pass_time(3)
    assert breached.sides() == [BUY, SELL, SELL]
    assert "attempt_given_up" in breached.alerts()


def test_an_accepted_entry_the_book_never_shows_is_replaced(world: World) -> None:
    world.live.arm(buying=False)
    world.broker.answers.append(VANISHES)
    world.serve(E.BUY)
    world.pass_time(GRACE + 2)
    assert world.sides() == [BUY, BUY]


def test_a_stop_ends_a_run_whose_accepted_entry_no_book_shows(world: World) -> None:
    world.live.arm(buying=False)
    world.broker.answers.append(VANISHES)
    world.serve(E.BUY)
    world.live.store.signal(run().id, {"stop_requested": "close"}, world.clock.real)
    world.serve(E.FORCE_STOP)
    world.pass_time(GRACE + 5)
    world.clock.jump(CLOSES + S)
    world.pass_time(40)
    assert (world.ended().get("status"), world.sides()) == ("stopped", [BUY])


def test_an_exit_its_book_showed_once_and_lost_is_in_doubt_again(breached: World) -> None:
    breached.serve(E.STOPLOSS)
    breached.push(breached.broker.book["B2"])
    del breached.broker.book["B2"]
    breached.pass_time(60)
    assert breached.sides() == [BUY, SELL]
    assert "exit_in_doubt" in breached.alerts()
    breached.pass_time(10)
    assert breached.sides() == [BUY, SELL, SELL]


def test_an_order_of_an_ended_session_that_the_new_book_lacks_has_expired(breached: World) -> None:
    breached.serve(E.STOPLOSS)
    breached.push(breached.broker.book["B2"])
    morning = CLOSES + timedelta(hours=18)
    breached.clock.jump(morning)
    bought = breached.broker.book.pop("B2"), breached.broker.held()
    breached.broker.held = lambda: bought[1]  # type: ignore[method-assign]
    breached.live.store.prolong(run().id, morning + timedelta(hours=6), breached.clock.real)
    breached.pass_time(8)
    first = breached.run().orders[1]
    assert (first.status, breached.sides()) == (OrderStatus.EXPIRED, [BUY, SELL, SELL])


# Refused on the wire, resting in the book


def test_an_exit_refused_by_an_answer_and_resting_in_the_book_is_not_sent_twice(breached: World) -> None:
    breached.broker.answers.append(Answer(REFUSED, reaches_book=False))
    breached.broker.refused_rests = True
    breached.serve(E.STOPLOSS)
    breached.pass_time(5)
    assert breached.sides() == [BUY, SELL]
    breached.push(breached.broker.fill("B2"))
    assert breached.ended()["position"] == "exited_by_sl"


def test_a_refused_exit_that_turns_up_after_its_replacement_is_canceled_and_alerted(breached: World) -> None:
    breached.broker.answers.append(Answer(REFUSED, reaches_book=False))
    breached.serve(E.STOPLOSS)
    breached.pass_time(3)
    assert breached.sides() == [BUY, SELL, SELL]
    refused = breached.broker.sent[1]
    late = Evidence(refused.client_order_id, "B2", OrderStatus.ACCEPTED, QUANTITY, 0, Decimal(0))
    breached.broker.book["B2"] = BookEntry(late, SYMBOL, Side.SELL, refused.client_order_id)
    breached.push(breached.broker.book["B2"])
    breached.pass_time(3)
    assert (breached.broker.canceled, "given_up_appeared" in breached.alerts()) == (["B2"], True)


@pytest.mark.parametrize("late", [0.1, 0.5, 0.9])
def test_what_was_refused_and_is_in_the_book_a_moment_later_is_not_sent_twice(world: World, late: float) -> None:
    world.live.arm(buying=False)
    world.broker.answers.append(Answer(REFUSED))
    world.serve(E.BUY)
    world.pass_time(late, step=late)
    _rests(world, 0)
    world.broker.fill("B1")
    world.pass_time(3, step=0.1)
    assert (world.sides(), world.run().held) == ([BUY], QUANTITY)


def test_a_reading_within_an_exits_pause_does_not_prove_that_it_rests_nowhere(breached: World) -> None:
    # Its owner has more of the symbol: what the account has holds no second sale up.
    breached.broker.trade_by_hand(Side.BUY, QUANTITY)
    breached.broker.answers.extend([Answer(REFUSED)] * 3)
    breached.serve(E.STOPLOSS)
    breached.pass_time(3.1, step=0.1)
    assert breached.sides() == [BUY, SELL, SELL, SELL]
    # Its third refusal pauses for four seconds. A hint has the book read at once; the order shows later.
    breached.live.store.signal(run_id(7), {"dirty": "1"}, breached.clock.real)
    breached.pass_time(2)
    _rests(breached, 3)
    breached.broker.fill("B4")
    breached.pass_time(5, step=0.1)
    assert breached.sides() == [BUY, SELL, SELL, SELL]


def _rests(world: World, sent: int) -> None:
    """The order that was sent as number `sent`, from 0, shows itself in the book, though it was refused."""
    request, broker_id = world.broker.sent[sent], f"B{sent + 1}"
    told = Evidence(request.client_order_id, broker_id, OrderStatus.ACCEPTED, request.quantity, 0, Decimal(0))
    world.broker.book[broker_id] = BookEntry(told, SYMBOL, request.side, request.client_order_id)


def test_a_refused_entry_that_rests_is_bought_once_and_protected(world: World) -> None:
    world.live.arm(buying=False)
    world.broker.answers.append(Answer(NO_MARGIN, reaches_book=False))
    world.broker.refused_rests = True
    world.serve(E.BUY)
    world.push(world.broker.fill("B1"))
    assert (world.sides(), world.run().held) == ([BUY], QUANTITY)
    assert world.run().status is RunStatus.FAILED
    world.clock.advance(1)
    world.breach(STOP)
    world.serve(E.STOPLOSS)
    assert world.sides() == [BUY, SELL]


# Fills told late


def test_a_canceled_entry_whose_trades_tell_of_a_fill_is_not_bought_again(world: World) -> None:
    world.live.arm(buying=False)
    world.serve(E.BUY)
    world.broker.first_fills["B1"] = world.clock.market
    world.broker.traded["B1"] = 4
    world.push(world.broker.end("B1", OrderStatus.CANCELED))
    world.pass_time(2)
    assert (world.sides(), world.run().held) == ([BUY], 4)


def test_an_order_called_filled_whose_fills_come_later_is_filled_by_its_trades(breached: World) -> None:
    breached.serve(E.STOPLOSS)
    breached.broker.fill("B2")
    behind = replace(breached.broker.book["B2"].evidence, filled_quantity=6, average_price=Decimal(0))
    breached.broker.book["B2"] = replace(breached.broker.book["B2"], evidence=behind)
    breached.broker.traded["B2"] = QUANTITY
    breached.push(breached.broker.book["B2"])
    assert breached.ended()["position"] == "exited_by_sl"
    assert breached.sides() == [BUY, SELL]


def test_an_average_price_that_is_not_known_yet_replaces_none_that_is(world: World) -> None:
    world.buy()
    unpriced = replace(world.broker.book["B1"].evidence, average_price=Decimal(0))
    world.push(replace(world.broker.book["B1"], evidence=unpriced))
    assert world.run().orders[0].average_price == Decimal(100)


# A hint is no order to stand still


def test_a_hint_and_a_book_that_cannot_be_read_do_not_disarm_a_stop(breached: World) -> None:
    breached.live.store.signal(run().id, {"dirty": "1"}, breached.clock.real)
    breached.broker.unreachable = True
    assert breached.serve(E.STOPLOSS) == "submitted: accepted"
    assert breached.sides() == [BUY, SELL]


def test_an_exit_that_waits_for_an_unreadable_book_is_alerted_at_once(breached: World) -> None:
    breached.live.store.signal(run().id, {"dirty": "1", "unread": "1"}, breached.clock.real)
    breached.broker.unreachable = True
    breached.serve(E.STOPLOSS)
    breached.pass_time(2)
    assert (breached.sides(), breached.alerts()) == ([BUY], ["book_unreadable"])
    breached.pass_time(70)
    assert breached.alerts() == ["book_unreadable"]
    breached.broker.unreachable = False
    breached.pass_time(32)
    assert breached.sides() == [BUY, SELL]


# Pauses belong to a leg


def test_an_entry_that_waits_for_its_rate_holds_no_stop_up(world: World) -> None:
    world.buy(quantity=4)
    world.live.store.signal(run().id, {"entry_retry_at": str(4 * 10**15)}, world.clock.real)
    world.clock.advance(1)
    world.breach(STOP)
    world.serve(E.STOPLOSS)
    assert world.sides() == [BUY, (Side.SELL, 4)]


def test_no_exit_is_denied_by_the_days_window(breached: World) -> None:
    breached.live.store.write_account(replace(ACCOUNT, limits={"rate_day": 0}))
    assert breached.serve(E.STOPLOSS) == "submitted: accepted"


@pytest.mark.parametrize("reply", [DOWN, DEAD_TOKEN])
def test_an_attempt_that_was_provably_not_sent_costs_no_rate(breached: World, reply: Reply) -> None:
    breached.live.store.write_account(replace(ACCOUNT, limits={"rate_day": 100}))
    breached.broker.answers.append(Answer(reply))
    breached.serve(E.STOPLOSS)
    assert _counted(breached) == 0


def test_an_attempt_in_doubt_costs_its_rate(breached: World) -> None:
    breached.live.store.write_account(replace(ACCOUNT, limits={"rate_day": 100}))
    breached.serve(E.STOPLOSS)
    assert _counted(breached) == 1


def _counted(world: World) -> int:
    names = world.live.redis.keys("account:1:rate:day:*")
    return sum(int(world.live.redis.get(name) or 0) for name in names)


def test_of_many_runs_one_tries_a_login_that_is_refused(world: World) -> None:
    for number in range(7, 13):
        world.buy(run(spec=strategy(id=number)))
    world.clock.advance(1)
    assert world.price(STOP) == 6
    world.broker.answers.extend([Answer(DEAD_TOKEN)] * 50)
    for number in range(7, 13):
        world.serve(E.STOPLOSS, f"sl-{number}", run_id(number))
    # The first is refused, the second tries whether that still holds, and the others wait for what becomes of it.
    assert world.sides().count(SELL) == 2
    assert world.alerts().count("token_invalid") == 6


# At the lower circuit


def test_an_exit_that_rests_is_lowered_once_and_keeps_its_place(breached: World) -> None:
    breached.broker.quotes = [Quote(SYMBOL, Decimal(90), Decimal(90), Decimal(110), breached.clock.market)]
    breached.serve(E.STOPLOSS)
    breached.pass_time(200)
    assert breached.broker.modified == [("B2", OrderChange(limit_price=Decimal(90)))]
    assert (breached.broker.canceled, breached.sides()) == ([], [BUY, SELL])


def test_an_exit_whose_new_price_is_refused_may_have_filled_and_is_looked_up(
    breached: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    breached.broker.quotes = [Quote(SYMBOL, Decimal(90), Decimal(90), Decimal(110), breached.clock.market)]

    def filled_just_now(broker_order_id: str, change: OrderChange) -> Reply:
        # It falls silent as it fills, and not at every change that is asked of it later.
        breached.broker.unreachable = not breached.broker.modified
        breached.broker.modified.append((broker_order_id, change))
        breached.broker.fill(broker_order_id)
        return REFUSED

    monkeypatch.setattr(breached.broker, "modify", filled_just_now)
    breached.serve(E.STOPLOSS)
    breached.pass_time(40)
    assert breached.run().dirty
    breached.broker.unreachable = False
    breached.pass_time(15)
    assert breached.ended()["position"] == "exited_by_sl"


def test_an_exit_whose_new_price_is_refused_is_looked_up_at_once(
    breached: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It filled as its price was changed: what refuses the change tells nothing of that."""
    breached.broker.quotes = [Quote(SYMBOL, Decimal(90), Decimal(90), Decimal(110), breached.clock.market)]

    def filled_just_now(broker_order_id: str, change: OrderChange) -> Reply:
        breached.broker.modified.append((broker_order_id, change))
        breached.broker.fill(broker_order_id)
        return REFUSED

    monkeypatch.setattr(breached.broker, "modify", filled_just_now)
    breached.serve(E.STOPLOSS)
    while not breached.broker.modified:
        breached.pass_time(1)
    breached.pass_time(3)
    assert breached.ended()["position"] == "exited_by_sl"
    assert len(breached.broker.modified) == 1


def test_an_exit_without_a_quote_is_replaced_as_before(breached: World) -> None:
    breached.serve(E.STOPLOSS)
    breached.pass_time(45)
    assert breached.broker.canceled == ["B2"]
    assert breached.sides() == [BUY, SELL, SELL]


# A stop that is reached before anything is bought


@pytest.mark.parametrize(("price", "bought"), [(STOP - 1, False), (STOP, False), (STOP + 1, True)])
def test_an_entry_whose_stop_the_price_has_reached_is_denied_until_it_is_missed(
    world: World, price: int, *, bought: bool
) -> None:
    world.live.arm(buying=False)
    world.price(price)
    world.serve(E.BUY)
    world.pass_time(35)
    assert world.sides()[:1] == ([BUY] if bought else [])
    if not bought:
        ended, (record,) = world.ended(), world.live.records("stopped")
        assert (ended["status"], ended["position"]) == ("missed", "none")
        assert "denied: stop_above_price" in record["alerts"][0]["message"]


def test_an_entry_denied_for_its_stop_is_sent_once_the_price_is_above_it(world: World) -> None:
    world.live.arm(buying=False)
    world.price(STOP)
    world.serve(E.BUY)
    world.clock.advance(1)
    world.price(STOP + 50)
    world.pass_time(3)
    assert (world.sides(), world.run().failure) == ([BUY], "")


def test_yesterdays_price_denies_only_a_stop_no_price_of_today_can_reach(world: World) -> None:
    yesterday = run().buy_at - timedelta(hours=18)
    world.clock.jump(yesterday)
    world.price(STOP - 100)
    world.clock.jump(run().buy_at)
    world.live.arm(buying=False)
    world.live.arm(run(spec=strategy(id=8), stop_units=2 * STOP), buying=False)
    assert world.serve(E.BUY).startswith("submitted")
    assert world.serve(E.BUY, "e8", run_id(8)).startswith("denied: stop_above_price")


def test_an_entry_whose_fate_cannot_be_read_is_alerted_at_once_where_its_stop_is_reached(world: World) -> None:
    world.live.arm(buying=False)
    world.serve(E.BUY)
    world.breach(STOP)
    world.broker.unreachable = True
    world.pass_time(3)
    assert world.alerts() == ["book_unreadable"]


def test_a_fill_nobody_told_of_is_found_and_sold_in_a_second_where_its_stop_is_reached(world: World) -> None:
    world.live.arm(buying=False)
    world.serve(E.BUY)
    world.broker.fill("B1")
    world.breach(STOP)
    world.pass_time(2)
    assert world.sides() == [BUY, SELL]


@pytest.mark.parametrize("takes", [1.8, 2.6, 9.0])
def test_an_exit_goes_by_a_reading_asked_for_it_however_long_that_took(world: World, takes: float) -> None:
    world.buy()
    world.clock.advance(60)
    world.live.redis.delete(keys.held(1))
    world.cover = lambda: None  # type: ignore[method-assign]
    # Intended minutes before its session's end, where a reading of 5 s is too old as a rule.
    world.live.store.prolong(run().id, world.clock.market + timedelta(minutes=11), world.clock.real)
    world.broker.takes = takes
    world.broker.on_placed = lambda _: setattr(world.broker, "takes", 0.0)
    world.breach(STOP)
    world.serve(E.STOPLOSS)
    world.pass_time(3)
    assert world.sides() == [BUY, SELL]
    assert world.run().unproven_since is None
