"""The direct line: threads that wait at a queue themselves, for the one event whose every millisecond counts.

A worker bootstep, Celery's own hook. A message on Celery's way passes its event loop, its transport and a pool's
queue before a thread runs the task; here the thread that takes it off the queue runs it. The messages, the tasks and
the gate are the same, so a worker without this step serves them, too. What is left out: priorities and instants,
which a wake-up of a breach has none of, and all that `tasks.lane` leaves out. docs/performance.md tells what it saves.
No account holds more than its share of the threads: what exceeds it is put aside, and served by the next of them.
"""

import threading
import time
from collections.abc import Callable, Hashable
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Any, NamedTuple

import orjson
from celery import bootsteps
from celery.utils.log import get_logger
from celery.worker.components import Pool
from redis.client import Redis
from redis.exceptions import RedisError

from engine.runtime.connect import SOCKET_TIMEOUT, connect
from tasks import intake
from tasks.shares import Job, Shares, part

logger = get_logger(__name__)

#: Seconds one wait at the queue lasts: less than a command may take.
WAIT = 3
assert WAIT < SOCKET_TIMEOUT
#: Seconds between two attempts to reach Redis.
PAUSE = 0.5
#: Seconds tasks that run may still take when the worker is asked to end, and between two looks at them.
END_WITHIN, LOOK_EVERY = 15.0, 0.05


def nobodys(*_: object, **__: object) -> tuple[Hashable, Hashable]:
    """No owner, and like nothing else."""
    return None, None


#: On whose share a message is served, and what it does, by its arguments; `tasks.execution` puts its own here.
whose: Callable[..., tuple[Hashable, Hashable]] = nobodys


class Work(NamedTuple):
    """What a message asks for."""

    run: Callable[[], object]
    #: On whose share of the threads it is served; None: on nobody's.
    owner: Hashable = None
    #: Of two alike that were put aside one is served.
    does: Hashable = None


class Line:
    """Threads that each wait at the queue on a connection of their own: Redis wakes one a message, and no other."""

    def __init__(
        self, redis: "Redis", queue: str, threads: int, read: Callable[[bytes], Work | None], account_share: int = 1
    ) -> None:
        """`redis`: of its own, with replies as bytes. `read`: what a message asks for; it and the work raise nothing.

        An owner holds at most one thread in `account_share`.
        """
        self._redis: Any = redis
        self._queue = queue
        self._read = read
        self._shares = Shares(part(threads, account_share))
        self._numbers = count()
        #: What was put aside, by what it does.
        self._aside: set[Hashable] = set()
        self._end = threading.Event()
        self._is_away = False
        #: The connections that wait, by Redis' names of them.
        self._waiting: set[int] = set()
        self._threads = [
            threading.Thread(target=self._work, name=f"{queue}-{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Take nothing more off the queue, and let what is being served come to its end."""
        self._end.set()
        deadline = time.monotonic() + END_WITHIN
        while time.monotonic() < deadline and any(thread.is_alive() for thread in self._threads):
            with suppress(RedisError):
                # A wait that is ended so has taken no message; one that was hung up on may have.
                for client in [*self._waiting]:
                    self._redis.client_unblock(client)
            time.sleep(LOOK_EVERY)
        self._redis.close()

    def _work(self) -> None:
        connection, client = self._redis.connection_pool.make_connection(), 0
        while not self._end.is_set():
            try:
                client = client or _asked(connection, "CLIENT", "ID")
                message = self._take(connection, client)
            except RedisError as error:
                connection.disconnect()
                client = 0
                self._tell(error)
                self._end.wait(PAUSE)
                continue
            self._is_away = False
            if message is not None and (work := self._read(message)):
                self._serve(work)
        connection.disconnect()

    def _serve(self, work: Work) -> None:
        """Do `work`, and whatever of its owner was put aside meanwhile; or put it aside itself.

        What was taken off the queue is in no other place: it is done, also while the worker ends.
        """
        if work.does in self._aside:
            return
        if work.does is not None:
            self._aside.add(work.does)
        job: Job | None = Job(0, next(self._numbers), work.run, work.does)
        while job is not None and self._shares.take(work.owner, job):
            # From here on another is news again.
            self._aside.discard(job.does)
            try:
                job.run()
            finally:
                job = self._shares.give_back(work.owner)

    def _take(self, connection: Any, client: int) -> bytes | None:
        """The next message, waiting a while for it."""
        self._waiting.add(client)
        try:
            taken = _asked(connection, "BRPOP", self._queue, WAIT)
        finally:
            self._waiting.discard(client)
        return taken[1] if taken else None

    def _tell(self, error: RedisError) -> None:
        if not self._is_away:
            logger.warning("%s: waits for Redis: %s", self._queue, error)
        self._is_away = True


def _asked(connection: Any, *command: Any) -> Any:
    connection.send_command(*command)
    return connection.read_response()


class Direct(bootsteps.StartStopStep):
    """Serves the queue `celeryconfig.direct_queue` names, in the worker that takes from no other."""

    requires = (Pool,)

    def __init__(self, worker: Any, **options: Any) -> None:
        self._line: Line | None = None
        super().__init__(worker, **options)

    def include_if(self, worker: Any) -> bool:
        """Whether this worker is the one."""
        return [*worker.app.amqp.queues.consume_from] == [worker.app.conf.direct_queue]

    def create(self, worker: Any) -> None:
        """Take the queue off Celery's hands."""
        worker.app.amqp.queues.deselect(worker.app.conf.direct_queue)

    def start(self, worker: Any) -> None:
        """Begin to serve."""
        app, queue = worker.app, worker.app.conf.direct_queue
        redis = connect(app.conf.broker_url, text=False)
        ours = partial(read, app.tasks, queue)
        self._line = Line(redis, queue, worker.concurrency, ours, app.conf.account_share)

    def stop(self, worker: Any) -> None:
        """Serve no more."""
        del worker
        if self._line is not None:
            self._line.close()
            self._line = None

    def terminate(self, worker: Any) -> None:
        """Serve no more."""
        self.stop(worker)


def read(tasks: Any, queue: str, raw: bytes) -> Work | None:
    """The task a message asks for; what is no message of this engine is told of, and None. Raises nothing."""
    try:
        asked = intake.check(raw, queue, intake.allowed, orjson.loads)
    except intake.Refused as refusal:
        intake.refuse(queue, refusal, raw)
        return None

    def run() -> None:
        try:
            tasks[asked.task].run(*asked.arguments, **asked.more)
        except Exception:
            logger.exception("a task failed")

    try:
        owner, does = whose(*asked.arguments, **asked.more)
    except Exception:
        logger.exception("whose share a task is on could not be told")
        owner, does = None, None
    return Work(run, owner, does)
