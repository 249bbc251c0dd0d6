"""The real scripts on a real server behind the simulated world: its time is the world's, its leases end by it."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from redis import Redis

from engine.domain.ticks import Tick
from engine.ports import Breach, StoreClosed, WakeUp
from engine.runtime import codec, keys
from engine.runtime.scripts import Scripts
from engine.runtime.store import RedisStore, load_scripts

#: Where the scripts read the time instead of the server's own.
NOW = "test:now"
_SERVER_TIME = "local t = redis.call('TIME')"
_WORLDS_TIME = f"local t = redis.call('HMGET', '{NOW}', 'seconds', 'micros')"
#: What a breach sends: only what it tells of its run.
_WOKEN = WakeUp("test:woken", "{reading}")


class _Epoch:
    """What `EpochGuard` is to the store, over a server that can be lost, or go back, whenever the world says so."""

    def __init__(self, redis: "Redis", now: Callable[[], datetime]) -> None:
        self._redis = redis
        self._now = now
        self.generation = 1

    def run_id(self) -> str:
        return f"server-{self.generation}"

    def stored(self) -> tuple[int, str] | None:
        text: Any = self._redis.get(keys.EPOCH)
        n, _, run_id = (text or "").partition(":")
        return (int(n), run_id) if n else None

    def current(self) -> str:
        stored = self.stored()
        if stored is None or stored[1] != self.run_id():
            raise StoreClosed("the server holds no epoch of its own")
        return f"{stored[0]}:{stored[1]}"

    def forget(self) -> None:
        """It is asked at every call."""


class _Ledger:
    """The stream as the list the simulated drainer takes from."""

    def __init__(self, redis: "Redis") -> None:
        self._redis: Any = redis

    def __len__(self) -> int:
        return int(self._redis.xlen(keys.LEDGER))

    def __getitem__(self, place: slice) -> list[dict[str, Any]]:
        rows = self._redis.xrange(keys.LEDGER, count=place.stop) if place.stop else []
        return [
            {
                "run": fields["run"],
                "tenant": fields["tenant"],
                "epoch": int(fields["epoch"]),
                "seq": int(fields["seq"]),
                "body": fields["body"],
                "repeated": bool(fields["repeated"]),
            }
            for _, fields in rows
        ]

    def __delitem__(self, place: slice) -> None:
        names = [name for name, _ in self._redis.xrange(keys.LEDGER, count=place.stop)] if place.stop else []
        if names:
            self._redis.xdel(keys.LEDGER, *names)


@dataclass
class _Sound:
    """What a world may do to the server in memory and never does to a real one."""

    refuses: str = ""


class RealStore:
    """The live state of a world on a server of its own: every call is a script's."""

    def __init__(self, redis: "Redis", now: Callable[[], datetime]) -> None:
        self._redis: Any = redis
        self._now = now
        self._epoch = _Epoch(redis, now)
        guard: Any = self._epoch
        self._store = RedisStore(redis, guard, now, _WOKEN)
        sources = {name: source.replace(_SERVER_TIME, _WORLDS_TIME) for name, source in load_scripts().items()}
        self._store._scripts = Scripts(redis, sources)
        self._leases: dict[str, datetime] = {}
        self.ledger = _Ledger(redis)
        self.server = _Sound()
        self.stored, self.run_id = self._epoch.stored, self._epoch.run_id

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._store, name)

        def timed(*args: Any, **named: Any) -> Any:
            self._tell_time()
            try:
                return call(*args, **named)
            finally:
                self._keep_leases()

        return timed

    def on_tick(self, market: str, ticks: Sequence[Tick], seen_at: datetime, prefix: str) -> list[Breach]:
        """The breaches with what their messages tell, for the world publishes those itself."""
        breaches = self.__getattr__("on_tick")(market, ticks, seen_at, prefix)
        told = self._redis.lpop(_WOKEN.queue, len(breaches)) if breaches else []
        return [
            replace(breach, reading=json.loads(text)) for breach, text in zip(breaches, reversed(told), strict=True)
        ]

    def open(self, n: int) -> str:
        epoch = f"{n}:{self.run_id()}"
        self._redis.set(keys.EPOCH, epoch)
        return epoch

    @property
    def is_open(self) -> bool:
        stored = self.stored()
        return stored is not None and stored[1] == self.run_id()

    @property
    def runtimes(self) -> set[str]:
        return {name.removeprefix("runtime:") for name in self._redis.keys("runtime:*")}

    def flush(self) -> None:
        self._redis.flushall()
        self._leases.clear()
        self._epoch.generation += 1

    def snapshot(self) -> tuple[dict[str, bytes], dict[str, datetime]]:
        return {name: self._redis.dump(name) for name in self._redis.keys("*")}, dict(self._leases)

    def roll_back(self, snapshot: tuple[dict[str, bytes], dict[str, datetime]]) -> None:
        # Accounts and rates are not part of what the world lets go back.
        for name in self._redis.keys("*"):
            if not name.startswith("account:") or name.endswith(":runs"):
                self._redis.delete(name)
        stored, leases = snapshot
        for name, value in stored.items():
            self._redis.restore(name, 0, value, replace=True)
        self._leases = dict(leases)
        self._epoch.generation += 1

    def _tell_time(self) -> None:
        seconds, micros = divmod(codec.to_us(self._now()), 1_000_000)
        self._redis.hset(NOW, mapping={"seconds": seconds, "micros": micros})
        for name, until in [*self._leases.items()]:
            if until <= self._now():
                self._redis.delete(name)
                del self._leases[name]

    def _keep_leases(self) -> None:
        """A lease given by the last call ends by the world's clock, not by the server's."""
        for name in self._redis.keys("lock_state:*"):
            left = self._redis.pttl(name)
            if left >= 0:
                self._leases[name] = self._now() + timedelta(milliseconds=left + 1)
                self._redis.persist(name)
        self._leases = {name: until for name, until in self._leases.items() if self._redis.exists(name)}
