"""Looks at when each account's login ends, and tells a human once ahead and once when it has."""

from collections.abc import Iterable
from datetime import datetime
from typing import Protocol

from engine.domain.routing import Alert
from engine.domain.token import word_on
from engine.ports import AccountState, Log


class Live(Protocol):
    """What it needs of the live state."""

    def trades(self, account_id: int) -> bool:
        """Whether the account has live runs."""

    def alert_once(self, tenant: str, alert: Alert, name: str) -> bool:
        """As `engine.ports.Store.alert_once`."""


class TokenWatch:
    """One look at every account: an account without a run is nobody's worry."""

    def __init__(self, store: Live, log: Log) -> None:
        self._store = store
        self._log = log

    def look(self, accounts: Iterable[AccountState], now: datetime) -> None:
        """Tell of every token that ends soon or has ended by real time `now`. Raises StoreClosed."""
        for account in accounts:
            if account.token_ends is None:
                continue
            alert = word_on(account.token_ends, now, account.tenant, account.name)
            if alert is None or not self._store.trades(account.id):
                continue
            once = f"{alert.code}:{account.id}:{account.token_ends:%Y%m%d%H%M}"
            if self._store.alert_once(account.tenant, alert, once):
                self._log(
                    "alert", tenant=account.tenant, severity=alert.severity, code=alert.code, message=alert.message
                )
