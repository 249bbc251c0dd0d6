"""The simulated PostgreSQL: what was drained of the ledger, and the epochs. Outlives every loss of the live state."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import Any

from engine.domain.run import NOT_COVERED, ExitReason, Latch, Run, RunId, RunStatus
from engine.domain.strategy import StopMode, Strategy
from engine.ports import AccountState, Ended
from engine.runtime import codec, keys
from engine.simulation.livestate import LiveState


def _latch(body: dict[str, Any]) -> Latch:
    told = body["latch"]
    at, seen_at, latched_at = (codec.from_us(told[name]) for name in ("time", "seen_at", "latched_at"))
    return Latch(int(told["price"]), at, told["event"], seen_at, latched_at)


#: Records of what was asked of a run from outside, and what they make of it.
_ASKED: dict[str, Callable[[Run, dict[str, Any]], Run]] = {
    "latched": lambda run, body: replace(run, latch=_latch(body)),
    "latch_dropped": lambda run, _body: replace(run, latch=None),
    "stop_requested": lambda run, body: replace(run, stop_requested=StopMode(body["stop_requested"])),
}


#: What no row of an order keeps, and how it is rebuilt: whoever reads the book learns it again.
NOT_KEPT: dict[str, Any] = {
    "seen": False, "unsent": False, "settled": False, "repriced_at": None, "limit_price": None, "limit_shown": None,
    "reprices": 0, "quantity_shown": None, "beyond": 0, "cancels": 0,
    "rest_alerted": False, "double_alerted": False, "doubt_alerted": False, "refusal_alerted": False,
    "unseen_since": None, "agreed_since": None, "disputed_since": None, "dispute_alerted": False,
}  # fmt: skip


class SimulatedDurable:
    """The `Durable` port, and the drainer that feeds it."""

    def __init__(
        self,
        store: LiveState,
        accounts: Sequence[AccountState],
        runs: Sequence[Run],
        strategies: Sequence[Strategy],
        now: Callable[[], datetime],
    ) -> None:
        self._live = store
        self._accounts = [*accounts]
        self._strategies = strategies
        self._now = now
        #: Of each run, and of each tenant for what is of no run: the codes of its alerts, and when it was last told.
        self._alerts: defaultdict[str, dict[str, datetime]] = defaultdict(dict)
        self._heard: set[tuple[int, str]] = set()
        self._runs = {str(run.id): run for run in runs}
        self._epoch: tuple[int, str] | None = None
        self._stored: set[tuple[str, int, int]] = set()
        self._newest: dict[str, tuple[int, int]] = {}
        #: How many terminal records each event has, by (epoch, run, event id).
        self.terminals: Counter[tuple[int, str, str]] = Counter()

    def take(self, count: int) -> None:
        """Carry the first `count` records of the ledger over and trim them."""
        taken = self._live.ledger[:count]
        self._hear(taken)
        for record in taken:
            name, place = record["run"], (record["epoch"], record["seq"])
            if (name, *place) not in self._stored and name in self._runs:
                self._stored.add((name, *place))
                self._store(name, place, json.loads(record["body"]), repeated=record["repeated"])
        del self._live.ledger[:count]

    def _store(self, name: str, place: tuple[int, int], body: dict[str, Any], *, repeated: bool) -> None:
        run = self._runs[name]
        if body.get("event_id") and not repeated:
            self.terminals[place[0], name, body["event_id"]] += 1
        if body["kind"] in _ASKED:
            run = _ASKED[body["kind"]](run, body)
        if "state" in body and self._newest.get(name, (0, 0)) < place:
            self._newest[name] = place
            for order in body["orders"]:
                order.pop("stages", None)
                run = run.with_order(replace(codec.order_from_object(order), **NOT_KEPT))
            state = body["state"]
            reason = ExitReason(state["exit_reason"]) if state["exit_reason"] else None
            run = replace(run, status=RunStatus(state["status"]), failure=state["failure"], exit_reason=reason)
        self._runs[name] = run

    def request_stop(self, run_id: RunId, mode: StopMode) -> None:
        """A user's stop, kept before anything else is told of it."""
        name = str(run_id)
        if name in self._runs:
            self._runs[name] = replace(self._runs[name], stop_requested=mode)

    def run(self, run_id: RunId) -> Run:
        """A run, as far as it was drained."""
        return self._runs[str(run_id)]

    def is_failed(self, run_id: RunId) -> bool:
        """Whether the live state says so of a run; that its account lacks what it holds is no failure of its own."""
        fields = self._live.server.keys.call("HMGET", [keys.runtime(str(run_id)), "status", "failure"])
        return bool(fields[0] == RunStatus.FAILED and fields[1] != NOT_COVERED)

    def runs(self) -> Sequence[Run]:
        """Every run, as far as it was drained."""
        return [*self._runs.values()]

    def epoch(self) -> tuple[int, str] | None:
        return self._epoch

    def advance_epoch(self, redis_run_id: str) -> int:
        n = self._epoch[0] + 1 if self._epoch else 1
        self._epoch = (n, redis_run_id)
        return n

    def accounts(self) -> Sequence[AccountState]:
        return self._accounts

    def _hear(self, records: Iterable[dict[str, Any]]) -> None:
        """Keep the codes of the alerts that `records` tell."""
        for record in records:
            if '"alerts":[{' in record["body"] and (name := (record["epoch"], record["id"])) not in self._heard:
                self._heard.add(name)
                told = dict.fromkeys((alert["code"] for alert in json.loads(record["body"])["alerts"]), self._now())
                self._alerts[record["run"] or record["tenant"]] |= told

    def alerts_of(self, run: Run, since: datetime | None = None) -> set[str]:
        """Codes of what its owner was told of a run, or of its account, `since` then."""
        self._hear(self._live.ledger[:])
        told = [*self._alerts[str(run.id)].items(), *self._alerts[run.strategy.tenant].items()]
        return {code for code, at in told if since is None or at >= since}

    def alerts_to(self, tenant: str) -> set[str]:
        """Codes of what a tenant was told that is of no run, and what an operator was told."""
        self._hear(self._live.ledger[:])
        return {*self._alerts[tenant], *self._alerts[""]}

    def untraded(self) -> list[Strategy]:
        """Strategies that got no run."""
        known = {run.id.strategy_id for run in self._runs.values()}
        return [each for each in self._strategies if each.id not in known]

    def login(self, account_id: int) -> None:
        """Somebody has authenticated an account again."""
        self._accounts = [
            replace(each, version=f"{int(each.version) + 1}") if each.id == account_id else each
            for each in self._accounts
        ]

    def unarmed(self, day: date) -> Sequence[Strategy]:
        known = {run.id.strategy_id for run in self._runs.values() if run.id.trading_date == day}
        return [each for each in self._strategies if each.trades_on(day) and each.id not in known]

    def create_runs(self, runs: Sequence[Run]) -> None:
        self._runs |= {str(run.id): run for run in runs if str(run.id) not in self._runs}

    def drain(self, epoch: int) -> None:
        del epoch
        self.take(len(self._live.ledger))

    def ended(self, run_id: RunId) -> Ended | None:
        """What is left of a run that needs the engine no more, whatever the live state has lost."""
        run = self._runs.get(str(run_id))
        if run is None or any(each.id == run_id for each in self.open_runs(of=[run_id.strategy_id])):
            return None
        return Ended(run.strategy.account_id, run.strategy.tenant, run.orders)

    def open_runs(self, *, of: Collection[int] | None = None, before: date | None = None) -> Sequence[Run]:
        return [
            run
            for run in self._runs.values()
            if (
                run.status is RunStatus.ACTIVE
                or (run.status is RunStatus.FAILED and (run.watched or not run.is_terminal))
            )
            and (of is None or run.id.strategy_id in of)
            and (before is None or run.id.trading_date < before)
        ]
