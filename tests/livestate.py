"""The live state for tests: the real store on a real server, opened under an epoch, and looks behind its scripts."""

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from redis import Redis

from engine.clock import RealTime
from engine.domain.events import EventType
from engine.domain.run import NetSeen, Run, RunId
from engine.ports import AccountState, Armed, Holding, Note, Slot
from engine.runtime import codec, keys
from engine.runtime.connect import connect
from engine.runtime.epoch import EpochGuard
from engine.runtime.store import RedisStore
from tests.builders import event, run

EPOCH = 5
ACCOUNT = AccountState(1, "alpha", "main", "paper", "http://x", "ws://x", "sealed", "v1", {})
RUN = str(run().id)
NOTE = Note("test", event_id="e1", event_type="BUY", outcome="done")


@dataclass
class LiveState:
    """One server's live state. `redis` looks; `store` is what is tested."""

    redis: Redis
    client: Redis
    epoch: EpochGuard
    store: RedisStore
    _tokens: Any = field(default_factory=lambda: count(1))

    def lose_epoch(self) -> None:
        """Shut the store to everyone, as a loss does."""
        self.redis.delete(keys.EPOCH)

    def arm(self, what: Run | None = None, *, buying: bool = True) -> Run:
        """Put a run into the live state, due at its time, its stop armed."""
        armed = what or run()
        if not self.redis.exists(keys.account(armed.strategy.account_id)):
            self.store.write_account(replace(ACCOUNT, id=armed.strategy.account_id))
        assert self.store.arm(armed, armed.buy_at, buying=buying) is Armed.CREATED
        return armed

    def claim(self, kind: EventType = EventType.ORDER_UPDATE, slot: Slot = Slot.NONE, **of: Any) -> Holding:
        """Claim the run for an event of its own."""
        number = next(self._tokens)
        held = self.store.claim(event(kind, f"claim-{number}", **of), f"token-{number}", slot)
        assert isinstance(held, Holding)
        return held

    def commit(
        self, holding: Holding, after: Run | None = None, *, release: bool = True, **more: Any
    ) -> Holding | None:
        """Commit `after` under a note, due at its time to buy."""
        state = after or holding.run
        return self.store.commit(holding, "c0", state, state.buy_at, NOTE, release=release, **more)

    def lease_runs_out(self, name: str = RUN) -> None:
        """What time does to a lock its holder no longer renews."""
        assert self.redis.delete(keys.lock(name)) == 1

    def fields(self, name: str = RUN) -> dict[str, str]:
        found: dict[str, str] = self.redis.hgetall(keys.runtime(name))  # type: ignore[assignment]
        return found

    def run(self, name: str = RUN) -> Run:
        found = self.store.run(name)
        assert found is not None
        return found

    def run_seen(self, number: int = 7) -> NetSeen | None:
        """What the account has, as the run of strategy `number` is told it."""
        return self.store.covered(self.run(str(run_id(number)))).net

    def due(self, name: str = RUN) -> int | None:
        """When the run is due, microseconds."""
        score: Any = self.redis.zscore(keys.DUE, name)
        return None if score is None else int(score)

    def armed(self, symbol: str) -> set[str]:
        members: Any = self.redis.zrange(keys.armed(ACCOUNT.market, symbol), 0, -1)
        return set(members)

    def latched(self, symbol: str) -> set[str]:
        members: Any = self.redis.smembers(keys.latched(ACCOUNT.market, symbol))
        return set(members)

    def now_us(self) -> int:
        """The server's clock."""
        seconds, micros = self.redis.time()
        return int(seconds) * 1_000_000 + int(micros)

    def records(self, kind: str = "") -> list[dict[str, Any]]:
        """The ledger, oldest first: each record's body with whose it is and its place."""
        entries: Any = self.redis.xrange(keys.LEDGER)
        found = [json.loads(fields["body"]) | {k: fields[k] for k in fields if k != "body"} for _, fields in entries]
        return [record for record in found if not kind or record["kind"] == kind]

    def check_ledger(self) -> None:
        """Every record has a place of its own, and a run's places are in order."""
        places: dict[str, list[int]] = {}
        for record in self.records():
            assert record["epoch"] == str(EPOCH)
            places.setdefault(record["run"], []).append(int(record["seq"]))
        for seqs in places.values():
            assert seqs == sorted(set(seqs))


def open_live_state(redis: Redis, url: str) -> LiveState:
    """Open an empty server under `EPOCH`, with one account."""
    client = connect(url)
    epoch = EpochGuard(client)
    store = RedisStore(client, epoch, RealTime().now)
    epoch.open(EPOCH)
    store.write_account(ACCOUNT)
    watched(redis, ACCOUNT.market)
    return LiveState(redis, client, epoch, store)


def watched(redis: Redis, market: str, *symbols: str) -> None:
    """Let these symbols, or those of the tests, have a feed that lives on: no listener is there to say so."""
    for symbol in symbols or ("NSE:SBIN", "NSE:INFY"):
        redis.hset(keys.feed(market), symbol, codec.to_us(datetime.now(UTC) + timedelta(days=1)))


def run_id(strategy_id: int) -> RunId:
    return RunId(strategy_id, run().id.trading_date)


def microseconds(what: Any) -> int:
    return codec.to_us(what)
