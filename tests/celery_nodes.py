"""Celery workers and Redis as pytest-celery's nodes, on plain processes: its containers without Docker.

Each container class keeps pytest-celery's interface and hands everything to a process or to a server of ours.
"""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
from pytest_celery import CeleryTestContainer, CeleryTestWorker

from engine.stack import leash, procfile
from engine.stack.valkey import EmbeddedValkey
from tasks.app import app_at
from tests.processes import all_gone, family

ROOT = Path(__file__).parents[1]
#: Seconds a process may take to be ready, and to end once asked.
READY_WITHIN, STOP_WITHIN = 30.0, 15.0


def command_of(name: str) -> tuple[str, ...]:
    """The command of a process of the Procfile."""
    (found,) = [process for process in procfile.read(ROOT / "Procfile") if process.name == name]
    return found.argv


class ProcessContainer(CeleryTestContainer):  # type: ignore[misc]
    """A "container" that is one process, with everything it wrote since its first start."""

    def __init__(
        self, name: str, argv: Sequence[str], environment: Mapping[str, str], log: Path, ready: str = ""
    ) -> None:
        # Not the base class's: that wants a Docker container.
        self._name, self._argv, self._log, self._ready = name, tuple(argv), log, ready
        self._environment = procfile.with_tools_on_path(os.environ | environment)
        self._process: subprocess.Popen[bytes] | None = None
        #: Where in the log the newest start begins, bytes.
        self._from = 0

    @property
    def celeryconfig(self) -> dict[str, Any]:
        return {"url": self._environment["REDIS_URL"], "host_url": self._environment["REDIS_URL"]}

    @property
    def id(self) -> str:
        return f"{self._name}-{os.getpid()}"

    @property
    def name(self) -> str:
        return self._name

    @property
    def pid(self) -> int:
        """The process id of the newest start."""
        assert self._process is not None
        return self._process.pid

    @property
    def status(self) -> str:
        return "running" if self._process is not None and self._process.poll() is None else "exited"

    @property
    def ready_prompt(self) -> str | None:
        return self._ready or None

    def start(self) -> None:
        """Start it; it dies with this process."""
        self._from = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                leash.command(self._argv, parent=str(os.getpid())),
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def logs(self) -> str:
        return self._log.read_text(encoding="utf-8") if self._log.exists() else ""

    def reload(self) -> None:
        """A process has no attributes to read again."""

    def ready(self) -> bool:
        """Wait until the newest start says so; raises AssertionError with its log where it does not."""
        deadline = time.monotonic() + READY_WITHIN
        while self._ready not in self.logs()[self._from :]:
            assert self.status == "running", f"{self._name} ended:\n{self.logs()}"
            assert time.monotonic() < deadline, f"{self._name} is not ready:\n{self.logs()}"
            time.sleep(0.05)
        return True

    def kill(self, signal: str | int | None = None) -> None:
        """Send the whole process group `signal` and wait for its end."""
        assert self._process is not None
        pids = family(self.pid)
        os.killpg(self.pid, _number(signal or "SIGKILL"))
        self._process.wait(STOP_WITHIN)
        assert all_gone(pids)

    def restart(self, timeout: int = 10) -> None:
        if self.status == "running":
            self.kill("SIGTERM")
        self.start()
        self.ready()

    def ask_to_end(self) -> None:
        """Let it begin to end, so that several end together."""
        if self.status == "running":
            os.killpg(self.pid, signal.SIGTERM)

    def teardown(self) -> None:
        if self._process is not None and self.status == "running":
            self.ask_to_end()
            try:
                self._process.wait(STOP_WITHIN)
            except subprocess.TimeoutExpired:
                os.killpg(self.pid, signal.SIGKILL)
                self._process.wait(STOP_WITHIN)


class WorkerContainer(ProcessContainer):
    """A worker of the Procfile: its very command."""

    def __init__(self, process: str, environment: Mapping[str, str], log: Path, *options: str) -> None:
        self.argv = (*command_of(process), *options)
        self._worker = process.removeprefix("worker-")
        super().__init__(process, self.argv, environment, log)

    def ready(self) -> bool:
        """Wait until it answers to its name."""
        deadline = time.monotonic() + READY_WITHIN
        while not self._answers():
            assert self.status == "running", f"{self.name} ended:\n{self.logs()}"
            assert time.monotonic() < deadline, f"{self.name} is not ready:\n{self.logs()}"
        return True

    def worker_name(self) -> str:
        return self._worker

    def worker_queue(self) -> str:
        return self.argv[self.argv.index("-Q") + 1]

    def log_level(self) -> str:
        return "INFO"

    def version(self) -> str:
        return "installed"

    def _answers(self) -> bool:
        app = app_at(self._environment["REDIS_URL"])
        # A connection of its own: kombu's pools may hold one to a server that was killed since.
        with app.connection_for_write() as connection:
            name = f"{self._worker}@{socket.gethostname()}"
            return bool(app.control.ping(destination=[name], timeout=0.5, connection=connection))


class WorkerNode(CeleryTestWorker):  # type: ignore[misc]
    """A worker whose processes are looked at directly, and whose log lines are JSON."""

    def lines(self, action: str) -> list[dict[str, Any]]:
        """Its log lines of one action. Celery's banner is no JSON; a line that begins as JSON must be."""
        parsed = [json.loads(line) for line in self.logs().splitlines() if line.startswith("{")]
        return [line for line in parsed if line["action"] == action]

    def served(self, event_id: str) -> list[dict[str, Any]]:
        """Its log lines about one served event."""
        return [line for line in self.lines("event_served") if line["id"] == event_id]

    def get_running_processes_info(
        self, columns: list[str] | None = None, filters: dict[str, str] | None = None
    ) -> list[dict[str, Any]]:
        rows = [psutil.Process(pid).as_dict(columns) for pid in family(self.container.pid)]
        return [row for row in rows if all(row.get(name) == value for name, value in (filters or {}).items())]


class RedisContainer(CeleryTestContainer):  # type: ignore[misc]
    """The queue's server as a "container": an embedded Valkey or Redis, killed and brought back at its URL."""

    def __init__(self, server: EmbeddedValkey) -> None:
        self.server = server

    @property
    def celeryconfig(self) -> dict[str, Any]:
        return {"url": self.server.url, "host_url": self.server.url}

    @property
    def id(self) -> str:
        return f"redis-{self.server.pid}"

    @property
    def name(self) -> str:
        return "redis"

    @property
    def status(self) -> str:
        return "running" if self.server.alive() else "exited"

    def logs(self) -> str:
        return (self.server.data_dir / "server.log").read_text(encoding="utf-8")

    def reload(self) -> None:
        """A process has no attributes to read again."""

    def ready(self) -> bool:
        return self.server.alive()

    def kill(self, signal: str | int | None = None) -> None:
        """End it as a crash would, whatever the signal."""
        self.server.kill()

    def restart(self, timeout: int = 10) -> None:
        self.server.kill()
        self.server.start()

    def teardown(self) -> None:
        self.server.stop()


def _number(name: str | int) -> signal.Signals:
    return signal.Signals[name] if isinstance(name, str) else signal.Signals(name)
