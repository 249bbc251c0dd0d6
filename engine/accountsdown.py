"""Accounts whose runs cannot be armed for their book is unreadable: a human is told once, and when they are back."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from engine.domain.routing import Alert
from engine.domain.run import Run
from engine.ports import AccountState, Log
from engine.telling import Once

#: How long an account may stay down after a rebuild before somebody is told, real time.
DOWN_FOR = timedelta(seconds=10)


@dataclass(slots=True)
class _Down:
    since: datetime | None = None
    reason: str = "its broker does not answer"
    told: bool = False


class AccountsDown:
    """Which accounts are down, for how long, and who was told."""

    def __init__(self, store: Once, log: Log) -> None:
        self._store = store
        self._log = log
        self._known: dict[int, _Down] = {}

    def heard(self, account_id: int, reason: str) -> None:
        """Keep why an account cannot be read."""
        self._known.setdefault(account_id, _Down()).reason = reason

    def look(self, account: AccountState, runs: Sequence[Run], now: datetime) -> None:
        """Tell of an account that has been down for a while, with `runs` that wait for it. Raises StoreClosed."""
        known = self._known.setdefault(account.id, _Down())
        known.since = known.since or now
        if known.told or now - known.since < DOWN_FOR:
            return
        held = ", ".join(f"{run.held} {run.strategy.symbol}" for run in runs if run.held > 0) or "nothing known of"
        message = (
            f"account {account.name} is down since {known.since:%H:%M:%S} UTC: {known.reason}; {len(runs)} of its runs "
            f"cannot be rebuilt, their stops do not fire; held: {held}. Authenticate it again, or mind it by hand"
        )
        self._tell(account, Alert("critical", "account_down", message), known.since)
        known.told = True

    def up(self, account: AccountState) -> None:
        """Its book was read; somebody who was told it was down is told. Raises StoreClosed."""
        known = self._known.get(account.id)
        if known is not None and known.told and known.since is not None:
            self._tell(account, Alert("info", "account_up", f"account {account.name} is back"), known.since)
        self._known.pop(account.id, None)

    def _tell(self, account: AccountState, alert: Alert, since: datetime) -> None:
        if self._store.alert_once(account.tenant, alert, f"{alert.code}:{account.id}:{since.isoformat()}"):
            self._log("alert", tenant=account.tenant, severity=alert.severity, code=alert.code, message=alert.message)
