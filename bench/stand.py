"""A stand to measure on: a Valkey of its own, and the processes a measurement asks for."""

import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from redis.client import Redis

from engine.runtime.connect import connect
from engine.stack import procfile
from engine.stack.child import Child
from engine.stack.valkey import EmbeddedValkey

ROOT = Path(__file__).parents[1]
#: Any key will do: what it seals lives as long as the stand.
SECRET_KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
#: Seconds a process may take to be ready, and to end once asked.
READY_WITHIN, STOP_WITHIN = 30.0, 15.0


@dataclass
class Stand:
    """A running server, and what was started beside it."""

    url: str
    directory: Path
    redis: Redis
    _children: list[Child] = field(default_factory=list)

    def start(self, name: str, argv: Sequence[str], ready: str = "", **environment: str) -> Child:
        """Start a process and wait for `ready` in what it writes; raises TimeoutError with its log."""
        log = self.directory / f"{name}.log"
        own = {"REDIS_URL": self.url, "ENGINE_SECRET_KEY": SECRET_KEY, "PYTHONPATH": str(ROOT), "ENGINE_PROCESS": name}
        child = Child(argv, log, env=procfile.with_tools_on_path(os.environ | own | environment))
        child.start()
        self._children.append(child)
        wait(lambda: ready in log.read_text(), READY_WITHIN, f"{name} is not ready, see {log}")
        return child

    def start_from_procfile(self, name: str, ready: str = "") -> Child:
        """Start a process as the Procfile has it."""
        (found,) = [process for process in procfile.read(ROOT / "Procfile") if process.name == name]
        return self.start(name, found.argv, ready)

    def end(self, *children: Child) -> None:
        """Ask these, or all, to end, and wait for it."""
        for child in children or self._children:
            child.stop(signal.SIGTERM, timeout=STOP_WITHIN)


@contextmanager
def stand() -> Iterator[Stand]:
    """A stand with an empty server; everything ends with it."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        server = EmbeddedValkey(Path(name) / "valkey")
        server.start()
        redis = connect(server.url)
        built = Stand(server.url, Path(name), redis)
        try:
            yield built
        finally:
            built.end()
            redis.close()
            server.stop()


def wait(until: Callable[[], bool], seconds: float, otherwise: str, *, every: float = 0.02) -> None:
    """Look at `until` every so many seconds until it holds; raises TimeoutError saying `otherwise`."""
    deadline = time.monotonic() + seconds
    while not until():
        if time.monotonic() > deadline:
            raise TimeoutError(otherwise)
        time.sleep(every)


def sleep_until(at: datetime) -> None:
    """Sleep until the wall says `at`."""
    time.sleep(max(0.0, (at - datetime.now(UTC)).total_seconds()))
