"""The epoch: proof that the Redis at hand is the one the recoverer opened, and not a lost or swapped one.

`engine:epoch` is "n:redis-run-id". Every new connection compares the server's run id with it.
"""

import threading
from typing import Any

from redis.client import Redis
from redis.exceptions import RedisError

from engine.ports import StoreClosed
from engine.runtime import keys


class ServerChangedError(RedisError):
    """Raised by a new connection that reached another server, or the same one after a restart."""


class EpochGuard:
    """What epoch this process works under. It looks at every new connection of the client it guards."""

    def __init__(self, redis: "Redis") -> None:
        self._redis = redis
        self._lock = threading.Lock()
        self._epoch: str | None = None
        redis.connection_pool.connection_kwargs["redis_connect_func"] = self._on_connect
        # Connections from before the guard were looked at by nobody.
        redis.connection_pool.disconnect()

    def _on_connect(self, connection: Any) -> None:
        connection.on_connect()
        epoch = self._epoch
        if epoch is None:
            return
        connection.send_command("INFO", "server")
        told = str(connection.read_response())
        if f"run_id:{epoch.split(':')[1]}" not in told:
            self._epoch = None
            raise ServerChangedError("Redis was restarted or swapped since its epoch was read")

    def current(self) -> str:
        """The epoch of this Redis; StoreClosed where it has none or another server's."""
        epoch = self._epoch
        if epoch is None:
            with self._lock:
                epoch = self._epoch = self._read()
        return epoch

    def forget(self) -> None:
        """Ask again before the next script: we were refused, or the connection is a new one."""
        self._epoch = None

    def open(self, n: int) -> str:
        """Declare this Redis open under epoch `n`; only the recoverer may."""
        epoch = f"{n}:{self.run_id()}"
        self._redis.set(keys.EPOCH, epoch)
        self._epoch = epoch
        return epoch

    def stored(self) -> tuple[int, str] | None:
        """The (n, run id) Redis holds; None where it holds none."""
        text = self._redis.get(keys.EPOCH)
        if not isinstance(text, str) or ":" not in text:
            return None
        n, run_id = text.split(":", 1)
        return (int(n), run_id) if n.isdecimal() else None

    def is_open(self) -> bool:
        """Whether this Redis holds an epoch of its own run."""
        stored = self.stored()
        return stored is not None and stored[1] == self.run_id()

    def run_id(self) -> str:
        """This server's own run id, new at each of its starts."""
        info = self._redis.info("server")
        return str(info["run_id"])

    def _read(self) -> str:
        try:
            stored, run_id = self.stored(), self.run_id()
        except RedisError as error:
            raise StoreClosed(f"Redis does not answer: {error}") from error
        if stored is None:
            raise StoreClosed("Redis holds no epoch: the recoverer has not opened it yet")
        if stored[1] != run_id:
            raise StoreClosed("Redis was restarted or swapped: it is closed until the recoverer has rebuilt it")
        return f"{stored[0]}:{run_id}"
