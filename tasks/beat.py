"""Beat's scheduler: RedBeat's, of which several may run. One fires, by a lock a thread of its own renews.

RedBeat renews its lock between two ticks, so that a long tick loses it and ends beat; here the others wait, look and
take over, and whoever was paused past the lock steps down and stands by again.
"""

import threading
import time
from contextlib import suppress
from functools import cached_property
from typing import Any

from celery.signals import beat_init
from celery.utils.log import get_logger
from redbeat.schedulers import RedBeatScheduler, RedBeatSchedulerEntry, get_redis
from redis.client import Redis
from redis.exceptions import LockError, RedisError

from engine import bootstrap
from engine.schedule import FIRE_BUCKET, fire

logger = get_logger(__name__)

#: How long the lock outlives its holder, and how often it is renewed or tried for, seconds.
LASTS, EVERY = 3.0, 0.5


class Leadership:
    """Whether this process is the one that fires. It never believes so longer than the lock lasts."""

    def __init__(self, redis: Redis, name: str) -> None:
        self._lock = redis.lock(name, timeout=LASTS, blocking=False, thread_local=False)
        self._until = 0.0
        #: What was last said of it.
        self._leads = False
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="leadership", daemon=True)
        self._thread.start()

    @property
    def is_held(self) -> bool:
        """Whether the lock is ours right now."""
        return _passed() < self._until

    def release(self) -> None:
        """Let another take over at once."""
        self._end.set()
        self._thread.join()
        # It may be another's by now, or gone with its Redis.
        with suppress(LockError, RedisError):
            self._lock.release()

    def _keep(self) -> None:
        while not self._end.is_set():
            asked = _passed()
            leads = self._renewed()
            self._until = asked + LASTS if leads else 0.0
            if leads != self._leads:
                logger.warning("beat: %s", "leads" if leads else "stands by")
            self._leads = leads
            self._end.wait(EVERY)

    def _renewed(self) -> bool:
        try:
            return bool(self._lock.reacquire() if self.is_held else self._lock.acquire())
        except (LockError, RedisError):
            return False


def _passed() -> float:
    """Seconds of a clock that neither a jump of the wall nor a suspend moves."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Beat(RedBeatScheduler):  # type: ignore[misc]
    """RedBeat that fires whole buckets, and only while it leads."""

    def __init__(self, app: Any, **options: Any) -> None:
        shared = bootstrap.beat()
        # A jump of the wall clock moves no timer.
        app.now = shared.parts.real.now
        super().__init__(app, **options)
        self._buckets = shared.buckets

    @cached_property
    def _leadership(self) -> Leadership:
        # At the first tick: Celery makes a scheduler only to show its settings, too.
        return Leadership(get_redis(self.app), f"{self.app.redbeat_conf.key_prefix}:leader")

    def tick(self, **options: Any) -> float:
        """Fire what is due; returns the seconds until the next look."""
        if not self._leadership.is_held:
            return float(self.max_interval)
        try:
            return float(super().tick(**options))
        except RedisError as error:
            logger.warning("beat: waits for Redis: %s", error)
            return float(self.max_interval)

    def apply_async(self, entry: RedBeatSchedulerEntry, *arguments: Any, **options: Any) -> Any:
        """Publish what `entry` stands for."""
        if entry.task != FIRE_BUCKET:
            return super().apply_async(entry, *arguments, **options)
        (bucket,) = entry.args
        fired = fire(self._buckets, bucket)
        # RedBeat keeps an entry that is over for ever.
        entry.delete()
        logger.info("beat: fired bucket %s of %s trades", bucket, fired)
        return None

    def close(self) -> None:
        """Let another lead."""
        self._leadership.release()
        super().close()


@beat_init.connect
def _ready(**_: object) -> None:
    bootstrap.beat().announce()
