"""What a human resolves ends in the state it names, in whatever state the run is: a table of both."""

from collections.abc import Callable
from typing import Any

import pytest

from engine.cli.resolving import WAYS, Choice, is_flagged
from engine.domain.events import EventType
from engine.domain.orders import OrderStatus, Side
from engine.domain.strategy import AbortPolicy
from tests.builders import QUANTITY, SELL_AT, STOP, run, strategy
from tests.fakes import DEAD_TOKEN, DOUBT, REFUSED, Answer
from tests.world import World

E = EventType
BUY, SELL = (Side.BUY, QUANTITY), (Side.SELL, QUANTITY)


def aborted(policy: AbortPolicy) -> Callable[[World], None]:
    """It holds, and was aborted under a policy that keeps the position."""

    def lead(world: World) -> None:
        world.buy(run(spec=strategy(on_abort=policy)))
        world.live.store.signal(run().id, {"abort_requested": "unsafe"}, world.clock.real)
        world.serve(E.SAFETY_ABORT, "abort")

    return lead


def refused(world: World) -> None:
    """Its stop fell, and the broker refuses the exit again and again."""
    world.buy()
    world.clock.advance(60)
    world.broker.answers.extend([Answer(REFUSED)] * 4)
    world.breach(STOP)
    world.serve(E.STOPLOSS, "sl")
    world.pass_time(8)


def token_dead(world: World) -> None:
    """Its stop fell while the token is dead."""
    world.buy()
    world.clock.advance(60)
    world.broker.answers.extend([Answer(REFUSED)] * 3 + [Answer(DEAD_TOKEN)] * 5)
    world.breach(STOP)
    world.serve(E.STOPLOSS, "sl")
    world.pass_time(20)


def resting(world: World) -> None:
    """Aborted while its exit rests at the broker."""
    world.buy()
    world.clock.advance((SELL_AT - world.clock.market).total_seconds())
    world.serve(E.SELL, "sell")
    world.live.store.signal(run().id, {"abort_requested": "unsafe"}, world.clock.real)
    world.serve(E.SAFETY_ABORT, "abort")


def breached(world: World) -> None:
    """Aborted while frozen, its stop fallen."""
    aborted(AbortPolicy.FREEZE)(world)
    world.clock.advance(60)
    world.breach(STOP)
    world.serve(E.STOPLOSS, "sl")


#: State of a flagged run that holds its quantity -> how it gets there, and exits sent on the way.
STATES: dict[str, Callable[[World], None]] = {
    "aborted, protected": aborted(AbortPolicy.PROTECT),
    "aborted, frozen": aborted(AbortPolicy.FREEZE),
    "frozen and breached": breached,
    "exit refused": refused,
    "token dead": token_dead,
    "exit resting": resting,
}


def resolve(world: World, choice: Choice) -> None:
    """As the command does."""
    way, flagged = WAYS[choice], world.run()
    assert is_flagged(flagged)
    assert way.suits(flagged)
    world.live.store.signal(flagged.id, way.fields(flagged), world.clock.real)
    world.serve(E.FORCE_STOP, "resolve")
    for _ in range(15):
        world.pass_time(1)
        for entry in [*world.broker.book.values()]:
            if entry.evidence.status is OrderStatus.CANCELED:
                world.push(entry)


def fill_exits(world: World) -> None:
    """Every exit that still stands fills."""
    for name, entry in [*world.broker.book.items()]:
        if entry.side is Side.SELL and entry.evidence.status is OrderStatus.ACCEPTED:
            world.push(world.broker.fill(name))


def codes_of(world: World, code: str) -> list[Any]:
    return [alert for alert in world.alerts() if alert == code]


@pytest.mark.parametrize("state", STATES)
def test_closed_ends_the_run_flat_without_an_order_and_leaves_no_position(world: World, state: str) -> None:
    STATES[state](world)
    before = len(world.sides())
    # As it is at the broker: it was sold elsewhere.
    resolve(world, Choice.CLOSED)
    assert (world.ended()["status"], world.ended()["position"]) == ("stopped", "sold")
    (told,) = world.live.records("stopped")
    assert (told["state"]["failure"], told["state"]["position"]) == ("closed_elsewhere", "sold")
    assert (codes_of(world, "position_left"), len(world.sides())) == ([], before)
    assert not any(
        entry.side is Side.SELL and entry.evidence.status is OrderStatus.ACCEPTED
        for entry in world.broker.book.values()
    )


@pytest.mark.parametrize("state", STATES)
def test_leave_ends_the_run_with_its_position_and_no_order_at_the_broker(world: World, state: str) -> None:
    STATES[state](world)
    before = len(world.sides())
    resolve(world, Choice.LEAVE)
    assert (world.ended()["status"], world.ended()["position"]) == ("stopped", "bought")
    assert (codes_of(world, "position_left"), len(world.sides())) == (["position_left"], before)
    fill_exits(world)
    assert [each.quantity for each in world.broker.held()] == [QUANTITY]


@pytest.mark.parametrize("state", STATES)
def test_sell_sells_what_is_held_once_and_ends_the_run(world: World, state: str) -> None:
    STATES[state](world)
    resolve(world, Choice.SELL)
    fill_exits(world)
    world.pass_time(2)
    assert world.ended()["position"] in ("sold", "exited_by_sl")
    assert [each.quantity for each in world.broker.held()] == [0]
    assert codes_of(world, "oversold") == []


def test_absent_lets_the_next_attempt_follow(world: World) -> None:
    world.live.arm(buying=False)
    world.broker.answers.append(Answer(DOUBT, reaches_book=False))
    world.serve(E.BUY, "buy")
    resolve(world, Choice.ABSENT)
    assert world.sides() == [BUY, BUY]
    assert world.run().orders[0].given_up


@pytest.mark.parametrize("choice", [Choice.SELL, Choice.LEAVE, Choice.CLOSED])
def test_nothing_held_is_nothing_to_sell_leave_or_close(world: World, choice: Choice) -> None:
    world.live.arm(buying=False)
    world.broker.answers.append(Answer(DOUBT, reaches_book=False))
    world.serve(E.BUY, "buy")
    assert is_flagged(world.run())
    assert not WAYS[choice].suits(world.run())
