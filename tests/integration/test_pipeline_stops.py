"""FORCE_STOP and SAFETY_ABORT: what a user or a danger ends, and what becomes of the position."""

import pytest

from engine.domain.events import EventType
from engine.domain.orders import OrderStatus, Side
from engine.domain.run import RunStatus
from engine.domain.strategy import AbortPolicy
from tests.builders import QUANTITY, SELL_AT, STOP, run, strategy
from tests.fakes import DOUBT, REFUSED, Answer
from tests.world import World

E = EventType
BUY, SELL = (Side.BUY, QUANTITY), (Side.SELL, QUANTITY)
MODES = pytest.mark.parametrize("mode", ["close", "leave"])
POLICIES = pytest.mark.parametrize("policy", AbortPolicy)


def _ask(world: World, kind: EventType, field: str, value: str) -> str:
    """Write what must happen, then wake a worker, as the API does."""
    assert world.live.store.signal(run().id, {field: value}, world.clock.real) == "ok"
    return world.serve(kind, "ask")


def _stop(world: World, mode: str) -> str:
    return _ask(world, E.FORCE_STOP, "stop_requested", mode)


def _abort(world: World) -> str:
    return _ask(world, E.SAFETY_ABORT, "abort_requested", "unsafe")


@MODES
def test_a_stop_before_buying_ends_the_run_without_an_order(world: World, mode: str) -> None:
    world.live.arm(buying=False)
    assert _stop(world, mode) == f"stopped: force_stop_{mode}"
    assert (world.sides(), world.ended()["status"]) == ([], "stopped")
    assert world.serve(E.BUY, "buy") == "gone"


@MODES
def test_a_stop_withdraws_an_entry_that_rests(world: World, mode: str) -> None:
    world.buy(quantity=0)
    assert _stop(world, mode) == "cancel: accepted"
    world.push(world.broker.book["B1"])
    world.pass_time(1)
    assert (world.sides(), world.broker.canceled, world.ended()["status"]) == ([BUY], ["B1"], "stopped")


def test_close_sells_what_is_held_and_ends_on_the_fill_not_before(world: World) -> None:
    world.buy()
    assert _stop(world, "close") == "submitted: accepted"
    assert world.ended() == {}
    world.push(world.broker.fill("B2"))
    assert world.sides() == [BUY, SELL]
    assert (world.ended()["status"], world.ended()["position"]) == ("stopped", "sold")


def test_close_of_a_partly_filled_entry_sells_what_filled_and_withdraws_the_rest(world: World) -> None:
    world.buy(quantity=4)
    _stop(world, "close")
    assert (world.sides(), world.broker.canceled) == ([BUY, (Side.SELL, 4)], ["B1"])
    world.push(world.broker.book["B1"])
    world.push(world.broker.fill("B2"))
    world.pass_time(1)
    assert world.ended()["position"] == "sold"


def test_leave_ends_the_run_with_its_position_and_says_so(world: World) -> None:
    world.buy()
    assert _stop(world, "leave") == "stopped: force_stop_leave"
    assert (world.sides(), world.ended()["position"]) == ([BUY], "bought")
    assert world.alerts() == ["position_left"]
    assert world.price(STOP - 100) == 0


@MODES
def test_a_stop_waits_for_an_entry_in_doubt(world: World, mode: str) -> None:
    world.live.arm(buying=False)
    world.broker.answers.append(Answer(DOUBT))
    world.broker.unreachable = True
    world.serve(E.BUY, "buy")
    _stop(world, mode)
    assert world.ended() == {}
    world.broker.fill("B1")
    world.broker.unreachable = False
    world.pass_time(3)
    assert world.sides() == ([BUY, SELL] if mode == "close" else [BUY])


def test_a_stop_that_was_signalled_but_never_published_is_swept_up(world: World) -> None:
    world.buy()
    world.live.store.signal(run().id, {"stop_requested": "close"}, world.clock.real)
    world.sweep()
    assert world.sides() == [BUY, SELL]


@POLICIES
def test_an_abort_before_buying_fails_the_run_and_blocks_the_entry(world: World, policy: AbortPolicy) -> None:
    world.live.arm(run(spec=strategy(on_abort=policy)), buying=False)
    assert _abort(world) == "aborted: unsafe"
    assert (world.sides(), world.ended()["status"], world.alerts()) == ([], "failed", ["safety_abort"])
    assert world.serve(E.BUY, "buy") == "gone"


@POLICIES
def test_an_abort_withdraws_an_entry_that_rests(world: World, policy: AbortPolicy) -> None:
    world.buy(run(spec=strategy(on_abort=policy)), quantity=0)
    _abort(world)
    world.push(world.broker.book["B1"])
    world.pass_time(1)
    assert (world.broker.canceled, world.ended()["status"]) == (["B1"], "failed")


@pytest.mark.parametrize("wake", [E.STOPLOSS, E.SELL])
def test_protect_keeps_the_stop_and_the_scheduled_sale(world: World, wake: EventType) -> None:
    world.buy()
    _abort(world)
    assert (world.run().status, world.sides()) == (RunStatus.FAILED, [BUY])
    if wake is E.STOPLOSS:
        world.breach(STOP)
    else:
        world.clock.advance((SELL_AT - world.clock.market).total_seconds())
    assert world.serve(wake, "exit") == "submitted: accepted"
    world.push(world.broker.fill("B2"))
    assert (world.sides(), world.ended()["status"]) == ([BUY, SELL], "failed")


def test_flatten_sells_at_once(world: World) -> None:
    world.buy(run(spec=strategy(on_abort=AbortPolicy.FLATTEN)))
    assert _abort(world) == "aborted: unsafe"
    assert world.sides() == [BUY, SELL]
    world.push(world.broker.fill("B2"))
    assert (world.ended()["status"], world.ended()["position"]) == ("failed", "sold")


def test_freeze_touches_nothing_until_a_human_does(world: World) -> None:
    world.buy(run(spec=strategy(on_abort=AbortPolicy.FREEZE)))
    _abort(world)
    world.breach(STOP)
    world.serve(E.STOPLOSS, "sl")
    world.clock.advance((SELL_AT - world.clock.market).total_seconds())
    world.serve(E.SELL, "sell")
    world.sweep()
    assert (world.sides(), world.run().status, world.run().held) == ([BUY], RunStatus.FAILED, QUANTITY)
    assert world.alerts() == ["safety_abort"]


def test_an_abort_asked_for_twice_happens_once(world: World) -> None:
    world.buy()
    assert _abort(world) == "aborted: unsafe"
    _abort(world)
    assert world.alerts() == ["safety_abort"]


def test_an_exit_that_fails_after_an_abort_does_not_unfreeze_the_position(world: World) -> None:
    world.buy(run(spec=strategy(on_abort=AbortPolicy.FREEZE)))
    world.clock.advance(60)
    world.broker.answers.extend([Answer(REFUSED)] * 3)
    world.breach(STOP)
    world.serve(E.STOPLOSS, "sl")
    world.pass_time(8)
    assert world.sides() == [BUY, *[SELL] * 4]
    _abort(world)
    world.push(world.broker.end("B5", OrderStatus.REJECTED))
    world.pass_time(60)
    assert world.sides() == [BUY, *[SELL] * 4]
    assert (world.run().failure, world.run().is_frozen) == ("unsafe", True)
