"""What every process shares: a sign of life, a stop on SIGTERM, and patience while the store is closed."""

import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import TypeVar

from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from engine.bootstrap import Parts
from engine.ports import StoreClosed
from engine.runtime import keys

#: How long a sign of life lasts, seconds.
LIFE = 15
#: How long to wait before trying again where Redis, PostgreSQL or the store is away, seconds.
PATIENCE = 0.2
#: Seconds between two attempts of what a process needs before it can begin.
AWAITED_EVERY = 1.0
#: What says that one of them is away: whatever a server refuses with is waited for as if it were not there.
AWAY = (StoreClosed, RedisError, SQLAlchemyError)


T = TypeVar("T")


class Stop:
    """Set by SIGTERM or SIGINT; the loops look at it."""

    def __init__(self) -> None:
        self._event = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._event.set()

    def __bool__(self) -> bool:
        return self._event.is_set()

    def wait(self, seconds: float) -> None:
        """Sleep, but no longer than until the stop."""
        self._event.wait(seconds)


def repeat(shared: Parts, name: str, step: Callable[[], float], stop: Stop) -> None:
    """Call `step` until stopped, pausing the seconds it returns; what is away is waited for and logged once."""
    away, next_sign = "", 0.0
    while not stop:
        try:
            if time.monotonic() >= next_sign:
                show_life(shared, name)
                next_sign = time.monotonic() + LIFE / 3
            pause = step()
            away = ""
        except AWAY as error:
            if away != type(error).__name__:
                shared.log("waits", reason=first_line(error))
            away, pause = type(error).__name__, PATIENCE
        stop.wait(pause)


def awaited(shared: Parts, call: Callable[[], T], stop: Stop) -> T:
    """What `call` returns once nothing it needs is away. Raises SystemExit where the stop came first."""
    while not stop:
        try:
            return call()
        except AWAY as error:
            shared.log("waits", reason=first_line(error))
            stop.wait(AWAITED_EVERY)
    raise SystemExit(0)


def first_line(error: Exception) -> str:
    """What an error says, without what a driver adds below."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def show_life(shared: Parts, name: str) -> None:
    """Leave a sign of life that lasts a while; where Redis does not take it there is none."""
    with suppress(RedisError):
        shared.redis.set(keys.process(name), str(shared.real.now().timestamp()), ex=LIFE)
