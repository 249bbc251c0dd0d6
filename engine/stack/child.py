"""A child process that dies with us, in a session of its own so that Ctrl-C reaches only us.

It knows processes and log files, not what runs in them.
"""

import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from engine.stack import leash


@dataclass(frozen=True)
class Identity:
    """Who runs a child: a command prefix, or another user and group (only root can choose these)."""

    prefix: Sequence[str] = ()
    user: int | None = None
    group: int | None = None

    def run(self, argv: Sequence[str], *, timeout: float) -> subprocess.CompletedProcess[str]:
        """Run a short command to its end, both outputs together in stdout."""
        return subprocess.run(
            [*self.prefix, *argv],
            cwd="/",
            user=self.user,
            group=self.group,
            extra_groups=None if self.user is None else [],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )


@dataclass
class Child:
    """One leashed process. `start`, `stop` and `kill` may be called again and again, from the main thread."""

    argv: Sequence[str]
    log: Path
    identity: Identity = field(default_factory=Identity)
    env: Mapping[str, str] | None = None
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("start children from the main thread: they die with the thread that starts them")
        who = self.identity
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                # The leash goes last: a change of user or of namespace may take it off.
                [*who.prefix, *leash.command(self.argv, parent=str(os.getpid()))],
                cwd="/",
                env=self.env,
                user=who.user,
                group=who.group,
                extra_groups=None if who.user is None else [],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process is not None and self.alive() else None

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self, stop_signal: signal.Signals, *, timeout: float) -> None:
        """Ask it to end, wait `timeout` seconds, then kill its process group."""
        if self._process is None:
            return
        if self.alive():
            self._process.send_signal(stop_signal)
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
        self._process = None

    def kill(self) -> None:
        """End it and its process group at once, with SIGKILL."""
        if self._process is not None and self.alive():
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def last_words(self, marker: str = "") -> str:
        """The last line of its log, if possible one with `marker` in it, for an error message."""
        try:
            text = self.log.read_text(errors="replace")
        except OSError:
            return ""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return next((line for line in reversed(lines) if marker in line), lines[-1] if lines else "")
