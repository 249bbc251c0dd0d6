"""The live state of a simulated world: the real store with the real scripts, on a Redis in memory."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from engine.domain.ticks import Tick
from engine.ports import Breach, WakeUp
from engine.runtime import keys
from engine.runtime.epoch import EpochGuard
from engine.runtime.store import RedisStore
from engine.simulation.keyspace import Entries, Stream
from engine.simulation.server import Client, Server

#: What a breach sends: only what it tells of its run.
_WOKEN = WakeUp("simulated:woken", "{reading}")


class Ledger:
    """The ledger's stream as the list that the simulated drainer takes from."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def _stream(self) -> list[tuple[str, dict[str, str]]]:
        return self._server.keys.of(keys.LEDGER, Stream) or []

    def __len__(self) -> int:
        return len(self._stream())

    def __getitem__(self, place: slice) -> list[dict[str, Any]]:
        return [
            {
                **fields,
                "id": name,
                "epoch": int(fields["epoch"]),
                "seq": int(fields["seq"]),
                "repeated": bool(fields["repeated"]),
            }
            for name, fields in self._stream()[place]
        ]

    def __delitem__(self, place: slice) -> None:
        del self._stream()[place]


class LiveState:
    """The `Store` port and what a world does to the server behind it."""

    def __init__(self, now: Callable[[], datetime], server: Server | None = None) -> None:
        """`server`: another one than a new one in memory."""
        self.server = server or Server(now)
        self.client = Client(self.server)
        self._epoch = EpochGuard(self.client)
        self._store = RedisStore(self.client, self._epoch, now, _WOKEN)
        self.ledger = Ledger(self.server)
        self.stored, self.run_id, self.open = self._epoch.stored, self._epoch.run_id, self._epoch.open

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        # Kept as an attribute: asked for at a name's first call only.
        setattr(self, name, found)
        return found

    def on_tick(self, market: str, ticks: Sequence[Tick], seen_at: datetime, prefix: str) -> list[Breach]:
        """The breaches with what their messages tell; the world delivers those itself."""
        breaches = self._store.on_tick(market, ticks, seen_at, prefix)
        told = self.server.keys.of(_WOKEN.queue, Entries) or Entries()
        found = [replace(each, reading=json.loads(text)) for each, text in zip(breaches, reversed(told), strict=True)]
        self.server.keys.do_del(_WOKEN.queue)
        return found

    @property
    def is_open(self) -> bool:
        """Whether the server holds an epoch that was opened at this very start of it."""
        return (self.server.keys.do_get(keys.EPOCH) or "").endswith(f":{self.server.run_id}")

    def is_ready(self) -> bool:
        """Whether it takes calls; whoever asks hears of a new epoch by that."""
        if not self.is_open or self.server.refuses:
            return False
        if not self.is_current():
            self._epoch.forget()
        return True

    @property
    def runtimes(self) -> set[str]:
        """The names of the live runs."""
        return {name.removeprefix("runtime:") for name in self.server.keys.do_keys("runtime:*")}

    def is_current(self) -> bool:
        """Whether this line works under the epoch that the server has."""
        return self._epoch.current() == self.server.keys.do_get(keys.EPOCH)

    def flush(self, *, is_gone: bool) -> None:
        """Lose everything, the epoch too: as a primary that is gone does, or one that was emptied and stays."""
        if is_gone:
            self.server.restart()
        else:
            self.server.keys.restore(({}, {}))

    def snapshot(self) -> tuple[dict[str, Any], dict[str, int]]:
        """What its append-only file holds now."""
        return self.server.keys.copy()

    def roll_back(self, snapshot: tuple[dict[str, Any], dict[str, int]]) -> None:
        """Start again with what was on the disk a moment ago."""
        self.server.restart(snapshot)
