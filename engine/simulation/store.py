"""The live state in memory: the `Store` port with the meaning of the Lua scripts, held to the same contract suite.

Keeps the same flat fields as Redis, so that the codec is part of what is simulated. Knows no fault.
"""

import json
import pickle
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from engine.domain.broker import NetPosition
from engine.domain.events import Event
from engine.domain.health import Change, Health, Heard
from engine.domain.orders import Evidence, Leg, Order, Product, Side
from engine.domain.routing import Alert
from engine.domain.run import Run, RunId
from engine.domain.ticks import Tick
from engine.ports import (
    AccountState,
    Armed,
    Breach,
    Denied,
    Ended,
    Glanced,
    Holding,
    LockLost,
    NoSlot,
    Note,
    Refused,
    Slot,
    StoreClosed,
)
from engine.runtime import codec
from engine.runtime.readings import ended_of, glanced, holding_of, state_of
from engine.runtime.records import alert_object, record_body
from engine.runtime.store import LEASE_MARGIN_MS, LEASE_MS, LONGEST_NUDGE_US, PARKED_US, SWEEP_SLACK_US
from engine.simulation.limits import Limits

#: Fields a run may hold before a flood of evidence is answered with a hint, as in signal.lua.
MOST_FIELDS = 400
#: Yesterday's price proves nothing: how old a price may be at a first fill, us.
FRESH_US = 43_200_000_000

#: What a server finds on its disk when it starts again.
_ON_DISK = (
    "epoch", "_opened_under", "strategies", "runtimes", "tombstones", "locks", "armed", "latched", "prices", "lows",
    "due", "held", "told", "ledger", "ended_events", "_orphans",
)  # fmt: skip
_LATCH_FIELDS = ("latch_price", "latch_time", "latch_event", "latch_seen_at", "latch_at")


class MemoryStore:
    """One primary's live state. Not thread-safe: the simulation runs one actor at a time, as Redis does."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self.epoch: int | None = None
        self._opened_under = ""
        #: This server's own run id, new at each loss.
        self.generation = 1
        self._wipe()

    def _wipe(self) -> None:
        self.strategies: dict[int, codec.Fields] = {}
        self.runtimes: dict[str, codec.Fields] = {}
        self.tombstones: dict[str, codec.Fields] = {}
        self.locks: dict[str, tuple[str, int]] = {}
        self.armed: defaultdict[str, dict[str, int]] = defaultdict(dict)
        self.latched: defaultdict[str, set[str]] = defaultdict(set)
        self.prices: dict[str, tuple[int, int]] = {}
        #: By symbol: the lowest price since the store was opened, and when it was.
        self.lows: dict[str, tuple[int, int]] = {}
        self.due: dict[str, int] = {}
        #: By account: when its broker was asked, us, and what it holds.
        self.held: dict[int, tuple[int, dict[tuple[str, Product], int]]] = {}
        self.accounts: dict[int, AccountState] = {}
        self.limits = Limits(self.accounts)
        self.healths: defaultdict[int, Health] = defaultdict(Health)
        self.told: set[str] = set()
        self.ledger: list[dict[str, Any]] = []
        self.ended_events: defaultdict[str, set[str]] = defaultdict(set)
        self._orphans = 0

    def flush(self) -> None:
        """Lose everything, the epoch too, as FLUSHALL or a lost primary does."""
        self._wipe()
        self.epoch = None
        self.generation += 1

    def forget_runs(self) -> None:
        """Drop every live run, but not the tombstones of those that ended."""
        for kept in (self.runtimes, self.locks, self.armed, self.latched, self.due, self.held, self.lows):
            kept.clear()
        self.limits = Limits(self.accounts)

    def snapshot(self) -> bytes:
        """What its append-only file holds now."""
        return pickle.dumps({name: getattr(self, name) for name in _ON_DISK})

    def roll_back(self, snapshot: bytes) -> None:
        """Start again with what was on the disk a moment ago, as another server."""
        vars(self).update(pickle.loads(snapshot))  # noqa: S301 - our own, of a moment ago
        self.generation += 1

    @property
    def is_open(self) -> bool:
        """Whether it holds an epoch that was opened on this very server."""
        return self.epoch is not None and self._opened_under == self.run_id()

    def stored(self) -> tuple[int, str] | None:
        """The epoch it holds, with the run id it was opened under."""
        return (self.epoch, self._opened_under) if self.epoch is not None else None

    def run_id(self) -> str:
        """The server's own run id."""
        return f"server-{self.generation}"

    def open(self, n: int) -> str:
        """Open it under epoch `n`."""
        self.epoch, self._opened_under = n, self.run_id()
        return f"{n}:{self.run_id()}"

    def claim(self, event: Event, token: str, slot: Slot) -> Holding | Refused:
        self._check()
        run = str(event.run_id)
        stored = self.runtimes.get(run)
        if stored is None:
            return self._claim_missing(event, run)
        holder = self._holder(run)
        if holder is not None and holder != token:
            self._raise_signal(stored)
            self._note(run, event, "coalesced")
            return Refused.BUSY
        if holder is None:
            account, lease = int(stored["account_id"]), LEASE_MS * 1000
            if slot is not Slot.NONE and not self.limits.take(account, slot, run, self._us(), lease):
                self.due[run] = self._us() + PARKED_US
                self._note(run, event, "parked")
                return Refused.PARKED
            self.locks[run] = (token, self._us() + lease)
        self._bring_up_to_date(stored)
        strategy, troubled = self.strategies[event.run_id.strategy_id], self._is_troubled(stored)
        return holding_of(token, stored, strategy, self._version(stored), is_troubled=troubled)

    def _bring_up_to_date(self, stored: codec.Fields) -> None:
        """As `loaded` of the scripts' prelude."""
        if stored["epoch"] != str(self.epoch):
            stored |= {"epoch": str(self.epoch), "dirty": "0"}
        self._see_cover(stored)

    def _version(self, stored: codec.Fields) -> str:
        known = self.accounts.get(int(stored["account_id"]))
        return known.version if known else ""

    def _is_troubled(self, stored: codec.Fields) -> bool:
        return self.healths[int(stored["account_id"])] != Health()

    def glance(self, event: Event, token: str, reading: object) -> Holding | None:
        return glanced(event, token, reading)

    def _claim_missing(self, event: Event, run: str) -> Refused:
        if run in self.tombstones:
            self._note(run, event, "ignored: run_ended")
            return Refused.GONE
        self.dead_letter("event", "unknown run", f"{event.type} {event.id} {run}")
        return Refused.UNKNOWN

    def extend(self, holding: Holding, lease: timedelta) -> None:
        self._check()
        run = str(holding.run.id)
        if self._holder(run) != holding.token:
            raise LockLost(f"run {run}: the lease ran out before it was extended")
        lease_ms = lease // timedelta(milliseconds=1)
        self._keep_slot(run, self.runtimes[run], lease_ms)
        self._keep_lock(run, lease_ms)

    def intend(
        self, holding: Holding, step: str, before: Run, after: Run, order: Order, due: datetime, note: Note
    ) -> Denied | None:
        self._check()
        run, mark = str(after.id), f"{holding.token}:{step}"
        lease_ms = max(codec.to_us(order.send_by) // 1000 - self._us() // 1000 + LEASE_MARGIN_MS, LEASE_MS)
        if holding.glanced_at and self._holder(run) != holding.token:
            self._lock_as_glanced(holding, run, order.leg, lease_ms)
        if self._holder(run) != holding.token:
            raise LockLost(f"run {run}: attempt {order.client_order_id} was lost")
        stored = self.runtimes[run]
        if stored.get("done") == mark:
            return None
        field = f"order:{order.client_order_id}"
        if field in stored:
            raise LockLost(f"run {run}: attempt {order.client_order_id} was taken")
        self._keep_slot(run, stored, lease_ms)
        denied = self._spend(int(stored["account_id"]), order.leg)
        if denied is not None:
            return denied
        self._keep_lock(run, lease_ms)
        _write(stored, codec.changes(before, after, holding.consumed))
        stored |= {field: codec.order_to_json(order), "done": mark, "reply": '["granted"]'}
        self.due[run] = codec.to_us(due)
        if order.side is Side.BUY and "latch_time" not in stored:
            self.armed[stored["symbol"]][run] = int(stored["stop_units"])
        self._record(run, record_body(before, after, note))
        return None

    def _lock_as_glanced(self, holding: Holding, run: str, leg: Leg, lease_ms: int) -> None:
        stored = self.runtimes.get(run)
        if stored is None or self._holder(run) is not None or not self._is_as_glanced(stored, holding):
            raise Glanced(run)
        account, slot = int(stored["account_id"]), Slot.ENTRY if leg is Leg.ENTRY else Slot.EXIT
        if not self.limits.take(account, slot, run, self._us(), lease_ms * 1000):
            raise Glanced(run)
        self.locks[run] = (holding.token, self._us() + lease_ms * 1000)

    def _is_as_glanced(self, stored: codec.Fields, holding: Holding) -> bool:
        """Whether all that was decided on is what it was."""
        if stored["epoch"] != str(self.epoch):
            return False
        self._see_cover(stored)
        return state_of(stored, self._version(stored)) == holding.glanced_at

    def commit(
        self,
        holding: Holding,
        step: str,
        after: Run,
        due: datetime | None,
        note: Note | None,
        *,
        release: bool,
        first_fill: datetime | None = None,
        finished: bool = False,
    ) -> Holding | None:
        self._check()
        run, mark = str(after.id), f"{holding.token}:{step}"
        stored = self.runtimes.get(run)
        if mark in ((stored or {}).get("done"), self.tombstones.get(run, {}).get("done")):
            return self._held(holding, run) if self._holder(run) == holding.token else None
        if stored is None or self._holder(run) != holding.token:
            raise LockLost(f"run {run}: the lease ran out before step {step} was committed")
        changed = self._is_flagged(stored, holding)
        hint = stored.get("dirty", "0")
        _write(stored, codec.changes(holding.run, after, holding.consumed))
        if int(hint) > int(holding.signal_seq):
            stored["dirty"] = hint
        stored["done"] = mark
        for name in ("reply", "nudges"):
            stored.pop(name, None)
        if note is not None:
            self._record_step(run, holding.run, after, note)
        if finished:
            self._bury(run, stored)
            return None
        if first_fill is not None:
            changed |= self._compare_first_fill(run, stored, codec.to_us(first_fill))
        self._write_due(run, due, changed=changed)
        if release and not changed:
            self._free(run, stored)
            return None
        self.locks[run] = (holding.token, self._us() + LEASE_MS * 1000)
        return self._held(holding, run)

    def signal(self, run_id: RunId, fields: Mapping[str, str], due: datetime) -> str:
        return self._signal(run_id, fields, due)

    def tell(self, run_id: RunId, evidence: Evidence, due: datetime) -> str:
        told = {codec.evidence_field(evidence): codec.evidence_to_json(evidence)}
        return self._signal(run_id, told, due, evidence=True)

    def _signal(self, run_id: RunId, fields: Mapping[str, str], due: datetime, *, evidence: bool = False) -> str:
        self._check()
        run = str(run_id)
        stored = self.runtimes.get(run)
        if stored is None:
            return "gone" if run in self.tombstones else "unknown"
        full = evidence and len(stored) > MOST_FIELDS
        stored |= {"dirty": "1"} if full else dict(fields)
        self._raise_signal(stored)
        if full or "dirty" in fields:
            stored["dirty"] = stored["signal_seq"]
        self.due[run] = min(self.due.get(run, codec.to_us(due)), codec.to_us(due))
        if "stop_requested" in fields and not full:
            body = {"kind": "stop_requested", "stop_requested": fields["stop_requested"]}
            self._record(run, json.dumps(body))
        return "full" if full else "ok"

    def account_of(self, run_id: RunId) -> int | None:
        stored = self.runtimes.get(str(run_id))
        return int(stored["account_id"]) if stored else None

    def prolong(self, run_id: RunId, closes_at: datetime, due: datetime) -> str:
        return self.signal(run_id, {"closes_at": str(codec.to_us(closes_at))}, due)

    def on_tick(self, ticks: Sequence[Tick], seen_at: datetime, prefix: str) -> Sequence[Breach]:
        self._check()
        breaches: list[Breach] = []
        for tick in ticks:
            if tick.exchange_time is None:
                continue
            at = codec.to_us(tick.exchange_time)
            is_newest = at >= self.prices.get(tick.symbol, (0, 0))[1]
            if is_newest:
                self.prices[tick.symbol] = (tick.price, at)
            low = self.lows.get(tick.symbol)
            if low is None or tick.price < low[0] or at > low[1] + FRESH_US:
                self.lows[tick.symbol] = (tick.price, at)
            armed = self.armed[tick.symbol]
            for _, run in sorted((stop, run) for run, stop in armed.items() if stop >= tick.price):
                since = self.runtimes.get(run, {}).get("held_since")
                if not is_newest and (since is None or at < int(since)):
                    continue
                del armed[run]
                if run in self.runtimes:
                    breaches.append(self._latch(run, tick, seen_at, f"{prefix}:{run}"))
        return breaches

    def _latch(self, run: str, tick: Tick, seen_at: datetime, event_id: str) -> Breach:
        assert tick.exchange_time is not None
        seen_us = codec.to_us(seen_at)
        self._write_latch(run, tick.price, codec.to_us(tick.exchange_time), event_id, seen_us)
        self._raise_signal(self.runtimes[run])
        self.due[run] = min(self.due.get(run, seen_us + 500_000), seen_us + 500_000)
        return Breach(RunId.parse(run), tick.price, event_id, self._reading(run))

    def _reading(self, run: str) -> list[object]:
        """As on_tick.lua tells it in its message."""
        stored = self.runtimes[run]
        self._bring_up_to_date(stored)
        strategy = self.strategies[int(stored["strategy_id"])]
        flat = [[text for pair in fields.items() for text in pair] for fields in (stored, strategy)]
        return [*flat, self._version(stored), int(self._is_troubled(stored))]

    def _write_latch(self, run: str, price: int, at: int, event_id: str, seen_us: int) -> None:
        stored = self.runtimes[run]
        self.armed[stored["symbol"]].pop(run, None)
        self.latched[stored["symbol"]].add(run)
        told = [*map(str, (price, at, event_id, seen_us, self._us()))]
        stored |= dict(zip(_LATCH_FIELDS, told, strict=True))
        latch = dict(zip(("price", "time", "event", "seen_at", "latched_at"), told, strict=True))
        body = {"kind": "latched", "event_type": "STOPLOSS", "outcome": "latched", "latch": latch}
        self._record(run, json.dumps(body))

    def sweep(self, limit: int) -> Sequence[tuple[Run, int]]:
        self._check()
        now = self._us()
        ready = sorted((at, run) for run, at in self.due.items() if at <= now - SWEEP_SLACK_US)[:limit]
        swept: list[tuple[Run, int]] = []
        for _, run in ready:
            stored = self.runtimes.get(run)
            if stored is None:
                del self.due[run]
                continue
            nudges = int(stored.get("nudges", "0")) + 1
            stored["nudges"] = str(nudges)
            self.due[run] = now + min(1_000_000 * 2 ** min(nudges - 1, 10), LONGEST_NUDGE_US)
            self._see_cover(stored)
            spec = codec.strategy_from_fields(self.strategies[int(stored["strategy_id"])])
            swept.append((codec.run_from_fields(stored, spec), nudges))
        return swept

    def arm(self, run: Run, due: datetime, *, buying: bool) -> Armed:
        self._check()
        name = str(run.id)
        if name in self.tombstones:
            return Armed.ENDED
        if name in self.runtimes:
            return Armed.EXISTS
        self.strategies[run.id.strategy_id] = codec.strategy_to_fields(run.strategy)
        self.runtimes[name] = codec.run_to_fields(run) | {"signal_seq": "0", "epoch": str(self.epoch)}
        self.due[name] = codec.to_us(due)
        if buying and run.latch is None:
            self.armed[run.strategy.symbol][name] = run.stop_units
        elif buying:
            self.latched[run.strategy.symbol].add(name)
        self._record(name, record_body(run, run, Note("armed")))
        if run.held_since is not None:
            self._latch_low(name, run, codec.to_us(run.held_since), buying=buying)
        return Armed.CREATED

    def _latch_low(self, name: str, run: Run, since: int, *, buying: bool) -> None:
        stored = self.runtimes[name]
        stored["held_since"] = str(since)
        price, at = self.lows.get(run.strategy.symbol, (run.stop_units + 1, 0))
        if buying and price <= run.stop_units and at >= since and run.latch is None:
            self._write_latch(name, price, at, f"kept-low-{name}", self._us())
            self._raise_signal(stored)
            self.due[name] = min(self.due[name], self._us())

    def ended(self, run_id: RunId) -> Ended | None:
        stone = self.tombstones.get(str(run_id))
        return ended_of(stone) if stone is not None and "account_id" in stone else None

    def watch(self, symbols: Collection[str]) -> None:
        """Nobody subscribes here."""
        del symbols

    def note(self, event: Event, outcome: str) -> None:
        self._check()
        self._note(str(event.run_id), event, outcome)

    def cover(self, account_id: int, positions: Iterable[NetPosition], at: datetime) -> None:
        self._check()
        if codec.to_us(at) > self.held.get(account_id, (0, {}))[0]:
            self.held[account_id] = codec.to_us(at), {(each.symbol, each.product): each.quantity for each in positions}

    def _see_cover(self, stored: dict[str, str]) -> None:
        at, held = self.held.get(int(stored["account_id"]), (0, {}))
        if at > int(stored.get("net_at", "0")):
            product = Product(self.strategies[int(stored["strategy_id"])]["product"])
            stored |= {"net_quantity": str(held.get((stored["symbol"], product), 0)), "net_at": str(at)}

    def alert(self, tenant: str, alert: Alert) -> None:
        self._check()
        del tenant
        self._record("", json.dumps({"kind": "alert", "alerts": [alert_object(alert)]}))

    def alert_once(self, tenant: str, alert: Alert, name: str) -> bool:
        self._check()
        if name in self.told:
            return False
        self.told.add(name)
        self.alert(tenant, alert)
        return True

    def dead_letter(self, source: str, reason: str, payload: str) -> None:
        self._check()
        body = {"kind": "dead_letter", "source": source, "reason": reason[:500], "payload": payload[:2000]}
        self._record("", json.dumps(body))

    def _spend(self, number: int, leg: Leg) -> Denied | None:
        """Count one order of `leg`, unless the account's health or its rates deny it."""
        account, health, now = self.accounts.get(number), self.healths[number], self._us()
        ends = account.token_ends if account else None
        version = account.version if account else ""
        if denied := health.denies(leg, version, None if ends is None else codec.to_us(ends), now):
            return Denied(denied[0], timedelta(microseconds=denied[1]))
        if spent := self.limits.spend(number, now, entry=leg is Leg.ENTRY):
            return spent
        self.healths[number] = health.granted(leg, now)
        return None

    def heard(
        self, account_id: int, version: str, heard: Heard, leg: Leg, retry_after: timedelta | None
    ) -> Sequence[Change]:
        self._check()
        known = self.accounts.get(account_id)
        if known is None or known.version != version:
            if heard in (Heard.TOKEN_DEAD, Heard.TOKEN_LIVES):
                return []
            version = ""
        pause = None if retry_after is None else retry_after // timedelta(microseconds=1)
        after, changes = self.healths[account_id].heard(heard, leg, version, self._us(), pause)
        self.healths[account_id] = after
        return [*changes]

    def account(self, account_id: int) -> AccountState | None:
        return self.accounts.get(account_id)

    def write_account(self, account: AccountState) -> None:
        """Put what an order needs to know of an account where workers read it."""
        self.accounts[account.id] = account

    def _check(self) -> None:
        if not self.is_open:
            raise StoreClosed("the simulated Redis holds no epoch of its own")

    def _us(self) -> int:
        return codec.to_us(self._now())

    def _holder(self, run: str) -> str | None:
        token, until = self.locks.get(run, ("", 0))
        return token if until > self._us() else None

    def _held(self, holding: Holding, run: str) -> Holding:
        stored = self.runtimes[run]
        strategy = self.strategies[int(stored["strategy_id"])]
        return holding_of(holding.token, stored, strategy, holding.account_version, is_troubled=holding.is_troubled)

    @staticmethod
    def _is_flagged(stored: codec.Fields, holding: Holding) -> bool:
        """Whether anything met the lock since its holder read the run."""
        return stored["signal_seq"] != holding.signal_seq

    @staticmethod
    def _raise_signal(stored: codec.Fields) -> None:
        stored["signal_seq"] = str(int(stored["signal_seq"]) + 1)

    def _keep_slot(self, run: str, stored: codec.Fields, lease_ms: int) -> None:
        if not self.limits.keep(int(stored["account_id"]), run, self._us(), lease_ms * 1000):
            raise NoSlot(run)

    def _keep_lock(self, run: str, lease_ms: int) -> None:
        self.locks[run] = (self.locks[run][0], self._us() + lease_ms * 1000)

    def _write_due(self, run: str, due: datetime | None, *, changed: bool) -> None:
        """As commit.lua: what came meanwhile is not put off by a step that does not know of it."""
        if due is not None:
            at = codec.to_us(due)
            self.due[run] = min(self.due.get(run, at), at) if changed else at
        elif not changed:
            self.due.pop(run, None)

    def _free(self, run: str, stored: codec.Fields) -> None:
        self.locks.pop(run, None)
        self.limits.free(int(stored["account_id"]), run)

    def _compare_first_fill(self, run: str, stored: codec.Fields, filled_us: int) -> bool:
        """As commit.lua: an older breach counts only while the price is there, and a price already there counts."""
        symbol, stop = stored["symbol"], int(stored["stop_units"])
        stored["held_since"] = str(filled_us)
        price, at = self.prices.get(symbol, (0, 0))
        breached = at > int(stored["buy_at"]) - FRESH_US and price <= stop
        latch_time = stored.get("latch_time")
        if latch_time is not None and int(latch_time) < filled_us and not breached:
            for name in _LATCH_FIELDS:
                stored.pop(name, None)
            self.latched[symbol].discard(run)
            self.armed[symbol][run] = stop
            self._record(run, json.dumps({"kind": "latch_dropped", "latch_dropped": True}))
            return True
        if breached and latch_time is None:
            self._write_latch(run, price, at, f"first-fill-{run}", self._us())
            return True
        return False

    def _bury(self, run: str, stored: codec.Fields) -> None:
        kept = ("done", "status", "position", "strategy_id", "tenant", "record_seq", "account_id")
        self.tombstones[run] = {
            name: text for name, text in stored.items() if name in kept or name.startswith("order:")
        }
        del self.runtimes[run]
        self.armed[stored["symbol"]].pop(run, None)
        self.latched[stored["symbol"]].discard(run)
        self.due.pop(run, None)
        self._free(run, stored)

    def _record_step(self, run: str, before: Run, after: Run, note: Note) -> None:
        repeated = bool(note.event_id) and not self._is_news(run, note.event_id)
        if not (repeated and note.tells_only_of_its_event(before, after)):
            self._record(run, record_body(before, after, note), repeated=repeated)

    def _is_news(self, run: str, event_id: str) -> bool:
        """Whether an event has no terminal record yet; from now on it has."""
        known = event_id in self.ended_events[run]
        self.ended_events[run].add(event_id)
        return not known

    def _note(self, run: str, event: Event, outcome: str) -> None:
        if not self._is_news(run, event.id):
            return
        body = {"kind": "event", "event_id": event.id, "event_type": event.type, "outcome": outcome}
        self._record(run, json.dumps(body))

    def _record(self, run: str, body: str, *, repeated: bool = False) -> None:
        kept = self.runtimes.get(run) or self.tombstones.get(run)
        if kept is None:
            self._orphans += 1
            run, seq = "", self._orphans
        else:
            seq = int(kept.get("record_seq", "0")) + 1
            kept["record_seq"] = str(seq)
        self.ledger.append({"run": run, "epoch": self.epoch, "seq": seq, "body": body, "repeated": repeated})


def _write(stored: codec.Fields, changes: Mapping[str, Any]) -> None:
    stored |= changes["set"]
    for name in changes["del"]:
        stored.pop(name, None)
