"""Looks at when each account's login ends, and tells a human ahead, when it has, and when it is about to be missed."""

from collections.abc import Iterable
from datetime import datetime
from typing import Protocol

from engine.domain.moment import Moment
from engine.domain.routing import Alert
from engine.domain.token import AHEAD, word_on
from engine.ports import AccountState, Log


class Live(Protocol):
    """What it needs of the live state."""

    def first_trade(self, account_id: int) -> datetime | None:
        """When the first of the account's live runs buys or bought, market time; None where it has none."""

    def alert_once(self, tenant: str, alert: Alert, name: str) -> bool:
        """As `engine.ports.Store.alert_once`."""


class TokenWatch:
    """One look at every account: an account without a run is nobody's worry."""

    def __init__(self, store: Live, log: Log) -> None:
        self._store = store
        self._log = log

    def look(self, accounts: Iterable[AccountState], now: Moment) -> None:
        """Tell of every token that ends soon or has ended by `now`, each stage once. Raises StoreClosed."""
        for account in accounts:
            if account.token_ends is None or now.real < account.token_ends - AHEAD:
                continue
            first = self._store.first_trade(account.id)
            if first is None:
                continue
            alert = word_on(account.token_ends, first - now.market, now.real, account.tenant, account.name)
            if alert is None:
                continue
            once = f"{alert.code}:{account.id}:{account.token_ends:%Y%m%d%H%M}"
            if self._store.alert_once(account.tenant, alert, once):
                self._log(
                    "alert", tenant=account.tenant, severity=alert.severity, code=alert.code, message=alert.message
                )
