"""The simulated world's live state on a real server: its time is the world's, and leases end by it.

The world's own client, its lines and the real epoch guard stay as they are; only what a command does is the server's.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from hashlib import sha1
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError

from engine.runtime import codec, keys
from engine.simulation.keyspace import CommandError, Reply
from engine.simulation.livestate import LiveState
from engine.simulation.server import Server

#: Where the scripts read the time instead of the server's own.
NOW = "test:now"
_SERVER_TIME = "local t = redis.call('TIME')"
#: Where they read how long a lock has left, in place of its own expiry, which is of the server's time.
LEFT = "test:left"
_SERVER_LEFT = "redis.call('PTTL', KEYS[2])"
_WORLDS_LEFT = f"tonumber(redis.call('HGET', '{LEFT}', KEYS[2]) or '-2')"
_WORLDS_TIME = f"local t = redis.call('HMGET', '{NOW}', 'seconds', 'micros')"

Snapshot = tuple[dict[str, bytes], dict[str, datetime]]


class RealKeys:
    """A real server in the place of the keys in memory."""

    def __init__(self, url: str, now: Callable[[], datetime]) -> None:
        # RESP2: hashes and scores come flat, as the world's client reads them.
        self._redis: Any = Redis.from_url(url, decode_responses=True, protocol=2)
        self._bytes: Any = Redis.from_url(url, protocol=2)
        self._line: Any = self._redis.connection_pool.make_connection()
        self._now = now
        #: When each lock ends, by the world's clock.
        self._leases: dict[str, datetime] = {}

    def call(self, name: str, arguments: Sequence[str]) -> Reply:
        """One command's reply; CommandError where it is an error."""
        self._tell_time()
        try:
            self._line.send_command(*name.split(), *arguments)
            reply: Reply = self._line.read_response()
        except ResponseError as refused:
            raise CommandError(str(refused)) from refused
        self._keep_leases()
        return reply

    def run(self, source: str, arguments: Sequence[str]) -> Reply:
        """What a script replies: its number of keys, its keys and its arguments are `arguments`."""
        timed = source.replace(_SERVER_TIME, _WORLDS_TIME).replace(_SERVER_LEFT, _WORLDS_LEFT)
        self._redis.script_load(timed)
        return self.call("EVALSHA", [sha1(timed.encode(), usedforsecurity=False).hexdigest(), *arguments])

    def of(self, key: str, _kind: type[Any]) -> list[str]:
        """A list."""
        found: list[str] = self._redis.lrange(key, 0, -1)
        return found

    def do_get(self, key: str) -> str | None:
        found: str | None = self._redis.get(key)
        return found

    def do_pttl(self, key: str) -> int:
        """Milliseconds a lock has left; its lease is kept here."""
        until = self._leases.get(key)
        return -2 if until is None else (until - self._now()) // timedelta(milliseconds=1)

    def now_us(self) -> int:
        """The server's time is the world's."""
        return codec.to_us(self._now())

    def do_keys(self, pattern: str) -> list[str]:
        found: list[str] = self._redis.keys(pattern)
        return found

    def do_del(self, key: str) -> None:
        self._redis.delete(key)

    def copy(self) -> Snapshot:
        """All that it holds."""
        return {name: self._bytes.dump(name) for name in self._redis.keys("*")}, dict(self._leases)

    def restore(self, kept: Snapshot) -> None:
        """Hold that and nothing else."""
        stored, leases = kept
        self._redis.flushall()
        for name, value in stored.items():
            self._bytes.restore(name, 0, value)
        self._leases = dict(leases)

    def records(self, count: int | None) -> list[tuple[str, dict[str, str]]]:
        """The first `count` of the ledger's records, or all of them."""
        found: list[tuple[str, dict[str, str]]] = self._redis.xrange(keys.LEDGER, count=count)
        return found

    def trim(self, names: Sequence[str]) -> None:
        """Remove records of the ledger."""
        self._redis.xdel(keys.LEDGER, *names)

    def close(self) -> None:
        """Close its connections."""
        self._line.disconnect()
        self._redis.close()
        self._bytes.close()

    def _tell_time(self) -> None:
        seconds, micros = divmod(codec.to_us(self._now()), 1_000_000)
        self._redis.hset(NOW, mapping={"seconds": seconds, "micros": micros})
        for name, until in [*self._leases.items()]:
            if until <= self._now():
                self._redis.delete(name)
                self._redis.hdel(LEFT, name)
                del self._leases[name]
        if self._leases:
            self._redis.hset(LEFT, mapping={name: self.do_pttl(name) for name in self._leases})

    def _keep_leases(self) -> None:
        """A lease given by the last call ends by the world's clock, not by the server's."""
        for name in self._redis.keys("lock_state:*"):
            left = self._redis.pttl(name)
            if left >= 0:
                self._leases[name] = self._now() + timedelta(milliseconds=left + 1)
                self._redis.persist(name)
        self._leases = {name: until for name, until in self._leases.items() if self._redis.exists(name)}


class RealServer(Server):
    """What the world does to a server in memory, done to a real one."""

    def __init__(self, url: str, now: Callable[[], datetime]) -> None:
        super().__init__(now)
        self.real = RealKeys(url, lambda: now() + self.skew)
        anything: Any = self.real
        self.keys = anything

    def _run(self, arguments: Sequence[str]) -> Reply:
        source = self._scripts.get(arguments[0])
        if source is None:
            raise CommandError("NOSCRIPT No matching script.")
        return self.real.run(source, arguments[1:])


class _Ledger:
    """The stream as the list the simulated drainer takes from."""

    def __init__(self, real: RealKeys) -> None:
        self._real = real

    def __len__(self) -> int:
        return len(self._real.records(None))

    def __getitem__(self, place: slice) -> list[dict[str, Any]]:
        rows = self._real.records(place.stop) if place.stop else []
        return [
            {
                **fields,
                "id": name,
                "epoch": int(fields["epoch"]),
                "seq": int(fields["seq"]),
                "repeated": bool(fields["repeated"]),
            }
            for name, fields in rows
        ]

    def __delitem__(self, place: slice) -> None:
        names = [name for name, _ in self._real.records(place.stop)] if place.stop else []
        if names:
            self._real.trim(names)


class RealState(LiveState):
    """The live state of a world on a server of its own."""

    def __init__(self, url: str, now: Callable[[], datetime]) -> None:
        server = RealServer(url, now)
        super().__init__(now, server)
        self.ledger: Any = _Ledger(server.real)
        self.real = server.real
