"""Every I/O boundary has its two points, and an order strikes exactly one who reaches its point."""

import inspect
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from engine import arming, ledger, ports, recovery
from engine.bootstrap import Parts
from engine.chaos.points import METHODS, POINTS
from engine.chaos.tap import Blow, Gate, Orders, tapped
from engine.listener import Listener
from engine.orderstream import OrderStream
from engine.schedule import Buckets

#: Each port of the table and the protocols (or the one class) behind it.
BEHIND: dict[str, tuple[type, ...]] = {
    "store": (ports.Store, recovery.LiveState),
    "broker": (ports.Broker,),
    "publisher": (ports.Publisher,),
    "timers": (ports.Timers,),
    "durable": (recovery.Durable, arming.Missed),
    "epoch": (recovery.EpochKeeper,),
    "drainer": (ledger.Carrier,),
}
#: Protocols without effects on the world, or that only hand out a port that has points.
NO_EFFECT = {ports.Log, ports.Clock, ports.Brokers, ports.Calendar, ports.Backlog}


def methods_of(kind: type) -> set[str]:
    return {
        name for each in kind.__mro__ for name, value in vars(each).items()
        if inspect.isfunction(value) and not name.startswith("_") and each not in Protocol.__mro__
    }  # fmt: skip


def protocols() -> Iterator[type]:
    for module in (ports, recovery, ledger):
        for value in vars(module).values():
            if inspect.isclass(value) and getattr(value, "_is_protocol", False) and value is not Protocol:
                yield value


@pytest.mark.parametrize("port", sorted(BEHIND))
def test_every_method_of_a_port_has_its_points(port: str) -> None:
    assert set(METHODS[port]) == set().union(*map(methods_of, BEHIND[port]))


def test_every_protocol_has_points_or_no_effect() -> None:
    known = {kind for kinds in BEHIND.values() for kind in kinds} | NO_EFFECT
    assert set(protocols()) == known


def test_what_has_no_protocol_has_points_by_name() -> None:
    assert set(METHODS) - set(BEHIND) == {"buckets", "listener", "orderstream"}
    assert methods_of(Buckets) == set(METHODS["buckets"])
    assert hasattr(Listener, *METHODS["listener"])
    assert hasattr(OrderStream, *METHODS["orderstream"])


def test_a_point_is_named_after_its_boundary_and_side() -> None:
    assert {"store.intend.before", "broker.place.after", "drainer.trim.after", "buckets.take.before"} <= set(POINTS)
    assert len(POINTS) == len(set(POINTS)) == 2 * sum(map(len, METHODS.values()))


class Told:
    """A stand-in of the publisher."""

    def __init__(self, events: list[str]) -> None:
        self._events = events

    def publish(self, event: str) -> str:
        self._events.append(event)
        return "answer"

    def other(self) -> str:
        return "untouched"


@pytest.mark.parametrize(("point", "expected"), [
    ("publisher.publish.before", ["kill", "one", "two"]),
    ("publisher.publish.after", ["one", "kill", "two"]),
])  # fmt: skip
def test_an_order_strikes_once_at_its_point(tmp_path: Path, point: str, expected: list[str]) -> None:
    events: list[str] = []
    port = tapped(Gate(tmp_path, "sweeper", events.append), "publisher", Told(events))
    orders = Orders(tmp_path)
    orders.place("sweeper", point, Blow.KILL)
    orders.place("drainer", point, Blow.KILL)
    assert orders.is_open("sweeper", point)
    assert (port.publish("one"), port.publish("two"), port.other()) == ("answer", "answer", "untouched")
    assert events == expected
    assert not orders.is_open("sweeper", point)
    assert not orders.withdraw("sweeper", point)
    assert orders.withdraw("drainer", point)


def test_of_many_threads_exactly_one_is_struck(tmp_path: Path) -> None:
    for _ in range(20):
        struck: list[Blow] = []
        gate, start = Gate(tmp_path, "worker-orders", struck.append), threading.Barrier(16)

        def reach(gate: Gate = gate, start: threading.Barrier = start) -> None:
            start.wait()
            gate.reach("store.claim.before")

        Orders(tmp_path).place("worker-orders", "store.claim.before", Blow.STOP)
        threads = [threading.Thread(target=reach) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert struck == [Blow.STOP]


def test_an_unknown_point_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"store\.nothing"):
        Orders(tmp_path).place("sweeper", "store.nothing.before", Blow.KILL)


def test_without_the_setting_nothing_is_wrapped() -> None:
    target: Any = Told([])
    assert tapped(Gate.of(None, "sweeper"), "publisher", target) is target
    assert "gate" in Parts.__slots__
