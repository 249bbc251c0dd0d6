"""Keeps a list of processes running through supervisord: what exits or is killed starts again.

It must not know what the processes do.
"""

import contextlib
import http.client
import os
import pwd
import secrets
import shlex
import signal
import sys
import xmlrpc.client
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from supervisor.xmlrpc import SupervisorTransport

from engine.stack import leash
from engine.stack.child import Child
from engine.stack.procfile import NAME_VARIABLE, Process, with_tools_on_path
from engine.stack.sockets import SocketDir

#: Seconds a process must live for its start to count; each start that does not delays the next by a second more.
START_SECONDS = 1

#: Starts before supervisord gives a process up: never, in practice.
START_RETRIES = 1_000_000

#: Seconds a process has to end by itself before it is killed.
STOP_SECONDS = 10

#: Seconds supervisord has to write down that everything has ended.
OWN_STOP_SECONDS = 5

#: Bytes of one log file, and how many older ones are kept beside it.
LOG_BYTES = 10_000_000
LOG_BACKUPS = 3

SOCKET_NAME = "supervisor.sock"

#: supervisord binds to the name plus its process id first.
SOCKET_SUFFIX = ".9999999"


class Supervisor:
    """Runs `processes` with `env`; each writes both outputs to `log_dir/<name>.log`."""

    def __init__(self, processes: Sequence[Process], env: Mapping[str, str], log_dir: Path) -> None:
        self._processes = list(processes)
        self._env = with_tools_on_path(env)
        self._log_dir = log_dir.absolute()
        self._directory = Path.cwd()
        self._password = secrets.token_urlsafe(24)
        self._sockets: SocketDir | None = None
        self._child: Child | None = None

    @property
    def pid(self) -> int | None:
        """supervisord's own process id while it runs."""
        return self._child.pid if self._child is not None else None

    def alive(self) -> bool:
        return self._child is not None and self._child.alive()

    def start(self) -> None:
        """Start supervisord; its processes follow within moments, as `states` tells."""
        if self.alive():
            return
        self._log_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._sockets is None:
            self._sockets = SocketDir(self._log_dir / "supervisor", SOCKET_NAME + SOCKET_SUFFIX)
        config = self._write_config()
        argv = [sys.executable, "-m", "supervisor.supervisord", "-n", "-c", str(config)]
        self._child = Child(argv, self._log_dir / "supervisor.out", env=self._env)
        self._child.start()

    def states(self) -> dict[str, tuple[str, int | None]]:
        """Each process's state (RUNNING, STARTING, BACKOFF, ... as supervisord names them) and id while it has one."""
        found: dict[str, tuple[str, int | None]] = {process.name: ("STOPPED", None) for process in self._processes}
        if not self.alive() or self._sockets is None:
            return found
        # Not answering yet, or not any more, is a state too.
        with contextlib.suppress(OSError, http.client.HTTPException, xmlrpc.client.Error):
            for row in self._ask():
                found[str(row["name"])] = (str(row["statename"]), int(row["pid"]) or None)
        return found

    def stop(self) -> None:
        """End every process in good order, and kill what does not end."""
        if self._child is not None:
            self._child.stop(signal.SIGTERM, timeout=STOP_SECONDS + OWN_STOP_SECONDS)
            self._child = None
        if self._sockets is not None:
            self._sockets.remove()
            self._sockets = None

    def _ask(self) -> list[dict[str, Any]]:
        transport = SupervisorTransport("engine", self._password, f"unix://{self._socket}")
        try:
            rows: Any = xmlrpc.client.ServerProxy("http://localhost", transport).supervisor.getAllProcessInfo()
        finally:
            transport.close()
        return list(rows)

    @property
    def _socket(self) -> Path:
        if self._sockets is None:
            raise RuntimeError("the supervisor has not been started")
        return self._sockets.path / SOCKET_NAME

    def _write_config(self) -> Path:
        access = {"username": "engine", "password": self._password}
        sections: dict[str, Mapping[str, object]] = {
            "supervisord": self._daemon_section(),
            "unix_http_server": {"file": _literal(str(self._socket)), "chmod": "0700", **access},
            "rpcinterface:supervisor": {
                "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
            },
            # One group: supervisord stops groups one after the other, and what is in a group at once.
            "group:engine": {"programs": ",".join(process.name for process in self._processes)},
        }
        for priority, process in enumerate(self._processes, start=1):
            sections[f"program:{process.name}"] = self._program_section(process, priority)
        lines = [
            line
            for name, settings in sections.items()
            for line in (f"[{name}]", *(f"{key} = {value}" for key, value in settings.items()), "")
        ]
        path = self._log_dir / "supervisor.conf"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write("\n".join(lines))
        return path

    def _daemon_section(self) -> dict[str, object]:
        logs = _literal(str(self._log_dir))
        section: dict[str, object] = {
            "nodaemon": "true",
            "silent": "true",
            "directory": _literal(str(self._directory)),
            "logfile": f"{logs}/supervisor.log",
            "logfile_maxbytes": LOG_BYTES,
            "logfile_backups": LOG_BACKUPS,
            "pidfile": f"{logs}/supervisor.pid",
            "childlogdir": logs,
        }
        if os.geteuid() == 0:
            # To say so keeps supervisord from warning that nobody did.
            section["user"] = pwd.getpwuid(0).pw_name
        return section

    def _program_section(self, process: Process, priority: int) -> dict[str, object]:
        # The parent must be supervisord, whose id only its own environment knows.
        parent = f"%(ENV_{leash.PID_VARIABLE})s"
        argv = leash.command([_literal(word) for word in process.argv], parent=parent)
        return {
            "command": shlex.join(argv).replace(f"'{parent}'", parent),
            "environment": f'{NAME_VARIABLE}="{process.name}"',
            "priority": priority,
            "autorestart": "true",
            "startsecs": START_SECONDS,
            "startretries": START_RETRIES,
            "stopwaitsecs": STOP_SECONDS,
            # A worker tells its own children when to end: a signal from us would cut an order short.
            "stopasgroup": "false",
            "killasgroup": "true",
            "redirect_stderr": "true",
            "stdout_logfile": _literal(str(self._log_dir / f"{process.name}.log")),
            "stdout_logfile_maxbytes": LOG_BYTES,
            "stdout_logfile_backups": LOG_BACKUPS,
        }


def _literal(text: str) -> str:
    """Text in which supervisord expands nothing."""
    return text.replace("%", "%%")
