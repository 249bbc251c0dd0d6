"""The paper broker's state without its wire: clock, tape, last prices, accounts and their books.

Everything moves through `advance`; `real` is real time and the only time it is given.
"""

import itertools
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from broker_connector.kite_words import IST
from broker_connector.paper.accounts import KITE_LIMITS, Account, Accounts, Limiter
from broker_connector.paper.book import Book
from broker_connector.paper.candles import Trade
from broker_connector.paper.clock import MarketClock
from broker_connector.paper.gtt import Triggers
from broker_connector.paper.orders import BookOrder, BookSettings
from broker_connector.paper.settlement import trading_days
from broker_connector.paper.symbols import Listing, money
from broker_connector.paper.tape import Encoder, Market, Tape

#: Ticks one step takes at most, so that a long catch-up leaves room for orders between its parts.
BATCH = 5000


class TickOut(NamedTuple):
    """One tick to send: the full packet's body."""

    token: int
    body: bytes


class Exchange:
    """Prices move by the tape, orders by the prices; `order_changed` hears of every change of an order."""

    def __init__(
        self,
        market: Market,
        settings: BookSettings,
        clock: MarketClock,
        first_id: int,
        order_changed: Callable[[str, BookOrder], None] = lambda _account, _order: None,
    ) -> None:
        self.market, self.settings, self.clock = market, settings, clock
        #: Whether somebody set the clock since it was made.
        self.is_wound = False
        self.accounts = Accounts()
        self.order_changed = order_changed
        self.by_token: dict[int, Listing] = {}
        self.by_name: dict[str, Listing] = {}
        #: What a symbol of the market is listed as now, by the name the market gives it.
        self.relisted: dict[str, Listing] = {}
        self._listed: list[Listing] = []
        #: How old the last trade of a symbol is told to be, seconds, by the market's name.
        self._idle: dict[str, int] = {}
        self.ticks_sent = 0
        #: Money; told to the books by token.
        self.last: dict[int, Decimal] = {}
        self._bodies: dict[int, bytes] = {}
        #: What came from outside the tape, by token.
        self._told: dict[int, list[Trade]] = {}
        self._position = 0
        self._day = clock.market_anchor.astimezone(IST).date()
        self.tape: Tape = market.tape(self._day)
        self._ids = itertools.count(first_id)
        self._open_tape(clock.market_anchor)

    def add_account(
        self,
        account_id: str,
        api_key: str,
        access_token: str,
        api_secret: str = "",
        limits: Mapping[str, int] | None = None,
    ) -> Account:
        """Open an account, or give a known one new keys and limits; its book stays."""

        def changed(order: BookOrder) -> None:
            self.order_changed(account_id, order)

        known = self.accounts.by_id.get(account_id)
        book = known.book if known else Book(self.settings, self.next_id, self.last.get, changed)
        limiter = Limiter(KITE_LIMITS if limits is None else limits)
        triggers = known.triggers if known else Triggers(self.next_id, lambda each, now: book.place(each, now).order_id)
        account = Account(account_id, api_key, api_secret, book, limiter, triggers, {access_token})
        if known:
            account.moved, account.overnight, account.shares = known.moved, known.overnight, known.shares
        self.accounts.add(account)
        return account

    def change_settings(self, changes: Mapping[str, Any]) -> BookSettings:
        """Replace some settings, for orders still to come; raises TypeError at an unknown name."""
        self.settings = replace(self.settings, **changes)
        for account in self.accounts.by_id.values():
            account.book.settings = self.settings
        return self.settings

    def reset(self) -> None:
        """Empty every book; accounts, tokens, clock and prices stay."""
        for old in list(self.accounts.by_id.values()):
            self.accounts.remove(old)
            account = self.add_account(old.account_id, old.api_key, "", old.api_secret, old.limiter.limits)
            account.tokens = old.tokens

    def set_clock(self, clock: MarketClock) -> None:
        """Wind the market to another time; a later day ends the one there is, else books stay as they are."""
        self.clock, self.is_wound = clock, True
        self._open_tape(clock.market_anchor)

    def resume(self, day: date, told: Mapping[int, Trade], relisted: Mapping[str, Listing], real: datetime) -> None:
        """Go on from market day `day` with what was `told` then: the nights since pass, or the prices stand again."""
        now = self.now(real)
        self.relisted |= relisted
        self._open_tape(now)
        if day < self._day:
            self.night(now, trading_days(day, self._day, always_open=self.settings.always_open))
        if day != self._day:
            return
        for token, trade in told.items():
            index = self._index.get(token)
            if index is None:
                continue
            self._told.setdefault(token, []).append(trade)
            if trade.at >= self._last_due(index):
                self._tick(index, trade.price, int(trade.at), 0, good=True, now=now)

    def told(self) -> dict[int, Trade]:
        """The last price of each symbol that came from outside the tape today, by token."""
        return {token: trades[-1] for token, trades in self._told.items() if trades}

    def idle(self, listing: Listing, seconds: int) -> None:
        """Tell from the next tick on that a symbol last traded so many seconds before it."""
        index = self._index[listing.token]
        self._idle[self.tape.listed[index].name] = self._encoders[index].idle = seconds

    def relist(self, listing: Listing, name: str | None, token: int | None) -> Listing:
        """Give a symbol another name or token, as happens over night; raises ValueError where it is taken."""
        new = Listing(name or listing.name, token or listing.token)
        if self.by_name.get(new.name, listing) != listing or self.by_token.get(new.token, listing) != listing:
            raise ValueError(f"{new} is taken")
        day, index = [encoder.day for encoder in self._encoders], self._index[listing.token]
        self.relisted[self.tape.listed[index].name] = new
        self._list()
        for encoder, seen in zip(self._encoders, day, strict=True):
            encoder.day = seen
        if listing.token in self.last:
            self.last[new.token] = self.last.pop(listing.token)
            self._bodies[new.token] = new.token.to_bytes(4, "big") + self._bodies.pop(listing.token)[4:]
        self._told[new.token] = self._told.pop(listing.token, [])
        for account in self.accounts.by_id.values():
            account.relist(listing.token, new)
        return new

    def night(self, now: datetime, days: int = 1) -> None:
        """Let `days` trading days end for every account; more than two do what two do."""
        for account in self.accounts.by_id.values():
            for _ in range(min(days, 2)):
                account.sleep(now)

    def now(self, real: datetime) -> datetime:
        """Market time."""
        return self.clock.now(real)

    def snapshot(self, token: int) -> bytes | None:
        """The packet of a symbol's last good tick; None before its first."""
        return self._bodies.get(token)

    def encoder(self, token: int) -> Encoder:
        """What full packets of a symbol tell besides its price."""
        return self._encoders[self._index[token]]

    def price(self, listing: Listing, units: int, real: datetime) -> TickOut:
        """A tick from outside the tape, believed by the book."""
        now = self.now(real)
        self._told.setdefault(listing.token, []).append(Trade(now.timestamp(), units, 1))
        return self._tick(self._index[listing.token], units, int(now.timestamp()), 0, good=True, now=now)

    def trades(self, token: int) -> list[Trade]:
        """The good ticks of a symbol so far today, in order, with what traded since the one before."""
        tape, place = self.tape, self._index[token]
        sent = tape.symbol[: self._position]
        found, before = [], 0
        for at, symbol in enumerate(sent):
            if symbol == place and tape.good[at]:
                volume = tape.volume[at]
                found.append(Trade(tape.due[at], tape.price[at], max(0, volume - before)))
                before = volume
        return sorted(found + self._told.get(token, []))

    def advance(self, real: datetime) -> list[TickOut]:
        """Everything due by `real`, at most BATCH ticks: prices, then the fills they and the time allow."""
        now = self.now(real)
        if now.astimezone(IST).date() != self._day and self._position == len(self.tape):
            self._open_tape(now)
        tape = self.tape
        end = bisect_left(tape.due, now.timestamp(), self._position, min(len(tape), self._position + BATCH))
        sent = [
            self._tick(
                tape.symbol[at], tape.price[at], tape.stamp[at], tape.volume[at], good=bool(tape.good[at]), now=now
            )
            for at in range(self._position, end)
        ]
        self._position = end
        for account in self.accounts.by_id.values():
            account.book.advance(now)
        return sent

    def next_due(self, real: datetime) -> datetime | None:
        """The real instant at which something happens next by itself; None for never."""
        moments = [due for book in self._books() if (due := book.next_due(self.now(real))) is not None]
        if self._position < len(self.tape):
            moments.append(datetime.fromtimestamp(self.tape.due[self._position], IST))
        return self.clock.real_at(min(moments)) if moments else None

    @property
    def day(self) -> date:
        """The market's date."""
        return self._day

    def close(self, token: int) -> int:
        """Where a symbol closed the day before, units."""
        return self.tape.closes[self._index[token]]

    def progress(self, real: datetime) -> dict[str, Any]:
        """How far the day is."""
        return {
            "market_time": self.now(real).isoformat(timespec="milliseconds"),
            "started": real >= self.clock.real_anchor,
            "speed": self.clock.speed,
            "ticks_sent": self.ticks_sent,
            "ticks_done": self._position,
            "ticks_total": len(self.tape),
            "finished": self._position == len(self.tape),
        }

    def _open_tape(self, now: datetime) -> None:
        """Put the day's tape in, at `now`; what is before only seeds the prices."""
        day = now.astimezone(IST).date()
        if day != self._day:
            if day > self._day:
                self.night(now, trading_days(self._day, day, always_open=self.settings.always_open))
            self._day, self.tape = day, self.market.tape(day)
        self._list()
        # Emptied, not replaced: the books look prices up in this very dictionary.
        self.last.clear()
        self._bodies.clear()
        self._told.clear()
        self._position = self.tape.until(now.timestamp())
        self._seed(range(self._position))

    def _list(self) -> None:
        """List what the tape has, under the names and tokens of now."""
        self._listed = [self.relisted.get(listing.name, listing) for listing in self.tape.listed]
        self._encoders = [
            Encoder(listing, close) for listing, close in zip(self._listed, self.tape.closes, strict=True)
        ]
        for encoder, listing in zip(self._encoders, self.tape.listed, strict=True):
            encoder.idle = self._idle.get(listing.name, 0)
        self._index = {listing.token: index for index, listing in enumerate(self._listed)}
        # The books look prices up by these very dictionaries, as the forms do.
        self.by_token.clear()
        self.by_name.clear()
        self.by_token |= {listing.token: listing for listing in self._listed}
        self.by_name |= {listing.name: listing for listing in self._listed}

    def _seed(self, ticks: Iterable[int]) -> None:
        tape, latest = self.tape, {}
        for at in ticks:
            if tape.good[at]:
                latest[tape.symbol[at]] = at
                self._encoders[tape.symbol[at]].day.see(tape.price[at])
        for index, at in latest.items():
            token = self._listed[index].token
            self.last[token] = money(tape.price[at])
            self._bodies[token] = self._encoders[index].encode(tape.price[at], tape.stamp[at], tape.volume[at])

    def _tick(self, index: int, units: int, stamp: int, volume: int, *, good: bool, now: datetime) -> TickOut:
        encoder, token = self._encoders[index], self._listed[index].token
        if good:
            encoder.day.see(units)
        body = encoder.encode(units, stamp, volume)
        if good:
            self.last[token], self._bodies[token] = money(units), body
            for account in self.accounts.by_id.values():
                account.book.on_price(token, now)
                account.triggers.on_price(token, self.last[token], now)
        self.ticks_sent += 1
        return TickOut(token, body)

    def _last_due(self, index: int) -> float:
        """When the tape last moved a symbol, market epoch seconds."""
        tape = self.tape
        places = range(self._position - 1, -1, -1)
        return next((tape.due[at] for at in places if tape.symbol[at] == index and tape.good[at]), 0.0)

    def _books(self) -> Iterable[Book]:
        return (account.book for account in self.accounts.by_id.values())

    def next_id(self) -> str:
        """An id that nothing has."""
        return str(next(self._ids))
