"""The direct line: threads that wait at a queue themselves, for the one event whose every millisecond counts.

A worker bootstep, Celery's own hook. A message on Celery's way passes its event loop, its transport and a pool's
queue before a thread runs the task; here the thread that takes it off the queue runs it. The messages, the tasks and
the gate are the same, so a worker without this step serves them, too. What is left out: priorities and instants,
which a wake-up of a breach has none of, and all that `tasks.lane` leaves out. docs/performance.md tells what it saves.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import orjson
from celery import bootsteps
from celery.utils.log import get_logger
from celery.worker.components import Pool
from redis.client import Redis
from redis.exceptions import RedisError

from engine.runtime.connect import SOCKET_TIMEOUT, connect
from tasks import intake

logger = get_logger(__name__)

#: Seconds one wait at the queue lasts: less than a command may take.
WAIT = 3
assert WAIT < SOCKET_TIMEOUT
#: Seconds between two attempts to reach Redis.
PAUSE = 0.5
#: Seconds tasks that run may still take when the worker is asked to end, and between two looks at them.
END_WITHIN, LOOK_EVERY = 15.0, 0.05


class Line:
    """Threads that each wait at the queue on a connection of their own: Redis wakes one a message, and no other."""

    def __init__(self, redis: "Redis", queue: str, threads: int, serve: Callable[[bytes], object]) -> None:
        """`redis`: of its own, with replies as bytes."""
        self._redis: Any = redis
        self._queue = queue
        self._serve = serve
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
            if message is not None:
                self._serve(message)
        connection.disconnect()

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
        self._line = Line(redis, queue, worker.concurrency, lambda raw: serve(app.tasks, queue, raw))

    def stop(self, worker: Any) -> None:
        """Serve no more."""
        del worker
        if self._line is not None:
            self._line.close()
            self._line = None

    def terminate(self, worker: Any) -> None:
        """Serve no more."""
        self.stop(worker)


def serve(tasks: Any, queue: str, raw: bytes) -> None:
    """Run the task a message asks for; what is no message of this engine is told of. Raises nothing."""
    try:
        asked = intake.check(raw, queue, intake.allowed, orjson.loads)
    except intake.Refused as refusal:
        intake.refuse(queue, refusal, raw)
        return
    try:
        tasks[asked.task].run(*asked.arguments, **asked.more)
    except Exception:
        logger.exception("a task failed")
