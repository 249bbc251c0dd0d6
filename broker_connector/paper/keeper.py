"""The paper broker's state in a file: accounts, orders, holdings, market time. What was answered survives a kill.

Written in one transaction before the answer leaves, so the file is never behind what a client was told.
"""

import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from broker_connector.paper.accounts import Account
from broker_connector.paper.candles import Trade
from broker_connector.paper.clock import MarketClock
from broker_connector.paper.exchange import Exchange
from broker_connector.paper.gtt import Trigger
from broker_connector.paper.orders import BookOrder
from broker_connector.paper.portfolio import Lot
from broker_connector.paper.settlement import Share
from broker_connector.paper.symbols import Listing

#: Seconds to wait for a paper broker that still holds the file.
LOCK_TIMEOUT = 5.0
_EXCHANGE = "exchange"
_TABLES = """
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS parts (name TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS orders (
    order_id TEXT PRIMARY KEY, account TEXT NOT NULL, is_past INTEGER NOT NULL, value BLOB NOT NULL
);
"""


class UnreadableState(Exception):
    """Raised when a file cannot be read, is no such file, or another paper broker uses it."""


@dataclass(frozen=True, slots=True)
class KeptAccount:
    """An account but for its orders."""

    account_id: str
    api_key: str
    api_secret: str
    limits: dict[str, int]
    tokens: tuple[str, ...]
    refresh_tokens: tuple[str, ...]
    moved: tuple[Lot, ...]
    overnight: tuple[Lot, ...]
    shares: tuple[Share, ...]
    triggers: tuple[Trigger, ...]


@dataclass(frozen=True, slots=True)
class KeptExchange:
    """What is no account's."""

    day: date
    #: None for real time.
    clock: MarketClock | None
    #: The last price of each symbol that was told from outside, by token.
    told: dict[int, Trade]
    #: Symbols with another name or token than the market's, by the market's name.
    relisted: dict[str, Listing]


_ACCOUNT, _SHARED, _ORDER = TypeAdapter(KeptAccount), TypeAdapter(KeptExchange), TypeAdapter(BookOrder)


class Keeper:
    """The file at `path`, made on first use."""

    def __init__(self, path: Path) -> None:
        """Raises UnreadableState."""
        try:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            self._file = sqlite3.connect(path, timeout=LOCK_TIMEOUT)
            self._file.executescript(_TABLES)
        except (OSError, sqlite3.Error) as error:
            raise UnreadableState(f"{path}: {error}") from error
        self._path = path
        #: What the file says of each part.
        self._parts: dict[str, bytes] = {}
        self._changed: dict[str, tuple[str, BookOrder]] = {}
        #: Orders whose day is over, by id.
        self._past: set[str] = set()

    def clock(self) -> MarketClock | None:
        """The market time that was set, None for real time. Raises UnreadableState."""
        kept = self._shared()
        return kept.clock if kept else None

    def restore(self, exchange: Exchange, real: datetime) -> None:
        """Put what was kept into `exchange`, and let the nights pass that nobody saw. Raises UnreadableState."""
        try:
            shared = self._shared()
            parts = self._file.execute(
                "SELECT value FROM parts WHERE name <> ? ORDER BY rowid", (_EXCHANGE,)
            ).fetchall()
            accounts = [_ACCOUNT.validate_json(value) for (value,) in parts]
            rows = self._file.execute("SELECT account, is_past, value FROM orders ORDER BY rowid").fetchall()
            orders = [(account, bool(is_past), _ORDER.validate_json(value)) for account, is_past, value in rows]
        except (sqlite3.Error, ValidationError) as error:
            raise UnreadableState(f"{self._path}: {error}") from error
        for each in accounts:
            _open(exchange, each)
        for account, is_past, order in orders:
            exchange.accounts.by_id[account].book.restore(order, is_past=is_past)
            self._past |= {order.order_id} if is_past else set()
        if shared is not None:
            exchange.resume(shared.day, shared.told, shared.relisted, real)

    def changed(self, account_id: str, order: BookOrder) -> None:
        """Write `order` with the next `save`."""
        self._changed[order.order_id] = account_id, order

    def save(self, exchange: Exchange) -> None:
        """Write what changed since the last time."""
        parts = self._news(exchange)
        over = {order_id for account in exchange.accounts.by_id.values() for order_id in self._over(account)}
        if not (parts or over or self._changed):
            return
        rows = [(order_id, account, _ORDER.dump_json(order)) for order_id, (account, order) in self._changed.items()]
        with self._file:
            self._file.executemany("INSERT OR REPLACE INTO parts VALUES (?, ?)", parts.items())
            self._file.executemany(
                "INSERT INTO orders VALUES (?, ?, 0, ?) ON CONFLICT (order_id) DO UPDATE SET value = excluded.value",
                rows,
            )
            self._file.executemany("UPDATE orders SET is_past = 1 WHERE order_id = ?", [(each,) for each in over])
        self._parts |= parts
        self._past |= over
        self._changed.clear()

    def forget(self) -> None:
        """Drop every order."""
        self._changed.clear()
        self._past.clear()
        with self._file:
            self._file.execute("DELETE FROM orders")

    def _shared(self) -> KeptExchange | None:
        try:
            found = self._file.execute("SELECT value FROM parts WHERE name = ?", (_EXCHANGE,)).fetchone()
            return _SHARED.validate_json(found[0]) if found else None
        except (sqlite3.Error, ValidationError) as error:
            raise UnreadableState(f"{self._path}: {error}") from error

    def _news(self, exchange: Exchange) -> dict[str, bytes]:
        parts = {f"account {each.account_id}": _account(each) for each in exchange.accounts.by_id.values()}
        clock = exchange.clock if exchange.is_wound else None
        parts[_EXCHANGE] = _SHARED.dump_json(KeptExchange(exchange.day, clock, exchange.told(), exchange.relisted))
        return {name: value for name, value in parts.items() if self._parts.get(name) != value}

    def _over(self, account: Account) -> Iterator[str]:
        """The orders that became past ones since the last time."""
        for order in reversed(account.book.past):
            if order.order_id in self._past:
                return
            yield order.order_id


def _account(account: Account) -> bytes:
    return _ACCOUNT.dump_json(
        KeptAccount(
            account.account_id,
            account.api_key,
            account.api_secret,
            account.limiter.limits,
            tuple(sorted(account.tokens)),
            tuple(sorted(account.refresh_tokens)),
            tuple(account.moved),
            tuple(account.overnight),
            tuple(account.shares),
            tuple(account.triggers.by_id.values()),
        )
    )


def _open(exchange: Exchange, kept: KeptAccount) -> None:
    account = exchange.add_account(kept.account_id, kept.api_key, "", kept.api_secret, kept.limits)
    account.tokens, account.refresh_tokens = set(kept.tokens), set(kept.refresh_tokens)
    account.moved, account.overnight, account.shares = list(kept.moved), list(kept.overnight), list(kept.shares)
    account.triggers.by_id = {each.trigger_id: each for each in kept.triggers}
