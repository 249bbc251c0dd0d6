"""The engine beside what people use instead: from the event published to its order at the broker, and after kill -9.

Everyone has the same work (`bench.peer.work`), the same sink for a broker and 32 threads where there are threads.
"engine" is the real worker with all ten steps, "lane" the engine's way of taking messages with the peers' work.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import psutil

from bench import killed
from bench.figures import p50_p99
from bench.rivals import ENGINE, NOT_INSTALLED, PROGRAMS, RIVALS, Rival, runs_of_rivals, start_nautilus
from bench.sink import Sink, sink
from bench.stand import Stand, stand, wait
from engine.domain.orders import Leg
from engine.domain.run import client_order_id
from engine.runtime import keys
from engine.stack.child import Child
from tests.desk import open_desk

Row = dict[str, Any]
#: What the others' medians are told in: the engine's first draft.
DRAFT = "loop_1ms"
#: When each order's event was published or ticked, ns since the epoch, by the tag of the order.
Published = Mapping[str, int]


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    #: Events one by one, seconds from one to the next, and how many come first, open connections and do not count.
    paced: int = 300
    pause: float = 0.02
    warm: int = 20
    #: Events at once.
    burst: int = 1_000
    #: Seconds of doing nothing.
    idle: float = 5.0
    at_stake: killed.Size = field(default_factory=killed.Size)


def run(say: Callable[[str], object] = print, sizes: Sizes | None = None, names: Sequence[str] = ()) -> dict[str, Row]:
    """A row for each, or for `names`; what `latest.json` holds under "peers". Times in ms."""
    found: dict[str, Row] = {}
    for name in names or ROWS:
        found[name] = ROWS[name](sizes or Sizes())
        say(f"peers {name}: {found[name]}")
    if draft := found.get(DRAFT):
        for row in found.values():
            if "p50" in row:
                row["ratio"] = round(row["p50"] / draft["p50"], 2)
    return found


def _engine(sizes: Sizes) -> Row:
    """The engine as it is: its worker of orders, its own scripts, steps and log lines."""
    with stand() as at, sink(at) as orders, open_desk(at.url, orders) as desk:  # type: ignore[arg-type]
        worker = at.start_from_procfile("worker-orders")
        wait(lambda: desk.parts.redis.exists(keys.process("orders")) == 1, 30, "the worker is not ready")
        deployment = desk.parts.settings.deployment

        def events(number: int) -> dict[str, str]:
            runs = [desk.arm(buy_in=0) for _ in range(number)]
            return {client_order_id(deployment, each.id, Leg.ENTRY, 1): str(each.id) for each in runs}

        row = _measured(at, orders, ENGINE, worker, events, sizes)
    return row | {"killed": killed.engine(sizes.at_stake).row}


def _rival(rival: Rival, sizes: Sizes) -> Row:
    """The peers' work behind a queue."""
    if not rival.is_installed:
        return {"missing": NOT_INSTALLED}
    with stand() as at, sink(at) as orders:
        worker = rival.start(at, orders)

        def events(number: int) -> dict[str, str]:
            return {name: name for name in runs_of_rivals(at, number)}

        row = _measured(at, orders, rival, worker, events, sizes)
        return row | {"killed": killed.rival(at, orders, rival, worker, sizes.at_stake).row}


def _nautilus(sizes: Sizes) -> Row:
    """One process that asks nobody: no queue, no store. It is given its ticks, so its idling says nothing."""
    if not (PROGRAMS / "huey_consumer").exists():
        return {"missing": NOT_INSTALLED}
    with stand() as at, sink(at) as orders:
        late = _late(_ticked(at, orders, sizes.warm + sizes.paced, sizes.pause), orders)[sizes.warm :]
        orders.forget()
        burst = _late(_ticked(at, orders, sizes.burst, 0), orders)
        row = {**p50_p99(late, 2), "burst_ms": round(max(burst), 1), "idle_cpu_percent": None}
        return row | {"killed": killed.nautilus(at, orders, sizes.at_stake).row}


ROWS: dict[str, Callable[[Sizes], Row]] = {
    "engine": _engine,
    **{name: partial(_rival, rival) for name, rival in RIVALS.items()},
    "nautilus": _nautilus,
}


def _measured(
    at: Stand, orders: Sink, rival: Rival, worker: Child, events: Callable[[int], Mapping[str, str]], sizes: Sizes
) -> Row:
    """`events` makes so many runs: the name of each by the tag of its order."""
    paced = _published(at, rival, events(sizes.warm + sizes.paced), sizes.pause)
    late = _late(paced, orders)[sizes.warm :]
    orders.forget()
    burst = _published(at, rival, events(sizes.burst), 0)
    last = max(_came(burst, orders).values()) - min(burst.values())
    orders.forget()
    return {**p50_p99(late, 2), "burst_ms": round(last / 1e6, 1), "idle_cpu_percent": _idle(worker, sizes.idle)}


def _published(at: Stand, rival: Rival, runs: Mapping[str, str], pause: float) -> Published:
    return dict(zip(runs, rival.publish(at, list(runs.values()), pause), strict=True))


def _ticked(at: Stand, orders: Sink, stops: int, pause: float) -> Published:
    process = start_nautilus(at, orders, stops, pause)
    wait(lambda: not process.alive(), 60, "nautilus does not end")
    return {tag: int(came) for tag, came in json.loads(process.last_words("{")).items()}


def _came(published: Published, orders: Sink) -> dict[str, int]:
    """When each order came, ns since the epoch; waits until all have."""
    wait(lambda: len(orders.noted()) >= len(published), 120, "not every order came")
    noted = dict(orders.noted())
    assert noted.keys() == published.keys(), "other orders came than were asked for"
    return noted


def _late(published: Published, orders: Sink) -> list[float]:
    """ms from each event to its order, in the order they were published."""
    came = _came(published, orders)
    return [(came[tag] - at) / 1e6 for tag, at in published.items()]


def _idle(worker: Child, seconds: float) -> float:
    """Percent of a core a worker takes that has nothing to do."""
    # What a burst leaves behind is let go first.
    time.sleep(min(1.0, seconds))
    process = psutil.Process(worker.pid)
    before = process.cpu_times()
    time.sleep(seconds)
    after = process.cpu_times()
    return round((after.user + after.system - before.user - before.system) / seconds * 100, 1)
