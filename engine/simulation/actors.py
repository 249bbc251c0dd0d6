"""Actors: synchronous code that stops at every I/O boundary until the world resumes, or crashes, it.

One runs at a time; which one is the seed's choice. Built on greenlets: threads cost three times as much.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from greenlet import getcurrent, greenlet

#: A machine whose clock is right.
NO_SKEW = timedelta(0)


class Crash(BaseException):
    """Raised inside an actor where its process is killed; nothing of ours may catch it."""


class Actor:
    """One call of real code, run step by step. Made and stepped by the world, never by another actor."""

    def __init__(self, name: str, call: Callable[[], object], *, works: bool = False) -> None:
        self.name = name
        #: Whether it takes a thread of a worker.
        self.works = works
        #: The boundary it stands at, "" before its first and after its last.
        self.at = ""
        self.done = False
        self.error: BaseException | None = None
        #: How far its machine's clock is off.
        self.skew = NO_SKEW
        #: Until when it waits for an answer that takes its time.
        self.asleep_until: datetime | None = None
        self._call = call
        self._crash = False
        self._greenlet = _idle.pop() if _idle else _new_greenlet()

    def step(self) -> None:
        """Let it run to its next boundary, or to its end."""
        self._greenlet.switch(self._run)

    def crash(self) -> None:
        """Kill it where it stands: what it was about to do does not happen."""
        self._crash = True
        self.step()

    def pause(self, boundary: str) -> None:
        """Called by the actor's own code at a boundary: wait to be resumed."""
        self.at = boundary
        self._greenlet.parent.switch()
        if self._crash:
            raise Crash(boundary)

    def _run(self) -> None:
        try:
            if not self._crash:
                self._call()
        except Crash:
            pass
        except BaseException as error:  # noqa: BLE001 - told to the world, which judges it
            self.error = error
        finally:
            self.done, self.at = True, ""


#: Greenlets without an actor. Making one costs as much as ten switches, so that the next actor gets one that is done.
_idle: list[greenlet] = []


def _new_greenlet() -> greenlet:
    made = greenlet(_run_many)
    made.switch()
    return made


def _run_many() -> None:
    """The life of a greenlet: one actor after another, each handed over by its first step."""
    own = getcurrent()
    while True:
        run = own.parent.switch()
        run()
        # While it waits for the next one it must not keep the last one's world.
        del run
        _idle.append(own)
