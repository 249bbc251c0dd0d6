"""The drainer: the stream every transition appends to, carried into PostgreSQL in order, once.

The cursor is kept in the same transaction as the rows; the stream is trimmed behind it only.
"""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from redis.client import Redis

from engine.runtime import keys
from models import drain
from models.database import Sessions
from models.records import parse

#: Records carried in one transaction.
BATCH = 500
#: How long a read waits for the first record, ms.
BLOCK_MS = 200


#: Told what was stored, once.
Observe = Callable[[Sequence[drain.Entry]], None]


def unobserved(entries: Sequence[drain.Entry]) -> None:
    """Nobody measures."""
    del entries


class Carrier(Protocol):
    """The three steps of carrying a batch."""

    def read(self, behind: str) -> Sequence[tuple[str, dict[str, str]]]:
        """The next records behind that stream id, waiting a moment for the first."""

    def apply(self, entries: Sequence[drain.Entry], behind: str) -> Sequence[drain.Entry]:
        """Store `entries` and that everything up to `behind` is; returns the new ones. Raises models.drain.Fenced."""

    def trim(self, behind: str) -> None:
        """Forget the records before `behind`."""


class LedgerCarrier:
    """From Redis' stream into PostgreSQL, working under `epoch`."""

    def __init__(self, redis: "Redis", sessions: Sessions, epoch: int) -> None:
        self._redis = redis
        self._sessions = sessions
        self._epoch = epoch

    def read(self, behind: str) -> Sequence[tuple[str, dict[str, str]]]:
        return _entries_of(self._redis.xread({keys.LEDGER: behind}, count=BATCH, block=BLOCK_MS))

    def apply(self, entries: Sequence[drain.Entry], behind: str) -> Sequence[drain.Entry]:
        with self._sessions() as session:
            return drain.apply(session, entries, drain.Cursor(self._epoch, behind))

    def trim(self, behind: str) -> None:
        self._redis.xtrim(keys.LEDGER, minid=behind)


class Drainer:
    """Carries the ledger's stream into PostgreSQL. Exactly one works at a time; an older epoch's is fenced out."""

    def __init__(self, carrier: Carrier, behind: str, observe: Observe = unobserved) -> None:
        """`behind`: the stream id everything up to which is stored. `observe` is told what was stored anew."""
        self._carrier = carrier
        self._behind = behind
        self._observe = observe

    def drain(self) -> int:
        """Carry one batch; returns its size. Raises models.drain.Fenced where a recoverer has taken over."""
        entries = self._carrier.read(self._behind)
        if not entries:
            return 0
        now = datetime.now(UTC)
        parsed = [parse(stream_id, _record_text(stream_id, fields), now) for stream_id, fields in entries]
        behind = entries[-1][0]
        stored = self._carrier.apply(parsed, behind)
        self._behind = behind
        self._observe(stored)
        self._carrier.trim(behind)
        return len(entries)

    def drain_all(self) -> None:
        """Carry everything there is. Raises models.drain.Fenced."""
        while self.drain():
            pass


def stored_up_to(sessions: Sessions, epoch: int) -> str:
    """The stream id up to which everything is stored that `epoch` may find.

    Each epoch reads its server's stream from the start: that server may be another, whose clock, and so its stream
    ids, lie before those of the last. What was stored already is left alone.
    """
    with sessions() as session:
        stored = drain.cursor(session)
    return stored.stream_id if stored.epoch == epoch else drain.START.stream_id


def _entries_of(read: Any) -> list[tuple[str, dict[str, str]]]:
    if not read:
        return []
    streams = read.values() if isinstance(read, dict) else [entries for _, entries in read]
    found: list[tuple[str, dict[str, str]]] = []
    for entries in streams:
        # RESP3 wraps a stream's entries once more.
        flat = entries[0] if entries and isinstance(entries[0], list) and isinstance(entries[0][0], tuple) else entries
        found += [(stream_id, dict(fields)) for stream_id, fields in flat]
    return found


def _record_text(stream_id: str, fields: dict[str, str]) -> str:
    """One record as the JSON `models.records.parse` reads: its body, its identity, and when Redis appended it."""
    try:
        body = json.loads(fields["body"])
        at = datetime.fromtimestamp(int(stream_id.split("-", maxsplit=1)[0]) / 1000, UTC)
        identity = {"run": fields["run"], "epoch": int(fields["epoch"]), "seq": int(fields["seq"])}
        if fields.get("repeated"):
            body["event_id"] = ""
        return json.dumps(body | identity | {"tenant": fields["tenant"], "real_time": at.isoformat()})
    except (KeyError, ValueError, TypeError):
        return json.dumps(fields)
