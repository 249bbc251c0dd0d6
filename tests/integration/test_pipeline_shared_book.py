"""One reading of an account answers all of its runs that must know; what it cannot answer, it is not used for."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from engine.domain.broker import BookEntry, BrokerUnreachable
from engine.domain.events import EventType
from engine.domain.orders import Leg, OrderStatus, Side
from engine.domain.run import Run, client_order_id
from engine.domain.strategy import StopMode
from engine.runtime import codec, keys
from tests.builders import DEPLOYMENT, QUANTITY, book_entry, entry, evidence, run, strategy
from tests.livestate import LiveState
from tests.world import World

E = EventType
#: Runs of one account that bought long ago and are to be sold at once.
MANY = 30
#: What an account is asked while an exit of its may fill: its book, its positions, and its book again.
ANEW = 3


@pytest.fixture
def world(live: LiveState) -> World:
    world = World(live)
    # What the account has is known by its readings alone.
    world.cover = lambda: None  # type: ignore[method-assign]
    return world


def held(world: World, number: int, known_at: datetime | None = None, *, dirty: bool = False) -> Run:
    """A run that bought an hour ago, its order in the broker's book; it was last heard of at `known_at`."""
    what = run(spec=strategy(id=number))
    name = client_order_id(DEPLOYMENT, what.id, Leg.ENTRY, 1)
    ago = world.clock.real - timedelta(hours=1)
    bought = entry(
        OrderStatus.FILLED,
        QUANTITY,
        client_order_id=name,
        broker_order_id=f"H{number}",
        send_by=ago,
        updated_at=known_at or ago,
    )
    told = replace(evidence(bought, OrderStatus.FILLED, QUANTITY), broker_order_id=f"H{number}")
    world.broker.book[f"H{number}"] = book_entry(told)
    return world.live.arm(replace(what, orders=(bought,), dirty=dirty))


class Slow:
    """Makes the broker's answer to `orders` wait until it is let go."""

    def __init__(self, world: World) -> None:
        self.asked, self.let_go = threading.Event(), threading.Event()
        self._orders: Callable[[], Sequence[BookEntry]] = world.broker.orders
        self.fails = False
        world.broker.orders = self.orders  # type: ignore[method-assign]

    def orders(self) -> Sequence[BookEntry]:
        book = self._orders()
        self.asked.set()
        assert self.let_go.wait(10)
        if self.fails:
            raise BrokerUnreachable("no answer")
        return book


def stop(world: World, each: Run) -> str:
    world.live.store.signal(each.id, {"stop_requested": StopMode.CLOSE}, world.clock.real)
    return world.serve(E.FORCE_STOP, f"stop-{each.id}", each.id)


def test_runs_that_must_know_at_the_same_time_are_answered_by_one_reading(world: World) -> None:
    runs = [held(world, number) for number in range(1, MANY + 1)]
    for each in runs:
        world.live.store.signal(each.id, {"stop_requested": StopMode.CLOSE}, world.clock.real)
    for each in runs:
        world.serve(E.FORCE_STOP, f"stop-{each.id}", each.id)
    # Its orders, and its positions.
    assert world.broker.reads == 2
    assert [request.side for request in world.broker.sent] == [Side.SELL] * MANY


def test_while_one_run_reads_the_others_are_let_go_and_woken_once_it_has(world: World) -> None:
    runs = [held(world, number) for number in range(1, MANY + 1)]
    for each in runs:
        world.live.store.signal(each.id, {"stop_requested": StopMode.CLOSE}, world.clock.real)
    slow = Slow(world)
    reader = threading.Thread(target=world.serve, args=(E.FORCE_STOP, "first", runs[0].id))
    reader.start()
    assert slow.asked.wait(10)
    for each in runs[1:]:
        assert world.serve(E.FORCE_STOP, f"stop-{each.id}", each.id) == "waits for the account's book"
        assert not world.live.redis.exists(keys.lock(str(each.id)))
    # As long as a broker may take.
    world.clock.advance(3)
    slow.let_go.set()
    reader.join(10)
    assert world.broker.reads == 2
    woken = [event.run_id for event, _ in world.publisher.waiting]
    assert sorted(woken, key=str) == sorted((each.id for each in runs[1:]), key=str)
    world.deliver()
    assert (world.broker.reads, len(world.broker.sent)) == (2, MANY)


def test_a_reading_that_failed_lets_the_next_run_ask_and_tells_nobody_anything(world: World) -> None:
    first, second = held(world, 1), held(world, 2)
    world.broker.unreachable = True
    assert stop(world, first).startswith("book unreadable")
    assert stop(world, second).startswith("book unreadable")
    assert world.broker.reads == 2
    world.broker.unreachable = False
    world.pass_time(2)
    assert len(world.broker.sent) == 2


def test_a_hint_that_came_after_the_reading_began_is_not_answered_by_it(world: World) -> None:
    first, second = held(world, 1), held(world, 2)
    stop(world, first)
    reads = world.broker.reads
    world.live.store.signal(second.id, {"dirty": "1"}, world.clock.real)
    world.serve(E.ORDER_UPDATE, "u", second.id)
    assert world.broker.reads == reads + ANEW


def test_a_reading_of_another_epoch_answers_nothing(world: World) -> None:
    first, second = held(world, 1), held(world, 2, dirty=True)
    stop(world, first)
    reads = world.broker.reads
    world.live.redis.hset(keys.reading(1), "epoch", "4:of the server before")
    world.serve(E.ORDER_UPDATE, "u", second.id)
    assert world.broker.reads == reads + ANEW


def test_a_reader_that_died_is_followed_by_another_after_its_time(world: World) -> None:
    first, second = held(world, 1), held(world, 2)
    slow = Slow(world)
    slow.let_go.set()
    read_until(world, 5)
    assert stop(world, first) == stop(world, second) == "waits for the account's book"
    world.clock.advance(4)
    assert stop(world, first) == "waits for the account's book"
    world.pass_time(4)
    assert len(world.broker.sent) == 2


def test_nobody_waits_for_a_reader_whose_clock_is_far_ahead(world: World) -> None:
    first = held(world, 1)
    read_until(world, 3600)
    stop(world, first)
    assert len(world.broker.sent) == 1


def read_until(world: World, seconds: float) -> None:
    """Another reads the account, and is dead."""
    until = world.clock.real + timedelta(seconds=seconds)
    world.live.redis.hset(keys.reading(1), mapping={"by": "dead", "until": codec.to_us(until)})


@pytest.mark.parametrize(("known", "reads"), [(-0.1, 0), (0.1, ANEW)])
def test_what_a_run_has_done_since_is_not_looked_for_in_a_reading_from_before(
    world: World, known: float, reads: int
) -> None:
    asked_at = world.clock.real
    stop(world, held(world, 1))
    before = world.broker.reads
    world.clock.advance(0.3)
    second = held(world, 2, known_at=asked_at + timedelta(seconds=known), dirty=True)
    world.serve(E.ORDER_UPDATE, "u", second.id)
    assert world.broker.reads == before + reads
