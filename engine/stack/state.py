"""The state directory of one engine: its lock, its addresses, its key. It must not know what else is kept there."""

import fcntl
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from cryptography.fernet import Fernet

from engine.stack.problems import EnvironmentProblem

#: Seconds to wait for the lock: whoever only looks whether an engine runs holds it for an instant.
LOCK_TIMEOUT = 1.0


@dataclass(frozen=True)
class Running:
    """Where a running engine's servers are, the process that runs them, and by which calendar it lives."""

    pid: int
    redis_url: str
    database_url: str
    paper_url: str | None = None
    calendar: str = "exchange"


class StateDir:
    """A directory only its owner can enter, made on first use. Raises EnvironmentProblem where it cannot be."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = (path or default_path()).expanduser().absolute()
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            # The search bits may stay: as root, PostgreSQL can have to run as another user inside.
            self.path.chmod(self.path.stat().st_mode & 0o711)
        except OSError as error:
            raise EnvironmentProblem(
                f"cannot use the state directory {self.path} ({error.strerror}): set ENGINE_STATE_DIR to another"
            ) from error

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep every other engine out of the directory. Raises EnvironmentProblem if one is in."""
        with self._lock_file() as descriptor:
            if not _acquire(descriptor, fcntl.LOCK_EX, timeout=LOCK_TIMEOUT):
                raise EnvironmentProblem(
                    f"an engine already runs in {self.path}: stop it, or set ENGINE_STATE_DIR to another directory"
                )
            self._urls.unlink(missing_ok=True)
            try:
                yield
            finally:
                self._urls.unlink(missing_ok=True)

    def write_running(self, running: Running) -> None:
        """Tell other processes where the servers are; for the holder of the lock."""
        _write_private(self._urls, json.dumps(asdict(running)).encode())

    def read_running(self) -> Running | None:
        """The engine that runs in this directory now, or None: a file a dead engine left behind does not count."""
        with self._lock_file() as descriptor:
            if _acquire(descriptor, fcntl.LOCK_SH, timeout=0):
                return None
        try:
            return Running(**json.loads(self._urls.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def secret_key(self) -> bytes:
        """The Fernet key that encrypts broker tokens, made on first use and the same ever after."""
        path = self.path / "secret.key"
        if not path.exists():
            # A link, unlike a rename, fails if another process was first.
            with suppress(FileExistsError):
                _write_private(path, Fernet.generate_key(), replace=False)
        key = path.read_bytes()
        try:
            Fernet(key)
        except ValueError as error:
            raise EnvironmentProblem(f"{path} is not a Fernet key: restore it from a backup") from error
        return key

    def folder(self, name: str) -> Path:
        """A subdirectory, made if missing."""
        path = self.path / name
        path.mkdir(mode=0o700, exist_ok=True)
        return path

    @property
    def _urls(self) -> Path:
        return self.path / "urls.json"

    @contextmanager
    def _lock_file(self) -> Iterator[int]:
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def default_path() -> Path:
    """`ENGINE_STATE_DIR`, else `execution-engine` in the user's state directory (XDG)."""
    chosen = os.environ.get("ENGINE_STATE_DIR")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base) / "execution-engine"


def _acquire(descriptor: int, mode: int, *, timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while True:
        try:
            fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)
        else:
            return True


def _write_private(path: Path, content: bytes, *, replace: bool = True) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            os.replace(name, path)
        else:
            os.link(name, path)
    finally:
        Path(name).unlink(missing_ok=True)
