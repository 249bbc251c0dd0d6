"""A position whose exit is due and does not stand at the broker: its owner is told of that within two seconds."""

import pytest

from engine.domain.events import EventType
from engine.domain.orders import Side
from tests.builders import QUANTITY, SELL_AT, STOP
from tests.fakes import DOUBT, OK, Answer
from tests.livestate import LiveState
from tests.world import World

E = EventType
BUY, SELL = (Side.BUY, QUANTITY), (Side.SELL, QUANTITY)
#: From sending until an order that no book shows is not there, in the tests' broker's profile.
GRACE = 2 + 13
LOST = Answer(DOUBT, reaches_book=False)
VANISHES = Answer(OK, reaches_book=False)


@pytest.fixture
def world(live: LiveState) -> World:
    return World(live)


@pytest.fixture
def breached(world: World) -> World:
    """A run that holds and whose stop is breached."""
    world.buy()
    world.clock.advance(60)
    world.breach(STOP)
    return world


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
