"""Actors: synchronous code that stops at every I/O boundary until the world resumes, or crashes, it.

One runs at a time; which one is the seed's choice. Built on threads handing over one baton.
"""

import threading
from collections.abc import Callable


class Crash(BaseException):
    """Raised inside an actor where its process is killed; nothing of ours may catch it."""


class Actor:
    """One call of real code, run step by step."""

    def __init__(self, name: str, call: Callable[[], object]) -> None:
        self.name = name
        #: The boundary it stands at, "" before its first and after its last.
        self.at = ""
        self.done = False
        self.error: BaseException | None = None
        self._call = call
        self._crash = False
        # Two locks, both taken: whoever releases one hands the baton over. Semaphores cost four times as much.
        self._go, self._stopped = threading.Lock(), threading.Lock()
        self._go.acquire()
        self._stopped.acquire()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def step(self) -> None:
        """Let it run to its next boundary, or to its end."""
        self._go.release()
        self._stopped.acquire()

    def crash(self) -> None:
        """Kill it where it stands: what it was about to do does not happen."""
        self._crash = True
        self.step()

    def pause(self, boundary: str) -> None:
        """Called by the actor's own code at a boundary: wait to be resumed."""
        self.at = boundary
        self._stopped.release()
        self._go.acquire()
        if self._crash:
            raise Crash(boundary)

    def _run(self) -> None:
        self._go.acquire()
        try:
            if not self._crash:
                self._call()
        except Crash:
            pass
        except BaseException as error:  # noqa: BLE001 - told to the world, which judges it
            self.error = error
        finally:
            self.done, self.at = True, ""
            self._stopped.release()
