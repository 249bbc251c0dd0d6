"""The workers' lane: a message waits for its instant, then the first free thread runs its task, the most urgent first.

No account holds more than its share of the threads, and entries leave some of them to exits.

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
from functools import partial
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from celery import Celery, Task
from celery.concurrency.thread import TaskPool
from celery.signals import worker_shutting_down
from celery.utils.log import get_logger
from celery.worker.strategy import default

from tasks.shares import Job, Shares, part

logger = get_logger(__name__)


class Clock(Protocol):
    """Real time that no jump of the wall clock moves."""

    def now(self) -> datetime:
        """Aware UTC."""


class Lane:
    """Runs jobs, none before its instant, on at most `limit` threads of `submit`, the most urgent first.

    An owner's jobs hold at most one thread in `account_share`; entries leave one in `exit_share` free.
    """

    def __init__(
        self,
        clock: Clock,
        submit: Callable[[Callable[[], object]], object],
        limit: int,
        account_share: int = 1,
        exit_share: int = 1,
    ) -> None:
        self._clock = clock
        self._submit = submit
        self._limit = limit
        self._shares = Shares(part(limit, account_share))
        self._entry_limit = limit - part(limit, exit_share) if exit_share > 1 and limit > 1 else limit
        self._held: list[tuple[datetime, Job]] = []
        #: What may begin: entries by themselves, for they may have to wait where exits need not.
        self._ready: dict[bool, list[Job]] = {False: [], True: []}
        #: What those that are ready do.
        self._waiting: Counter[Hashable] = Counter()
        #: Threads the pool was asked for, and those of them that run a job right now.
        self._taken = 0
        self._busy = 0
        self._entries = 0
        self._numbers = 0
        self._is_closed = False
        self._changed = threading.Condition()
        # A pool starts its threads when they are first needed, a herd's first 50 ms.
        together = threading.Barrier(limit)
        for _ in range(limit):
            submit(together.wait)
        threading.Thread(target=self._release, name="lane", daemon=True).start()

    def add(
        self,
        run: Callable[[], object],
        priority: int,
        at: datetime | None = None,
        does: Hashable = None,
        whose: Callable[[], Hashable] = lambda: None,
        *,
        is_entry: bool = False,
    ) -> bool:
        """Run `run` as soon as a thread is free, or else at `at`, never before it.

        False: it would do what another that waits for a thread `does`, and is left out.
        """
        with self._changed:
            if at is None and does is not None and self._waiting[does]:
                return False
            self._numbers += 1
            job = Job(priority, self._numbers, run, does, whose, is_entry)
            if at is None:
                self._make_ready(job)
                self._occupy()
                return True
            heapq.heappush(self._held, (at, job))
            if self._held[0][1] is job:
                self._changed.notify()
            return True

    def _make_ready(self, job: Job) -> None:
        heapq.heappush(self._ready[job.is_entry], job)
        if job.does is not None:
            self._waiting[job.does] += 1

    def waiting(self) -> Counter[int]:
        """How many jobs wait for a thread, by priority; those of an account that holds its share do not count."""
        with self._changed:
            return Counter(job.priority for ready in self._ready.values() for job in ready)

    def close(self) -> None:
        """Start nothing more; what is not started comes back by whoever repeats lost messages."""
        with self._changed:
            self._is_closed = True
            self._held.clear()
            for ready in self._ready.values():
                ready.clear()
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
        startable = len(self._ready[False]) + min(len(self._ready[True]), self._entry_limit - self._entries)
        while self._taken < min(self._limit, self._busy + startable):
            try:
                self._submit(self._drain)
            except RuntimeError:
                # The pool is being stopped: nothing more can be started.
                self._is_closed = True
                return
            self._taken += 1

    def _drain(self) -> None:
        """Run one job after the other until none may begin; a pool thread's turn."""
        while True:
            with self._changed:
                job = self._next()
                if job is None:
                    self._taken -= 1
                    return
            try:
                self._serve(job)
            except Exception:
                logger.exception("a task failed")
            finally:
                with self._changed:
                    self._busy -= 1
                    self._entries -= job.is_entry

    def _next(self) -> Job | None:
        """Take the most urgent job that may begin; None: there is none. The lock is held."""
        exits, entries = self._ready[False], self._ready[True]
        may_enter = bool(entries) and self._entries < self._entry_limit
        if not exits and not may_enter:
            return None
        job = heapq.heappop(entries if may_enter and (not exits or entries[0] < exits[0]) else exits)
        self._busy += 1
        self._entries += job.is_entry
        return job

    def _serve(self, job: Job) -> None:
        """Run `job`, or put it aside where its owner holds its share."""
        try:
            owner = job.whose()
        except Exception:
            logger.exception("whose share a task is on could not be told")
            owner = None
        if not self._shares.take(owner, job):
            return
        with self._changed:
            # From here on another is news again: what came after this one began, it may not have seen.
            if job.does is not None and self._waiting[job.does] <= 1:
                del self._waiting[job.does]
            elif job.does is not None:
                self._waiting[job.does] -= 1
        try:
            job.run()
        finally:
            following = self._shares.give_back(owner)
            if following is not None:
                with self._changed:
                    if not self._is_closed:
                        heapq.heappush(self._ready[following.is_entry], following)
                        self._occupy()


#: One lane for all tasks of a worker's pool.
_lanes: WeakKeyDictionary[TaskPool, Lane] = WeakKeyDictionary()


def strategy(
    task: "Task[..., Any]",
    app: Celery,
    consumer: Any,
    clock: Clock,
    what: Callable[..., Hashable],
    whose: Callable[..., Hashable],
) -> Callable[..., None]:
    """How messages of `task` are served: through the lane of the worker's threads; Celery's way on any other pool.

    `what`: what the task does with these arguments; of two alike that wait for a thread one is served. None: each is.
    `whose`: on whose share of the threads it runs; asked by the thread that takes it.
    """
    pool = consumer.pool
    # A worker that takes from no queue needs no lane.
    if not isinstance(pool, TaskPool) or not app.amqp.queues.consume_from:
        return default(task, app, consumer)
    if pool not in _lanes:
        executor: Executor = pool.executor  # type: ignore[attr-defined]
        _lanes[pool] = Lane(clock, executor.submit, pool.limit, app.conf.account_share, app.conf.exit_share)
    lane, body, errors = _lanes[pool], task.run, consumer.connection_errors
    is_entry = task.name in app.conf.entry_tasks

    def on_message(message: Any, *_: object) -> None:
        args, _kwargs, _embed = message.decode()
        eta = message.headers.get("eta")

        def run() -> None:
            # What is acknowledged before it starts is not given back when the worker is asked to end.
            message.ack_log_error(logger, errors)
            body(*args)

        at = datetime.fromisoformat(eta) if eta else None
        urgency = message.properties.get("priority") or 0
        if not lane.add(run, urgency, at, what(*args), partial(whose, *args), is_entry=is_entry):
            message.ack_log_error(logger, errors)

    return on_message


def waiting() -> Counter[int]:
    """How many messages this worker has taken and not begun, by priority; those for a later instant do not count."""
    return sum((lane.waiting() for lane in _lanes.values()), Counter())


@worker_shutting_down.connect
def _close(**_: object) -> None:
    for lane in _lanes.values():
        lane.close()
