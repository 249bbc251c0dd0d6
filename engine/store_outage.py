"""Tells those whose positions no stop watches that the live state is away.

By the durable history alone: whatever else is told goes through the live state itself.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from engine.domain.market import blind_text
from engine.domain.routing import Alert
from engine.domain.run import Run
from engine.ports import Log

#: How long it may be away until somebody is told; as long as a feed.
TOLD_AFTER = timedelta(seconds=5)
#: What the alert is called.
AWAY = "store_away"


class Rows(Protocol):
    """What it needs of PostgreSQL."""

    def open_runs(self) -> Sequence[Run]:
        """Runs that still need the engine, with their orders."""

    def alert(self, at: datetime, tenant: str, alert: Alert) -> None:
        """Keep an alert that no record carries; tenant "" is the operator."""


class StoreOutage:
    """One outage at a time, told once and once more when it is over. Used by one thread of one process."""

    def __init__(self, rows: Rows, now: Callable[[], datetime], log: Log) -> None:
        self._rows = rows
        self._now = now
        self._log = log
        self._since: datetime | None = None
        self._told: set[str] = set()

    def away(self, why: str) -> None:
        """The live state took no call just now. Raises what the durable history raises: then it is told next time."""
        self._since = self._since or self._now()
        if "" in self._told or self._now() < self._since + TOLD_AFTER:
            return
        held: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
        for run in self._rows.open_runs():
            if run.held > 0 or any(order.is_live for order in run.orders):
                held[run.strategy.tenant][run.strategy.symbol] += run.held
        since = f"{self._since:%H:%M:%S} UTC"
        for tenant, symbols in sorted(held.items()):
            message = (
                f"the live state cannot be used since {since}: no stop can fire, nothing is bought or sold; held: "
                f"{blind_text(symbols)}, by what was stored last. Sell by hand what must not wait"
            )
            self._tell(tenant, Alert("critical", AWAY, message))
        message = f"the live state cannot be used since {since} ({why}): bring Redis back; {len(held)} tenants hold"
        self._tell("", Alert("critical", AWAY, message))

    def back(self) -> None:
        """The live state is open and takes calls."""
        for tenant in sorted(self._told):
            self._tell(tenant, Alert("info", "store_back", f"the live state is back at {self._now():%H:%M:%S} UTC"))
        self._since, self._told = None, set()

    def _tell(self, tenant: str, alert: Alert) -> None:
        if alert.code == AWAY and tenant in self._told:
            # The history refused another tenant's alert the last time.
            return
        self._rows.alert(self._now(), tenant, alert)
        self._told.add(tenant)
        self._log("alert", tenant=tenant, severity=alert.severity, code=alert.code, message=alert.message)
