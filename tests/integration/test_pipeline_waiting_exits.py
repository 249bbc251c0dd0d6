"""A position whose exit is due and does not stand at the broker: its owner is told of that within two seconds."""

import pytest

from engine.domain.events import EventType
from engine.domain.orders import Side
from engine.domain.run import RunStatus
from tests.builders import QUANTITY, SELL_AT, STOP
from tests.fakes import DEAD_TOKEN, DOUBT, OK, REFUSED, Answer
from tests.world import World

E = EventType
BUY, SELL = (Side.BUY, QUANTITY), (Side.SELL, QUANTITY)
#: From sending until an order that no book shows is not there, in the tests' broker's profile.
GRACE = 2 + 13
LOST = Answer(DOUBT, reaches_book=False)
VANISHES = Answer(OK, reaches_book=False)


# Sent, and nobody knows what became of it


@pytest.mark.parametrize("answer", [LOST, VANISHES])
def test_an_exit_in_doubt_is_told_of_after_two_seconds_once_and_not_sent_again(breached: World, answer: Answer) -> None:
    breached.broker.answers.append(answer)
    breached.serve(E.STOPLOSS)
    breached.pass_time(1)
    assert breached.alerts() == []
    breached.pass_time(1.5, step=0.5)
    assert breached.alerts() == ["exit_in_doubt"]
    breached.pass_time(10)
    assert (breached.alerts(), breached.sides()) == (["exit_in_doubt"], [BUY, SELL])


@pytest.mark.parametrize("answer", [LOST, VANISHES])
def test_an_exit_in_doubt_is_told_of_though_no_book_can_be_read(breached: World, answer: Answer) -> None:
    breached.broker.answers.append(answer)
    breached.serve(E.STOPLOSS)
    breached.broker.unreachable = True
    breached.pass_time(3)
    assert breached.alerts() == ["exit_in_doubt"]


def test_a_sale_at_its_time_that_is_in_doubt_is_told_of(world: World) -> None:
    world.buy()
    world.clock.jump(SELL_AT)
    world.broker.answers.append(LOST)
    world.serve(E.SELL)
    world.pass_time(2.5, step=0.5)
    assert (world.alerts(), world.sides()) == (["exit_in_doubt"], [BUY, SELL])


def test_each_exit_in_doubt_is_told_of(breached: World) -> None:
    breached.broker.answers.extend([LOST, LOST])
    breached.serve(E.STOPLOSS)
    breached.pass_time(GRACE + 5)
    assert breached.alerts() == ["exit_in_doubt", "attempt_given_up", "exit_in_doubt"]


def test_an_exit_that_its_book_shows_is_not_told_of(breached: World) -> None:
    """Nobody pushes; the book is asked, as something is due to be sold."""
    breached.serve(E.STOPLOSS)
    breached.pass_time(10)
    assert breached.alerts() == []


def test_an_exit_its_book_lacks_once_is_asked_for_again_before_it_is_told_of(breached: World) -> None:
    breached.serve(E.STOPLOSS)
    breached.push(breached.broker.book["B2"])
    breached.pass_time(4)
    shown = breached.broker.book.pop("B2")
    breached.pass_time(1)
    breached.broker.book["B2"] = shown
    breached.pass_time(4)
    assert breached.alerts() == []
    del breached.broker.book["B2"]
    breached.pass_time(8)
    assert breached.alerts() == ["exit_in_doubt"]


# Positions that lack what was bought a moment ago


def test_positions_that_lag_behind_a_purchase_are_no_sale_by_others(world: World) -> None:
    world.broker.held = list  # type: ignore[method-assign]
    world.buy()
    world.pass_time(12)
    assert (world.alerts(), world.run().status) == ([], RunStatus.ACTIVE)
    del world.broker.held
    world.pass_time(10)
    assert world.alerts() == []


def test_positions_that_lack_a_purchase_for_long_are_told_of(world: World) -> None:
    world.broker.held = list  # type: ignore[method-assign]
    world.buy()
    world.pass_time(18)
    assert (world.alerts(), world.run().failure) == (["not_covered"], "not_covered")


def test_an_exit_that_waits_for_positions_that_lag_is_told_of_after_two_seconds_once(world: World) -> None:
    world.broker.held = list  # type: ignore[method-assign]
    world.buy()
    world.clock.advance(2)
    world.breach(STOP)
    world.serve(E.STOPLOSS)
    world.pass_time(1)
    assert world.alerts() == []
    world.pass_time(1.5, step=0.5)
    assert (world.alerts(), world.run().status) == (["exit_uncovered"], RunStatus.ACTIVE)
    world.pass_time(5)
    assert (world.alerts(), world.sides()) == (["exit_uncovered"], [BUY])
    del world.broker.held
    world.pass_time(2)
    assert (world.alerts(), world.sides()) == (["exit_uncovered"], [BUY, SELL])
    assert (world.run().cover_awaited_since, world.run().cover_awaited_told) == (None, False)


def test_what_was_sold_by_hand_just_after_its_purchase_is_told_of_where_its_stop_is_breached(world: World) -> None:
    world.buy()
    world.clock.advance(2)
    world.broker.trade_by_hand(Side.SELL, QUANTITY)
    world.cover()
    world.breach(STOP)
    world.serve(E.STOPLOSS)
    world.pass_time(2.5, step=0.5)
    assert world.alerts() == ["exit_uncovered"]
    world.pass_time(20)
    assert (world.alerts(), world.sides()) == (["exit_uncovered", "not_covered"], [BUY])


def test_what_was_sold_by_hand_long_after_its_purchase_is_told_of_once(world: World) -> None:
    world.buy()
    world.clock.advance(60)
    world.broker.trade_by_hand(Side.SELL, QUANTITY)
    world.cover()
    world.breach(STOP)
    world.serve(E.STOPLOSS)
    world.pass_time(20)
    assert world.alerts() == ["not_covered"]


# Refused by the broker, or ended by the exchange


def test_an_exit_that_is_refused_is_told_of_after_two_seconds_once_with_its_reason(breached: World) -> None:
    breached.broker.answers.extend([Answer(REFUSED, reaches_book=False)] * 3)
    breached.serve(E.STOPLOSS)
    breached.pass_time(1)
    assert breached.alerts() == []
    breached.pass_time(1.5, step=0.5)
    (alert,) = [alert for record in breached.live.records() for alert in record.get("alerts", [])]
    assert (alert["severity"], alert["code"], "(refused)" in alert["message"]) == ("critical", "exit_refused", True)
    breached.pass_time(12)
    assert (breached.alerts(), breached.sides()) == (["exit_refused"], [BUY, *[SELL] * 4])


def test_an_exit_that_is_refused_for_ever_is_told_of_as_failing_too(breached: World) -> None:
    breached.broker.answers.extend([Answer(REFUSED, reaches_book=False)] * 9)
    breached.serve(E.STOPLOSS)
    breached.pass_time(60)
    assert breached.alerts() == ["exit_refused", "exit_keeps_failing"]


def test_an_exit_that_is_refused_once_and_taken_a_second_later_is_not_told_of(breached: World) -> None:
    breached.broker.answers.append(Answer(REFUSED, reaches_book=False))
    breached.serve(E.STOPLOSS)
    breached.pass_time(1.5, step=0.25)
    assert breached.sides() == [BUY, SELL, SELL]
    breached.pass_time(4)
    assert breached.alerts() == []


def test_an_exit_that_waits_for_a_login_is_told_of_as_that_alone(breached: World) -> None:
    breached.broker.answers.extend([Answer(DEAD_TOKEN, reaches_book=False)] * 9)
    breached.serve(E.STOPLOSS)
    breached.pass_time(10)
    assert [code for code in breached.alerts() if code.startswith("exit")] == []
