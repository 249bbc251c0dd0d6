"""How much waits ahead of a message: in the lists of its queue, and in workers that took more than they can serve.

Workers tell what they hold every moment; what one said a while ago, it has served, or lost with itself.
"""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import orjson
from redis.client import Redis
from redis.exceptions import RedisError

from engine.domain.events import EventType
from engine.ports import Way
from engine.runtime import codec, keys

#: Seconds between two tellings, and how long one counts.
EVERY, COUNTS_FOR = 0.5, timedelta(seconds=3)


class Backlog:
    """The `Backlog` port on Redis."""

    def __init__(self, redis: "Redis", now: Callable[[], datetime], ways: Mapping[EventType, Way]) -> None:
        self._redis: Any = redis
        self._now = now
        self._ways = ways

    def ahead_of(self, kind: EventType) -> int:
        """How many messages a new one of `kind` would wait for; 0 where that cannot be told."""
        way = self._ways[kind]
        try:
            with self._redis.pipeline(transaction=False) as asked:
                for name in way.lists:
                    asked.llen(name)
                asked.hgetall(keys.waiting(way.queue))
                *lengths, told = asked.execute()
        except RedisError:
            return 0
        oldest = codec.to_us(self._now() - COUNTS_FOR)
        held = [orjson.loads(text) for text in told.values()]
        counted = [count for each in held if each["at"] >= oldest for count in each["by_priority"].items()]
        return int(sum(lengths) + sum(count for priority, count in counted if int(priority) <= way.priority))


class Teller:
    """Tells, from a thread of its own, how many messages a worker of `queue` holds, by priority."""

    def __init__(
        self, redis: "Redis", now: Callable[[], datetime], queue: str, worker: str,
        held: Callable[[], Mapping[int, int]],
    ) -> None:  # fmt: skip
        self._redis = redis
        self._now = now
        self._place = keys.waiting(queue), worker
        self._held = held

    def start(self) -> None:
        """Tell from now on."""
        threading.Thread(target=self._go_on, name="backlog", daemon=True).start()

    def tell(self) -> None:
        """Tell once. Raises redis.exceptions.RedisError."""
        by_priority = {str(priority): count for priority, count in self._held().items()}
        name, worker = self._place
        self._redis.hset(name, worker, orjson.dumps({"at": codec.to_us(self._now()), "by_priority": by_priority}))

    def _go_on(self) -> None:
        while True:
            # Without it a nudge more is sent.
            with suppress(RedisError):
                self.tell()
            time.sleep(EVERY)
