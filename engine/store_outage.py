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
#: What the alerts are called.
AWAY, BACK = "store_away", "store_back"


class Rows(Protocol):
    """What it needs of PostgreSQL."""

    def open_runs(self) -> Sequence[Run]:
        """Runs that still need the engine, with their orders."""

    def alert(self, at: datetime, tenant: str, alert: Alert) -> None:
        """Keep an alert that no record carries; tenant "" is the operator."""

    def told_last(self, code: str, or_else: str) -> set[str]:
        """Whom an alert of `code` was kept for since the last of `or_else`; "" is the operator."""


class StoreOutage:
    """One outage at a time, told once and once more when it is over. Used by one thread of one process.

    The log hears of it too: it takes a line though the durable history be away as well.
    """

    def __init__(self, rows: Rows, now: Callable[[], datetime], log: Log) -> None:
        self._rows = rows
        self._now = now
        self._log = log
        self._since: datetime | None = None
        self._is_logged = False
        #: Who was told, and not yet that it is over; None until the history was asked: another process may have told.
        self._told: set[str] | None = None

    def notice(self, why: str) -> bool:
        """The live state took no call just now; whether that has lasted long enough to be told."""
        self._since = self._since or self._now()
        if self._now() < self._since + TOLD_AFTER:
            return False
        if not self._is_logged:
            self._is_logged = True
            self._log(AWAY, since=self._since.isoformat(), reason=why)
        return True

    def away(self, why: str) -> None:
        """As `notice`, and tell of it. Raises what the durable history raises: then it is told next time."""
        if not self.notice(why) or "" in self._known():
            return
        held: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
        for run in self._rows.open_runs():
            if run.held > 0 or any(order.is_live for order in run.orders):
                held[run.strategy.tenant][run.strategy.symbol] += run.held
        since = f"{self._since or self._now():%H:%M:%S} UTC"
        for tenant, symbols in sorted(held.items()):
            message = (
                f"the live state cannot be used since {since}: no stop can fire, nothing is bought or sold; held: "
                f"{blind_text(symbols)}, by what was stored last. Sell by hand what must not wait"
            )
            self._tell(tenant, Alert("critical", AWAY, message))
        message = f"the live state cannot be used since {since} ({why}): bring Redis back; {len(held)} tenants hold"
        self._tell("", Alert("critical", AWAY, message))

    def end(self) -> None:
        """The live state takes calls; who was told of it is told of that by `back`."""
        self._since, self._is_logged = None, False

    def back(self) -> None:
        """As `end`, and tell who was told that it was away. Raises as `away`."""
        self.end()
        for tenant in sorted(self._known()):
            self._tell(tenant, Alert("info", BACK, f"the live state is back at {self._now():%H:%M:%S} UTC"))

    def leave(self) -> None:
        """Another process tells, from now on."""
        self.end()
        self._told = None

    def _known(self) -> set[str]:
        if self._told is None:
            self._told = self._rows.told_last(AWAY, BACK)
        return self._told

    def _tell(self, tenant: str, alert: Alert) -> None:
        """Tell `tenant` what it was not told of this outage yet."""
        known = self._known()
        if (tenant in known) == (alert.code == AWAY):
            # The history refused another tenant's alert the last time.
            return
        self._rows.alert(self._now(), tenant, alert)
        known ^= {tenant}
        self._log("alert", tenant=tenant, severity=alert.severity, code=alert.code, message=alert.message)
