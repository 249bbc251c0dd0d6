"""A worker that dies between any two steps: the lease runs out, the sweeper comes by, and no order is sent twice."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from engine.domain.events import EventType
from engine.domain.orders import Leg, OrderStatus, Side
from engine.domain.run import Position
from engine.ports import Denied, Holding, LockLost, NoSlot, StoreClosed
from engine.runtime import codec, keys
from engine.runtime.store import RedisStore
from tests.builders import QUANTITY, STOP, run
from tests.fakes import OK, Answer, Crash
from tests.livestate import RUN
from tests.world import World

E = EventType
BUY, SELL = (Side.BUY, QUANTITY), (Side.SELL, QUANTITY)
#: From the attempt's grant to the sweeper's first look, and to when absence is proof.
LOOK, GRACE = 8, 2 + 13


def _dies(world: World, kind: EventType, *, reaches_book: bool) -> None:
    """Serve an event by a worker that dies while it waits for the answer, its lease running out."""
    world.broker.answers.append(Answer(OK, reaches_book=reaches_book, crash=True))
    with pytest.raises(Crash):
        world.serve(kind, "dies")
    world.live.lease_runs_out()


def _situation(world: World, leg: Leg) -> EventType:
    """A run about to send its first attempt of `leg`, and the event that makes it."""
    if leg is Leg.ENTRY:
        world.live.arm(buying=False)
        return E.BUY
    world.buy()
    world.clock.advance(60)
    world.breach(STOP)
    return E.STOPLOSS


def _sent(world: World, leg: Leg) -> int:
    side = {Leg.ENTRY: Side.BUY, Leg.EXIT: Side.SELL}[leg]
    return sum(sent is side for sent, _ in world.sides())


@pytest.mark.parametrize("leg", Leg)
def test_an_order_in_the_book_is_not_sent_again_after_a_crash(world: World, leg: Leg) -> None:
    _dies(world, _situation(world, leg), reaches_book=True)
    world.pass_time(LOOK)
    order = world.run().last_order(leg)
    assert order is not None
    assert (order.status, order.broker_order_id) == (OrderStatus.ACCEPTED, f"B{len(world.broker.sent)}")
    world.pass_time(GRACE)
    assert _sent(world, leg) == 1


@pytest.mark.parametrize("leg", Leg)
def test_an_order_that_never_left_is_sent_once_more_after_its_grace_with_the_next_number(
    world: World, leg: Leg
) -> None:
    _dies(world, _situation(world, leg), reaches_book=False)
    world.pass_time(GRACE - 1)
    assert _sent(world, leg) == 1
    world.pass_time(4)
    assert _sent(world, leg) == 2
    assert world.broker.sent[-1].client_order_id.endswith("002")


@pytest.mark.parametrize("leg", Leg)
def test_repeated_events_after_a_crash_do_not_send_while_in_doubt(world: World, leg: Leg) -> None:
    kind = _situation(world, leg)
    _dies(world, kind, reaches_book=True)
    for number in range(10):
        world.serve(kind, f"again-{number}")
    assert _sent(world, leg) == 1


def test_a_fill_pushed_after_the_crash_is_taken_up(world: World) -> None:
    _dies(world, _situation(world, Leg.ENTRY), reaches_book=True)
    world.push(world.broker.fill("B1"))
    assert world.run().position is Position.BOUGHT


def test_a_worker_that_dies_holding_the_lock_delays_a_stop_by_its_lease_only(world: World) -> None:
    world.buy()
    world.clock.advance(60)
    held = world.live.claim()
    world.breach(STOP)
    assert world.serve(E.STOPLOSS, "sl") == "busy"
    assert int(world.live.redis.pttl(keys.lock(RUN))) <= 1000
    world.live.lease_runs_out()
    world.clock.advance(1)
    world.sweep()
    assert world.sides() == [BUY, SELL]
    with pytest.raises(LockLost):
        world.live.commit(held)


def _at_the_store(monkeypatch: pytest.MonkeyPatch, name: str, instead: Callable[..., Any]) -> Callable[..., Any]:
    """Put `instead` in the place of one call of the store; it is given the real one first."""
    real = getattr(RedisStore, name)
    monkeypatch.setattr(RedisStore, name, lambda store, *args, **more: instead(real, store, *args, **more))
    return instead


def test_a_granted_attempt_whose_answer_never_came_is_not_sent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(real: Callable[..., Any], *args: Any, **more: Any) -> Denied | None:
        real(*args, **more)
        raise StoreClosed("the reply was lost")

    world.live.arm(buying=False)
    _at_the_store(monkeypatch, "intend", lost)
    with pytest.raises(StoreClosed):
        world.serve(E.BUY)
    monkeypatch.undo()
    world.pass_time(GRACE - 1)
    assert world.sides() == []
    world.pass_time(4)
    assert world.sides() == [BUY]
    assert world.broker.sent[0].client_order_id.endswith("002")


@pytest.mark.parametrize("applied", [False, True])
def test_a_commit_whose_answer_never_came_leads_to_the_same_end(
    world: World, monkeypatch: pytest.MonkeyPatch, applied: bool
) -> None:
    def lost(real: Callable[..., Any], *args: Any, **more: Any) -> Holding | None:
        if applied:
            real(*args, **more)
        raise StoreClosed("the reply was lost")

    world.live.arm(buying=False)
    _at_the_store(monkeypatch, "commit", lost)
    with pytest.raises(StoreClosed):
        world.serve(E.BUY)
    monkeypatch.undo()
    world.live.redis.delete(keys.lock(RUN))
    world.push(world.broker.fill("B1"))
    world.pass_time(LOOK)
    assert (world.sides(), world.run().held) == ([BUY], QUANTITY)


def test_a_lease_lost_before_the_send_sends_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def late(real: Callable[..., Any], *args: Any, **more: Any) -> Denied | None:
        world.live.lease_runs_out()
        answer: Denied | None = real(*args, **more)
        return answer

    world.live.arm(buying=False)
    _at_the_store(monkeypatch, "intend", late)
    assert world.serve(E.BUY) == "lock_lost"
    monkeypatch.undo()
    assert world.sides() == []
    assert world.serve(E.BUY, "again") == "submitted: accepted"


def test_an_entry_the_state_has_lost_is_found_in_the_book_before_anything_is_bought(world: World) -> None:
    _dies(world, _situation(world, Leg.ENTRY), reaches_book=True)
    # Redis came back without its last second: the run is there, the attempt is not.
    world.live.redis.hdel(keys.runtime(RUN), "order:EE00000077BX01E001")
    world.live.store.signal(run().id, {"dirty": "1", "unread": "1"}, world.clock.real)
    assert world.serve(E.BUY, "again") == "book read: broker_update"
    assert world.sides() == [BUY]
    assert world.run().orders[0].broker_order_id == "B1"


def test_a_run_that_asks_the_book_first_still_buys_when_nothing_is_there(world: World) -> None:
    world.live.arm(run(unread=True), buying=False)
    assert world.serve(E.BUY) == "book read: broker_update"
    assert world.sides() == [BUY]


def test_a_deadline_that_passed_before_the_write_sends_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(real: Callable[..., Any], *args: Any, **more: Any) -> Denied | None:
        answer: Denied | None = real(*args, **more)
        world.clock.advance(timedelta(seconds=3).total_seconds())
        return answer

    world.live.arm(buying=False)
    _at_the_store(monkeypatch, "intend", slow)
    assert world.serve(E.BUY) == "submitted: server_down"
    monkeypatch.undo()
    assert world.sides() == []
    # That we were late says nothing of the broker.
    assert not world.live.redis.exists(keys.health(1))
    world.clock.advance(1)
    world.deliver()
    assert world.sides() == [BUY]


def test_an_exit_whose_deadline_passed_before_the_write_is_followed_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = [timedelta(seconds=3).total_seconds(), 0.0]

    def late(real: Callable[..., Any], *args: Any, **more: Any) -> Denied | None:
        answer: Denied | None = real(*args, **more)
        world.clock.advance(slow.pop(0))
        return answer

    world.buy()
    world.clock.advance(10)
    world.breach(STOP)
    _at_the_store(monkeypatch, "intend", late)
    world.serve(E.STOPLOSS)
    world.deliver()
    assert world.sides() == [BUY, (Side.SELL, QUANTITY)]


def test_an_account_the_live_state_does_not_know_costs_no_attempt(world: World) -> None:
    world.live.arm(buying=False)
    world.brokers.by_account.clear()
    with pytest.raises(StoreClosed):
        world.serve(E.BUY)
    assert world.run().orders == ()
    world.brokers.by_account[1] = world.broker
    world.clock.advance(1)
    world.sweep()
    assert world.sides() == [BUY]


def test_an_answer_is_stored_once_the_live_state_takes_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    refused: list[str] = []

    def refuses(real: Callable[..., Any], *args: Any, **more: Any) -> Holding | None:
        if len(refused) < 20:
            refused.append("OOM")
            raise StoreClosed("Redis refuses: OOM")
        answer: Holding | None = real(*args, **more)
        return answer

    world.live.arm(buying=False)
    _at_the_store(monkeypatch, "commit", refuses)
    assert world.serve(E.BUY) == "submitted: accepted"
    (order,) = world.run().orders
    assert (order.status, order.broker_order_id, len(refused)) == (OrderStatus.ACCEPTED, "B1", 20)
    assert world.live.redis.exists(keys.lock(RUN)) == 0


def test_a_run_is_let_go_of_once_the_live_state_takes_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(_real: Callable[..., Any], *_args: Any, **_more: Any) -> None:
        raise StoreClosed("Redis refuses: OOM")

    world.buy()
    world.live.store.signal(run().id, {"dirty": "1"}, world.clock.real)
    _at_the_store(monkeypatch, "extend", refuses)
    with pytest.raises(StoreClosed, match="OOM"):
        world.serve(E.ORDER_UPDATE)
    monkeypatch.undo()
    assert world.live.redis.exists(keys.lock(RUN)) == 0
    world.breach(STOP)
    assert world.serve(E.STOPLOSS, "sl").startswith("submitted")


def test_a_fill_that_meets_an_account_without_a_slot_is_not_lost(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_real: Callable[..., Any], *_args: Any, **_more: Any) -> None:
        raise NoSlot(RUN)

    world.buy(quantity=4)
    world.live.store.signal(run().id, {"dirty": "1"}, world.clock.real)
    _at_the_store(monkeypatch, "extend", full)
    assert world.push(world.broker.fill("B1")) == ["parked"]
    monkeypatch.undo()
    world.broker.unreachable = True
    world.pass_time(1)
    assert world.run().held == QUANTITY


def test_a_run_whose_holder_died_is_looked_at_when_its_lease_ends(world: World) -> None:
    world.buy()
    held = world.live.claim()
    world.live.store.extend(held, timedelta(seconds=15))
    # Its nudges become rare meanwhile.
    for _ in range(6):
        world.live.redis.zadd(keys.DUE, {RUN: 1})
        assert world.sweep() == ["busy"]
    due = world.live.due()
    assert due is not None
    assert due - codec.to_us(world.clock.real) < 15_300_000
