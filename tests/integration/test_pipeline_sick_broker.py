"""A broker that does not answer: whoever asked it lets go of the run, and comes back when the run is due."""

from typing import Any

import pytest

from engine.domain.events import EventType
from engine.domain.orders import Side
from engine.runtime import keys
from tests.builders import QUANTITY, STOP
from tests.fakes import DOUBT, Answer
from tests.livestate import RUN
from tests.world import World

E = EventType
BUY, SELL = (Side.BUY, QUANTITY), (Side.SELL, QUANTITY)


def is_let_go(world: World) -> bool:
    """Whether nobody holds the run, nor a slot of its account for it."""
    slots: Any = world.live.redis.keys("account:*:slots:*")
    return not world.live.redis.exists(keys.lock(RUN)) and not slots


def in_doubt(world: World) -> None:
    """An exit of a breached run nobody knows the fate of."""
    world.buy()
    world.clock.advance(60)
    world.breach(STOP)
    world.broker.answers.append(Answer(DOUBT))


@pytest.mark.parametrize("takes", [0.0, 9.0])
def test_a_book_that_cannot_be_read_is_asked_once_and_the_run_let_go(world: World, takes: float) -> None:
    in_doubt(world)
    world.broker.unreachable, world.broker.hangs, world.broker.reads = True, takes, 0
    world.serve(E.STOPLOSS)
    assert (world.broker.reads, is_let_go(world)) == (1, True)
    # The pause before the next question is counted from the answer that did not come.
    assert world.sweep() == ["told: exit_in_doubt"][: int(takes > 0)]
    assert world.broker.reads == 1
    world.clock.advance(1)
    world.sweep()
    assert (world.broker.reads, is_let_go(world)) == (2, True)
    world.broker.unreachable = False
    world.pass_time(2)
    assert world.sides() == [BUY, SELL]
    assert world.run().live(world.run().orders[-1].leg).broker_order_id == "B2"  # type: ignore[union-attr]


def test_a_cancel_that_is_not_answered_lets_go_of_the_run(world: World) -> None:
    world.buy()
    world.clock.market = world.run().sell_at
    world.serve(E.SELL)
    # It is known to rest, so that its book need not be asked before it is canceled.
    world.push(world.broker.book["B2"])
    world.clock.advance(33)
    world.broker.cancel_answers.append(Answer(DOUBT, reaches_book=False))
    world.serve(E.ORDER_UPDATE, "u")
    # What became of the cancel is not asked by the same thread.
    assert (world.broker.canceled, world.run().dirty, is_let_go(world)) == (["B2"], True, True)
    world.pass_time(2)
    assert not world.run().dirty


def test_a_thread_goes_on_with_one_run_for_a_bounded_time(world: World) -> None:
    in_doubt(world)
    world.broker.on_placed = lambda _: world.clock.advance(11)
    world.broker.reads = 0
    world.serve(E.STOPLOSS)
    assert (world.broker.reads, is_let_go(world)) == (0, True)
    world.pass_time(2)
    assert world.broker.reads > 0
    assert world.sides() == [BUY, SELL]
