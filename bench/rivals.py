"""What is measured beside the engine: how each is started and published to. What they do is `bench.peer`."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from bench.sink import Sink
from bench.stand import ROOT, SECRET_KEY, Stand
from engine.stack.child import Child

#: The peers' own environment, see the Makefile.
PROGRAMS = ROOT / ".venv-bench" / "bin"
NOT_INSTALLED = "not installed: `make bench` installs requirements-bench.lock into .venv-bench, where there are wheels"
THREADS = "32"
#: Seconds.
PUBLISHED_WITHIN = 120
CELERY = "bench worker ready"
#: Fields of a run as a peer claims it: as many as the engine's have.
FIELDS = {f"field_{number}": "1795418413305064" for number in range(18)}


@dataclass(frozen=True)
class Rival:
    """One way to serve events: what publishes them, what serves them, and what that says when it is ready."""

    publisher: str
    argv: tuple[str, ...] = ()
    ready: str = ""
    #: Whether it lives in the peers' environment.
    is_foreign: bool = False

    @property
    def is_installed(self) -> bool:
        """Whether its programs are there."""
        return not self.is_foreign or (PROGRAMS / self.argv[0]).exists()

    def start(self, at: Stand, orders: Sink) -> Child:
        """Start what serves."""
        program = str(PROGRAMS / self.argv[0]) if self.is_foreign else self.argv[0]
        return at.start("worker", (program, *self.argv[1:]), ready=self.ready, BENCH_SINK=orders.base_url)

    def publish(self, at: Stand, runs: Sequence[str], pause: float) -> list[int]:
        """Publish an event for each run; when, ns since the epoch."""
        return told(self.publishing(at, runs, pause))

    def publishing(self, at: Stand, runs: Sequence[str], pause: float) -> "subprocess.Popen[str]":
        """A process that publishes an event for each run."""
        python = str(PROGRAMS / "python") if self.is_foreign else sys.executable
        return subprocess.Popen(
            [python, "-m", "bench.peer.publish", self.publisher, str(pause), *runs],
            env=_environment(at.url), stdout=subprocess.PIPE, text=True,
        )  # fmt: skip


def told(publishing: "subprocess.Popen[str]") -> list[int]:
    """When each event was published, once all are."""
    said, _ = publishing.communicate(timeout=PUBLISHED_WITHIN)
    assert publishing.returncode == 0, f"publishing ended with {publishing.returncode}"
    return [int(moment) for moment in json.loads(said)]


def _environment(url: str) -> dict[str, str]:
    return os.environ | {"REDIS_URL": url, "PYTHONPATH": str(ROOT), "ENGINE_SECRET_KEY": SECRET_KEY}


def _celery(app: str, queue: str, *options: str) -> tuple[str, ...]:
    module = f"bench.peer.celeries:{app}"
    return ("celery", "-A", module, "worker", "-Q", queue, "--pool", "threads", "-c", THREADS, *options)


#: The engine itself is published to like the others, and started from the Procfile.
ENGINE = Rival("engine")
RIVALS = {
    "lane": Rival("lane", _celery("lane", "orders", "--without-gossip", "--without-mingle"), CELERY),
    "loop_1ms": Rival("loop", ("python", "-m", "bench.peer.loop", "0.001"), "loop ready"),
    "loop_5ms": Rival("loop", ("python", "-m", "bench.peer.loop", "0.005"), "loop ready"),
    "celery": Rival("stock", _celery("stock", "stock"), CELERY),
    "huey": Rival(
        "huey", ("huey_consumer", "bench.peer.hueys.huey", "-k", "thread", "-w", THREADS), "commands", is_foreign=True
    ),
}

_numbers = count(1)


def runs_of_rivals(at: Stand, number: int) -> list[str]:
    """Names of so many runs no one has served yet, each with its fields in Redis."""
    redis: Any = at.redis
    names = [f"{next(_numbers)}-20260105-1" for _ in range(number)]
    with redis.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.hset(f"peer:run:{name}", mapping=FIELDS)
        pipe.execute()
    return names


def start_nautilus(at: Stand, orders: Sink, stops: int, pause: float) -> Child:
    """A process with so many emulated stops, which breaches one every `pause` seconds; 0: all by one tick."""
    python = str(PROGRAMS / "python")
    command = (python, "-m", "bench.peer.nautilus", str(stops), str(pause))
    return at.start(f"nautilus-{next(_numbers)}", command, ready="armed", BENCH_SINK=orders.base_url)
