"""The simulated PostgreSQL: what was drained of the ledger, and the epochs. Outlives every loss of the live state."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from typing import Any

from engine.domain.run import ExitReason, Latch, Run, RunStatus
from engine.domain.strategy import StopMode, Strategy
from engine.ports import AccountState
from engine.runtime import codec
from engine.simulation.store import MemoryStore


def _latch(body: dict[str, Any]) -> Latch:
    told = body["latch"]
    return Latch(told["price"], codec.from_us(told["time"]), told["event"], codec.from_us(told["seen_at"]))


#: Records of what was asked of a run from outside, and what they make of it.
_ASKED: dict[str, Callable[[Run, dict[str, Any]], Run]] = {
    "latched": lambda run, body: replace(run, latch=_latch(body)),
    "latch_dropped": lambda run, _body: replace(run, latch=None),
    "stop_requested": lambda run, body: replace(run, stop_requested=StopMode(body["stop_requested"])),
}


class SimulatedDurable:
    """The `Durable` port, and the drainer that feeds it."""

    def __init__(self, accounts: Sequence[AccountState], runs: Sequence[Run]) -> None:
        self._accounts = accounts
        self._runs = {str(run.id): run for run in runs}
        self._epoch: tuple[int, str] | None = None

    def drain(self, store: MemoryStore, count: int) -> None:
        """Carry the first `count` records of the ledger over and trim them."""
        for record in store.ledger[:count]:
            body = json.loads(record["body"])
            run = self._runs.get(record["run"])
            if run is None:
                continue
            if body["kind"] in _ASKED:
                self._runs[record["run"]] = _ASKED[body["kind"]](run, body)
            if "state" not in body:
                continue
            for order in body["orders"]:
                order.pop("stages", None)
                run = run.with_order(codec.order_from_json(json.dumps(order)))
            state = body["state"]
            reason = ExitReason(state["exit_reason"]) if state["exit_reason"] else None
            self._runs[record["run"]] = replace(
                run, status=RunStatus(state["status"]), failure=state["failure"], exit_reason=reason
            )
        del store.ledger[:count]

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

    def unarmed(self, _day: date) -> Sequence[Strategy]:
        return []

    def create_runs(self, runs: Sequence[Run]) -> None:
        self._runs |= {str(run.id): run for run in runs if str(run.id) not in self._runs}

    def open_runs(self) -> Sequence[Run]:
        return [
            run
            for run in self._runs.values()
            if run.status is RunStatus.ACTIVE
            or (run.status is RunStatus.FAILED and (run.watched or not run.is_terminal))
        ]
