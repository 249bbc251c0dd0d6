"""What the live state granted, judged at each call: one holder a run, an account's slots, and its rate, to the unit."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from engine.domain.health import EXIT_PROBE_US, OPENS_AFTER
from engine.domain.orders import Order, Side
from engine.domain.run import Run, RunId
from engine.ports import Denied, Holding, Slot
from engine.runtime import codec, keys
from engine.simulation.broker import SimulatedBroker
from engine.simulation.invariants import Violation
from engine.simulation.livestate import LiveState
from engine.simulation.scenario import START

#: Seconds of each window of the rate.
_WINDOWS = {"second": 1, "minute": 60, "day": 86_400}
#: How long an exit may wait for a window.
LONGEST_WINDOW = timedelta(seconds=61)
#: A lease ends by the millisecond.
_MS = timedelta(milliseconds=1)
#: Which limit an account has of each class.
_SLOTS = {Slot.ENTRY: "entry_slots", Slot.EXIT: "exit_slots", Slot.UPDATE: "update_slots"}


@dataclass(slots=True)
class _Held:
    token: str
    until: datetime
    account: int
    slot: Slot


class Audit:
    """Keeps its own books of what was granted, and compares."""

    def __init__(self, store: LiveState, limits: Mapping[str, int], brokers: Mapping[int, SimulatedBroker]) -> None:
        """`limits`: every account's."""
        self._store = store
        self._brokers = brokers
        #: Every attempt that was granted, and the last one of each run.
        self._granted: set[str] = set()
        self._last_order: dict[RunId, str] = {}
        self._limits = limits
        self._held: dict[RunId, _Held] = {}
        #: How many attempts each window of an account was charged, by (account, window, number of the window).
        self._charged: Counter[tuple[int, str, int]] = Counter()
        #: The windows of the attempt that a run was granted last.
        self._last: dict[RunId, list[tuple[int, str, int]]] = {}
        #: By account: when an exit last tried its dead login or line.
        self._tried_at: dict[int, datetime] = {}
        self._was_lost = False
        self._began_at = START
        self._epoch: str | None = None

    def _begin_anew(self) -> None:
        """The live state is another now: what a window was charged before is what it says."""
        self._was_lost, self._began_at = True, max(each.now() for each in self._brokers.values())
        self._held.clear()
        self._charged.clear()
        self._last.clear()
        self._granted.clear()
        self._tried_at.clear()
        self._last_order.clear()

    def called(self, name: str, arguments: tuple[Any, ...], named: Mapping[str, Any], reply: Any) -> None:
        """A call of the store has answered `reply`."""
        epoch = self._store.server.keys.do_get(keys.EPOCH)
        if epoch != self._epoch:
            self._begin_anew()
            self._epoch = epoch
        if name == "claim" and isinstance(reply, Holding):
            self._take(reply.run.id, reply.token, reply.run.strategy.account_id, arguments[2])
        elif name == "intend":
            self._intended(arguments[0], arguments[4], reply)
        elif name == "extend":
            self._keep(arguments[0])
        elif name == "commit":
            self._keep(arguments[0])
            if named.get("unsent"):
                self._given_back(arguments[0].run)
            if reply is None:
                self._held.pop(arguments[0].run.id, None)

    def _now(self) -> datetime:
        return codec.from_us(self._store.server.keys.now_us())

    def _take(self, run_id: RunId, token: str, account: int, slot: Slot) -> None:
        now, before = self._now(), self._held.get(run_id)
        if before is not None and before.token != token and now + _MS < before.until:
            raise Violation(f"{run_id} was given to a second worker while another held it")
        self._held[run_id] = _Held(token, self._until(run_id), account, slot)
        limit = self._limits.get(_SLOTS.get(slot, ""))
        taken = sum(
            each.account == account and each.slot is slot and now + _MS < each.until for each in self._held.values()
        )
        if limit is not None and taken > limit:
            raise Violation(f"account {account} has {taken} {slot} slots of {limit}")

    def _keep(self, holding: Holding) -> None:
        """Whoever holds a run did something with it."""
        held = self._held.get(holding.run.id)
        if held is None or held.token != holding.token or self._now() > held.until:
            raise Violation(f"{holding.run.id} was changed by a worker that did not hold it")
        held.until = self._until(holding.run.id)
        slots = f"account:{held.account}:slots:{held.slot}"
        until = self._store.server.keys.call("ZSCORE", [slots, str(holding.run.id)])
        if held.slot in _SLOTS and until is not None and codec.from_us(int(float(until))) + _MS * 2 < held.until:
            raise Violation(f"{holding.run.id} is held beyond its {held.slot} slot")

    def _until(self, run_id: RunId) -> datetime:
        return self._now() + timedelta(milliseconds=1 + self._store.server.keys.do_pttl(keys.lock(str(run_id))))

    def _intended(self, holding: Holding, order: Order, denied: Denied | None) -> None:
        """One attempt was granted, or denied; a run that was only glanced at is held from here on."""
        run_id, account = holding.run.id, holding.run.strategy.account_id
        slot = Slot.ENTRY if order.side is Side.BUY else Slot.EXIT
        held = self._held.get(run_id)
        if holding.glanced_at and (held is None or held.token != holding.token):
            self._take(run_id, holding.token, account, slot)
        else:
            self._keep(holding)
        if denied is None:
            if order.client_order_id in self._granted:
                raise Violation(f"{order.client_order_id} was granted twice")
            self._granted.add(order.client_order_id)
            if slot is Slot.EXIT:
                self._tried(account, order)
            self._last_order[run_id] = order.client_order_id
            self._charge(run_id, account, slot)
        elif slot is Slot.EXIT and denied.by in tuple(_WINDOWS) and denied.retry_after > LONGEST_WINDOW:
            raise Violation(f"{order.client_order_id} waits {denied.retry_after} for a window of {denied.by}")

    def _tried(self, account: int, order: Order) -> None:
        """Of an account whose login or line is dead, one exit at a time tries whether it lives again."""
        asked = [keys.health(account), "dead_version", "failures", "limited_exit"]
        dead, failures, limited = self._store.server.keys.call("HMGET", asked)
        version = self._store.server.keys.call("HMGET", [keys.account(account), "version"])[0]
        if limited or not (dead == version or int(failures or 0) >= OPENS_AFTER):
            return
        last, self._tried_at[account] = self._tried_at.get(account), self._now()
        if last is not None and self._now() - last < timedelta(microseconds=EXIT_PROBE_US):
            raise Violation(f"{order.client_order_id} tries account {account} {self._now() - last} after another")

    def _charge(self, run_id: RunId, account: int, slot: Slot) -> None:
        second = codec.to_us(self._now()) // 1_000_000
        windows = [(account, name, second // length) for name, length in _WINDOWS.items()]
        self._last[run_id] = [each for each in windows if f"rate_{each[1]}" in self._limits]
        for window in self._last[run_id]:
            if window not in self._charged and self._was_lost:
                self._charged[window] = int(self._counted(window) or 1) - 1
            self._charged[window] += 1
            limit = self._limits[f"rate_{window[1]}"]
            if slot is Slot.ENTRY:
                limit -= self._limits.get(f"reserve_{window[1]}", 0)
            if self._charged[window] > limit and not (slot is Slot.EXIT and window[1] == "day"):
                raise Violation(f"account {account} was granted {self._charged[window]} of {limit} a {window[1]}")
            self._compare(window)

    def _given_back(self, run: Run) -> None:
        run_id, name = run.id, self._last_order.get(run.id)
        book = self._brokers[run.strategy.account_id].book
        # One of before the live state went may have borne the same name.
        since = self._began_at
        if any(each.request.client_order_id == name and (each.placed_at or since) > since for each in book):
            raise Violation(f"the rate of {name} was given back, and its broker has it")
        for window in self._last.pop(run_id, []):
            self._charged[window] -= 1
            self._compare(window)

    def _counted(self, window: tuple[int, str, int]) -> str | None:
        account, name, number = window
        return self._store.server.keys.do_get(f"account:{account}:rate:{name}:{number}")

    def _compare(self, window: tuple[int, str, int]) -> None:
        account, name, _ = window
        counted = self._counted(window)
        # A window that is over is forgotten.
        if counted is not None and int(counted) != self._charged[window]:
            raise Violation(f"account {account} is charged {counted} a {name}, and was granted {self._charged[window]}")
