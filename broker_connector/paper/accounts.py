"""Accounts of the paper broker: who may speak, how often, and which book is theirs. `real` is real time.

Knows no HTTP; what is refused is raised as the broker's error.
"""

import hashlib
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from broker_connector.paper.book import Book
from broker_connector.paper.errors import bad_token, too_many
from broker_connector.paper.gtt import Triggers
from broker_connector.paper.portfolio import Holding, Lot, holdings_of
from broker_connector.paper.settlement import Share, carried, settle
from broker_connector.paper.symbols import Listing


class Budget(StrEnum):
    """The windows a broker counts requests in."""

    SECOND = "second"
    MINUTE = "minute"
    DAY = "day"
    #: Quotes a second.
    QUOTE = "quote"
    #: Candles a second.
    HISTORICAL = "historical"
    #: Every other request a second.
    OTHER = "other"


#: Kite's limits for one account; a window that is absent is unlimited.
KITE_LIMITS: Mapping[str, int] = {
    Budget.SECOND: 10,
    Budget.MINUTE: 400,
    Budget.DAY: 5000,
    Budget.QUOTE: 1,
    Budget.HISTORICAL: 3,
    Budget.OTHER: 10,
}

#: Length of the calendar window each budget is counted in, seconds.
_WINDOWS: Mapping[Budget, int] = {
    Budget.SECOND: 1,
    Budget.MINUTE: 60,
    Budget.DAY: 86_400,
    Budget.QUOTE: 1,
    Budget.HISTORICAL: 1,
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
    triggers: Triggers
    tokens: set[str] = field(default_factory=set)
    refresh_tokens: set[str] = field(default_factory=set)
    #: What was moved between products.
    moved: list[Lot] = field(default_factory=list)
    #: Positions carried into today.
    overnight: list[Lot] = field(default_factory=list)
    #: What it holds since before today.
    shares: list[Share] = field(default_factory=list)
    #: How many market seconds what is told of positions lags behind.
    lag: float = 0.0

    def held(self) -> list[Holding]:
        """What today's fills, and what was carried into today, come to."""
        return holdings_of(self.book.orders.values(), [*self.overnight, *self.moved])

    def held_before(self, now: datetime) -> list[Holding]:
        """The same as it is told at `now`."""
        until = now - timedelta(seconds=self.lag) if self.lag else None
        return holdings_of(self.book.orders.values(), [*self.overnight, *self.moved], until)

    @contextmanager
    def telling_of_before(self, seconds: float) -> Iterator[None]:
        """While it lasts, positions are told as they were so many market seconds ago."""
        self.lag, kept = seconds, self.lag
        try:
            yield
        finally:
            self.lag = kept

    def relist(self, token: int, listing: Listing) -> None:
        """Know what had `token` as `listing` from now on."""
        self.book.relist(token, listing)
        self.shares = [
            replace(share, token=listing.token, tradingsymbol=listing.name) if share.token == token else share
            for share in self.shares
        ]

    def sleep(self, now: datetime) -> None:
        """Let the trading day end: orders end with it, and positions become what they are in the morning."""
        self.book.close_day(now)
        held = self.held()
        self.shares, self.overnight, self.moved = settle(self.shares, held), carried(held), []
        self.book.forget_day()


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

    def log_in(self, api_key: str, request_token: str, checksum: str) -> tuple[Account, str, str]:
        """A fresh access and refresh token for whoever knows the secret; raises the broker's 403."""
        account = self._proven(api_key, request_token, checksum)
        return account, *_tokens(account)

    def renew(self, api_key: str, refresh_token: str, checksum: str) -> tuple[Account, str, str]:
        """The same for a refresh token, which is then spent; raises the broker's 403."""
        account = self._proven(api_key, refresh_token, checksum)
        if refresh_token not in account.refresh_tokens:
            raise bad_token()
        account.refresh_tokens.discard(refresh_token)
        return account, *_tokens(account)

    def log_out(self, api_key: str, access_token: str, refresh_token: str) -> None:
        """End a session by either of its tokens; raises the broker's 403."""
        account = self._by_key.get(api_key)
        if account is None or not (access_token in account.tokens or refresh_token in account.refresh_tokens):
            raise bad_token()
        account.tokens.discard(access_token)
        account.refresh_tokens.discard(refresh_token)

    def _proven(self, api_key: str, token: str, checksum: str) -> Account:
        account = self._by_key.get(api_key)
        if account is None or not token:
            raise bad_token()
        proof = hashlib.sha256((api_key + token + account.api_secret).encode()).hexdigest()
        if not secrets.compare_digest(proof.encode(), checksum.encode()):
            raise bad_token()
        return account


def _tokens(account: Account) -> tuple[str, str]:
    access_token, refresh_token = secrets.token_hex(16), secrets.token_hex(16)
    account.tokens.add(access_token)
    account.refresh_tokens.add(refresh_token)
    return access_token, refresh_token
