"""How many orders one worker process brings through the ten steps, beside a task that does nothing on the same worker.

The queue is filled before the clock runs: its lists are kept under other names, and given back at once to a worker that
is ready. A worker is one process, so one core at most: its tasks are told by its own CPU seconds, which what Redis and
the broker take of the same cores does not change, and by the wall's.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import psutil

from bench import noop
from bench.budgets import LISTS
from bench.figures import Figures
from bench.herd import WORKER, open_desk_without_broker
from bench.stand import Stand, sleep_until, stand, wait
from broker_connector.paper.process import paper_broker
from engine.dispatch import TASK_OF, CeleryPublisher
from engine.domain.events import EventType
from engine.domain.run import Position, Run
from engine.runtime import keys
from engine.stack.child import Child
from tasks.app import app_at
from tests.desk import PAPER, Desk, event_of, open_desk

#: Strategies that are bought, then sold; messages of the task that does nothing.
ORDERS, NOTHINGS = 1_000, 10_000
#: Seconds from arming to the time to sell, and more for each order: until then the buying is done and told of.
HELD_FOR, HELD_FOR_EACH = 3.0, 0.02
#: Records the ledger gets for one order: intended, accepted.
RECORDS = 2

#: Before the names of lists that are filled while the worker waits.
HIDDEN = "hidden:"


def run(say: Callable[[str], object] = print, orders: int = ORDERS, nothings: int = NOTHINGS) -> Figures:
    """Tasks a core and second and a wall second; what `latest.json` holds under "throughput"."""
    with stand() as at, paper_broker(*PAPER) as paper, open_desk(at.url, paper) as desk:
        buying, selling = _ten_steps(at, desk, orders)
    with stand() as at, open_desk_without_broker(at) as desk:
        nothing = _noop(at, desk, nothings)
    both = buying + selling
    found = {
        "ten_steps_per_s": both.a_core(),
        "buy_per_s": buying.a_core(),
        "sell_per_s": selling.a_core(),
        "noop_per_s": nothing.a_core(),
        "ratio": round(both.a_core() / nothing.a_core(), 3),
        "ten_steps_wall_per_s": both.a_second(),
        "noop_wall_per_s": nothing.a_second(),
        "ratio_wall": round(both.a_second() / nothing.a_second(), 3),
        "worker_cpu_share": round(both.cpu / both.wall, 2),
        "others_cpu_share": round(both.others / both.wall, 2),
    }
    say(f"throughput: {found}")
    return found


@dataclass(frozen=True)
class _Drained:
    """A queue emptied: how many tasks, and the seconds of the wall, the worker's CPU and that of Redis and broker."""

    tasks: int
    #: Seconds since the epoch.
    released_at: float
    wall: float
    cpu: float
    others: float

    def a_core(self) -> float:
        return round(self.tasks / self.cpu, 1)

    def a_second(self) -> float:
        return round(self.tasks / self.wall, 1)

    def __add__(self, other: "_Drained") -> "_Drained":
        return _Drained(
            self.tasks + other.tasks,
            self.released_at,
            self.wall + other.wall,
            self.cpu + other.cpu,
            self.others + other.others,
        )


def _ten_steps(at: Stand, desk: Desk, count: int) -> tuple[_Drained, _Drained]:
    """`count` BUY, then their SELL, by the workers of the Procfile."""
    queue = app_at(at.url)
    # What the order stream says must reach the workers of this stand.
    desk.parts = replace(desk.parts, publisher=CeleryPublisher(queue, desk.parts.redis, desk.parts.log))
    redis: Any = desk.parts.redis
    at.start_from_procfile("worker-maintenance")
    worker = at.start_from_procfile("worker-orders")
    wait(lambda: redis.exists(keys.process("orders")) == 1, 30, "the worker is not ready")
    runs = [desk.arm(buy_in=0, sell_in=HELD_FOR + count * HELD_FOR_EACH) for _ in range(count)]

    def drain(kind: EventType, done: str) -> _Drained:
        release = _fill(at, redis, kind, runs)
        wanted = redis.xlen(keys.LEDGER) + RECORDS * count
        drained = _drain(worker, count, release, lambda: redis.xlen(keys.LEDGER) >= wanted)
        kinds = [body["kind"] for body in desk.records()]
        assert kinds.count(done) == count, f"{kinds.count(done)} times {done} where {count} were wanted"
        return drained

    buying = drain(EventType.BUY, "entry_accepted")
    desk.hear()
    wait(lambda: all(desk.live(each).position is Position.BOUGHT for each in runs), 60, "not every fill was told of")
    sleep_until(runs[-1].sell_at)
    return buying, drain(EventType.SELL, "exit_accepted")


def _noop(at: Stand, desk: Desk, count: int) -> _Drained:
    """`count` tasks that note when they began, on a worker with the engine's own strategy."""
    noted = at.directory / "starts"
    worker = at.start(
        "worker", ("celery", "-A", "bench.noop:ours", "worker", "-Q", "orders", *WORKER),
        ready=noop.READY, BENCH_STARTS=str(noted),
    )  # fmt: skip
    release = _fill(at, desk.parts.redis, EventType.BUY, [desk.run()] * count)
    drained = _drain(worker, count, release, lambda: not _is_busy(worker))
    at.end(worker)
    starts = [int(line) for line in noted.read_text().split()]
    assert len(starts) == count, f"{len(starts)} tasks started where {count} were wanted"
    # The worker tells of itself only when it ends: its own stamps say when the last task began.
    return replace(drained, wall=max(starts) / 1e9 - drained.released_at)


def _fill(at: Stand, redis: Any, kind: EventType, runs: Iterable[Run]) -> Callable[[], None]:
    """Put a message for each run where no worker looks; what is returned gives all to the worker at once."""
    hidden = app_at(at.url)
    options = {**hidden.conf.broker_transport_options, "global_keyprefix": HIDDEN}
    hidden.conf.update(broker_transport_options=options)
    for each in runs:
        hidden.send_task(TASK_OF[kind], args=(event_of(each, kind).as_wire(),))
    hidden.close()

    def release() -> None:
        for name in LISTS:
            if redis.exists(HIDDEN + name):
                redis.rename(HIDDEN + name, name)

    return release


def _drain(worker: Child, count: int, release: Callable[[], None], is_done: Callable[[], bool]) -> _Drained:
    before, released_at = _cpu(worker), time.time()
    release()
    wait(is_done, 120, "the queue was not emptied")
    wall, after = time.time() - released_at, _cpu(worker)
    return _Drained(count, released_at, wall, after[0] - before[0], after[1] - before[1])


def _is_busy(worker: Child) -> bool:
    """Whether it took more than a twentieth of a core in the last fifth of a second."""
    before, _ = _cpu(worker)
    time.sleep(0.2)
    return _cpu(worker)[0] - before > 0.01


def _cpu(worker: Child) -> tuple[float, float]:
    """CPU seconds of the worker, and of the other processes of this stand together."""
    every = {child.pid: sum(child.cpu_times()[:2]) for child in psutil.Process().children()}
    own = every.pop(worker.pid or 0)
    return own, sum(every.values())


def _keep_no_log(_action: str, /, **_facts: object) -> None:
    """Nothing is to be told here."""
