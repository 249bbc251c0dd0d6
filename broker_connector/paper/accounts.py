"""Accounts of the paper broker: who may speak, how often, and which book is theirs. `real` is real time.

Knows no HTTP; what is refused is raised as the broker's error.
"""

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from broker_connector.paper.book import Book
from broker_connector.paper.errors import bad_token, too_many


class Budget(StrEnum):
    """The windows a broker counts requests in."""

    SECOND = "second"
    MINUTE = "minute"
    DAY = "day"
    #: Quotes a second.
    QUOTE = "quote"
    #: Every other request a second.
    OTHER = "other"


#: Kite's limits for one account; a window that is absent is unlimited.
KITE_LIMITS: Mapping[str, int] = {
    Budget.SECOND: 10,
    Budget.MINUTE: 400,
    Budget.DAY: 5000,
    Budget.QUOTE: 1,
    Budget.OTHER: 10,
}

#: Length of the calendar window each budget is counted in, seconds.
_WINDOWS: Mapping[Budget, int] = {
    Budget.SECOND: 1,
    Budget.MINUTE: 60,
    Budget.DAY: 86_400,
    Budget.QUOTE: 1,
    Budget.OTHER: 1,
}

#: The budgets an order counts against.
ORDER_BUDGETS = (Budget.SECOND, Budget.MINUTE, Budget.DAY)


class Limiter:
    """Counts requests in calendar windows of real time."""

    def __init__(self, limits: Mapping[str, int]) -> None:
        self.limits = dict(limits)
        self._counts: dict[Budget, tuple[int, int]] = {}

    def spend(self, budgets: tuple[Budget, ...], real: datetime) -> None:
        """Count one request against `budgets`; raises the broker's 429, and counts nothing, when one is spent."""
        epoch = real.timestamp()
        spent: dict[Budget, tuple[int, int]] = {}
        for budget in budgets:
            length = _WINDOWS[budget]
            window = int(epoch // length)
            since, count = self._counts.get(budget, (window, 0))
            count = count + 1 if since == window else 1
            if count > self.limits.get(budget, count):
                raise too_many(retry_after=(window + 1) * length - epoch)
            spent[budget] = (window, count)
        self._counts |= spent


@dataclass(slots=True)
class Account:
    """One client of the broker."""

    account_id: str
    api_key: str
    api_secret: str
    book: Book
    limiter: Limiter
    tokens: set[str] = field(default_factory=set)


class Accounts:
    """All accounts, found by what a request carries."""

    def __init__(self) -> None:
        self.by_id: dict[str, Account] = {}
        self._by_key: dict[str, Account] = {}

    def add(self, account: Account) -> None:
        """Take `account` in, in place of one of the same id."""
        known = self.by_id.get(account.account_id)
        if known is not None:
            self.remove(known)
        self.by_id[account.account_id] = account
        self._by_key[account.api_key] = account

    def remove(self, account: Account) -> None:
        """Forget `account`."""
        del self.by_id[account.account_id]
        self._by_key.pop(account.api_key, None)

    def authorized(self, api_key: str, access_token: str) -> Account:
        """The account that `access_token` opens; raises the broker's 403."""
        account = self._by_key.get(api_key)
        if account is None or access_token not in account.tokens:
            raise bad_token()
        return account

    def by_header(self, authorization: str) -> Account:
        """The account of an `Authorization: token api_key:access_token` header; raises the broker's 403."""
        scheme, _, pair = authorization.partition(" ")
        api_key, _, access_token = pair.partition(":")
        if scheme != "token":
            raise bad_token()
        return self.authorized(api_key, access_token)

    def log_in(self, api_key: str, request_token: str, checksum: str) -> tuple[Account, str]:
        """A fresh access token for whoever knows the secret; raises the broker's 403."""
        account = self._by_key.get(api_key)
        if account is None or not request_token:
            raise bad_token()
        proof = hashlib.sha256((api_key + request_token + account.api_secret).encode()).hexdigest()
        if not secrets.compare_digest(proof, checksum):
            raise bad_token()
        access_token = secrets.token_hex(16)
        account.tokens.add(access_token)
        return account, access_token
