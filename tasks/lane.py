"""The workers' lane: a message waits for its instant, then the first free thread runs its task, the most urgent first.

A `Task.Strategy`, Celery's own hook. Celery's default hands every message to the pool through a request and its
tracer, one after the other, and its timer is good to some tens of milliseconds: of 1,000 messages for one instant the
last starts hundreds of milliseconds late. What is left out here: results, revoking, rate and time limits, retries and
the signals and events of single tasks; the engine uses none of them, and a worker with Celery's own strategy serves
the same messages. Knows nothing of the engine.
"""

import heapq
import threading
from collections import Counter
from collections.abc import Callable, Hashable
from concurrent.futures import Executor
from datetime import datetime
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from celery import Celery, Task
from celery.concurrency.thread import TaskPool
from celery.signals import worker_shutting_down
from celery.utils.log import get_logger
from celery.worker.strategy import default

logger = get_logger(__name__)


class Clock(Protocol):
    """Real time that no jump of the wall clock moves."""

    def now(self) -> datetime:
        """Aware UTC."""


#: Priority (0 is the most urgent), order of arrival, what to run, and what it does: a tuple, for thousands are compared
#: at once.
Job = tuple[int, int, Callable[[], object], Hashable]


class Lane:
    """Runs jobs, none before its instant, on at most `limit` threads of `submit`, the most urgent first."""

    def __init__(self, clock: Clock, submit: Callable[[Callable[[], object]], object], limit: int) -> None:
        self._clock = clock
        self._submit = submit
        self._limit = limit
        self._held: list[tuple[datetime, Job]] = []
        self._ready: list[Job] = []
        #: What those that are ready do.
        self._waiting: Counter[Hashable] = Counter()
        #: Threads the pool was asked for, and those of them that run a job right now.
        self._taken = 0
        self._busy = 0
        self._numbers = 0
        self._is_closed = False
        self._changed = threading.Condition()
        # A pool starts its threads when they are first needed, a herd's first 50 ms.
        together = threading.Barrier(limit)
        for _ in range(limit):
            submit(together.wait)
        threading.Thread(target=self._release, name="lane", daemon=True).start()

    def add(self, run: Callable[[], object], priority: int, at: datetime | None = None, does: Hashable = None) -> bool:
        """Run `run` as soon as a thread is free, or else at `at`, never before it.

        False: it would do what another that waits for a thread `does`, and is left out.
        """
        with self._changed:
            if at is None and does is not None and self._waiting[does]:
                return False
            self._numbers += 1
            job = priority, self._numbers, run, does
            if at is None:
                self._make_ready(job)
                self._occupy()
                return True
            heapq.heappush(self._held, (at, job))
            if self._held[0][1] is job:
                self._changed.notify()
            return True

    def _make_ready(self, job: Job) -> None:
        heapq.heappush(self._ready, job)
        if (does := job[-1]) is not None:
            self._waiting[does] += 1

    def waiting(self) -> Counter[int]:
        """How many jobs wait for a thread, by priority."""
        with self._changed:
            return Counter(priority for priority, *_ in self._ready)

    def close(self) -> None:
        """Start nothing more; what is not started comes back by whoever repeats lost messages."""
        with self._changed:
            self._is_closed = True
            self._held.clear()
            self._ready.clear()
            self._waiting.clear()
            self._changed.notify()

    def _release(self) -> None:
        """Move what is due to what is ready; a thread's life."""
        with self._changed:
            while not self._is_closed:
                now = self._clock.now()
                while self._held and self._held[0][0] <= now:
                    self._make_ready(heapq.heappop(self._held)[1])
                self._occupy()
                self._changed.wait((self._held[0][0] - now).total_seconds() if self._held else None)

    def _occupy(self) -> None:
        """Put as many threads to work as there is work for; the lock is held."""
        while self._taken < min(self._limit, self._busy + len(self._ready)):
            try:
                self._submit(self._drain)
            except RuntimeError:
                # The pool is being stopped: nothing more can be started.
                self._is_closed = True
                return
            self._taken += 1

    def _drain(self) -> None:
        """Run one job after the other until none is ready; a pool thread's turn."""
        while True:
            with self._changed:
                if not self._ready:
                    self._taken -= 1
                    return
                *_, run, does = heapq.heappop(self._ready)
                self._busy += 1
                # From here on another is news again: what came after this one began, it may not have seen.
                if does is not None:
                    self._waiting[does] -= 1
                    if not self._waiting[does]:
                        del self._waiting[does]
            try:
                run()
            except Exception:
                logger.exception("a task failed")
            finally:
                with self._changed:
                    self._busy -= 1


#: One lane for all tasks of a worker's pool.
_lanes: WeakKeyDictionary[TaskPool, Lane] = WeakKeyDictionary()


def strategy(
    task: "Task[..., Any]", app: Celery, consumer: Any, clock: Clock, what: Callable[..., Hashable]
) -> Callable[..., None]:
    """How messages of `task` are served: through the lane of the worker's threads; Celery's way on any other pool.

    `what`: what the task does with these arguments; of two alike that wait for a thread one is served. None: each is.
    """
    pool = consumer.pool
    # A worker that takes from no queue needs no lane.
    if not isinstance(pool, TaskPool) or not app.amqp.queues.consume_from:
        return default(task, app, consumer)
    if pool not in _lanes:
        executor: Executor = pool.executor  # type: ignore[attr-defined]
        _lanes[pool] = Lane(clock, executor.submit, pool.limit)
    lane, body, errors = _lanes[pool], task.run, consumer.connection_errors

    def on_message(message: Any, *_: object) -> None:
        args, _kwargs, _embed = message.decode()
        eta = message.headers.get("eta")

        def run() -> None:
            # What is acknowledged before it starts is not given back when the worker is asked to end.
            message.ack_log_error(logger, errors)
            body(*args)

        at = datetime.fromisoformat(eta) if eta else None
        if not lane.add(run, message.properties.get("priority") or 0, at, what(*args)):
            message.ack_log_error(logger, errors)

    return on_message


def waiting() -> Counter[int]:
    """How many messages this worker has taken and not begun, by priority; those for a later instant do not count."""
    return sum((lane.waiting() for lane in _lanes.values()), Counter())


@worker_shutting_down.connect
def _close(**_: object) -> None:
    for lane in _lanes.values():
        lane.close()
