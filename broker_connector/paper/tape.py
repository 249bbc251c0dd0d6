"""A day's ticks of all symbols in the order they are sent, and their packets. Pure: a source fills it.

Columns, not objects: half a million ticks of a recorded day fit in some 20 MB and are read by index.
"""

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from struct import Struct
from typing import NamedTuple, Protocol

from broker_connector.paper.symbols import Listing
from broker_connector.ticker import INT32_MAX, Mode, TickPacket, encode_full

_HEAD = Struct(">IiIiIII4iI12xI")
#: An index's packet: price, high, low, open, close, change, time.
_INDEX = Struct(">I6iI")
#: Levels of the order book on each side, and where they are in a packet.
LEVELS, _DEPTH_AT = 5, 64
_DEPTH = Struct(">" + "IiH2x" * 2 * LEVELS)


class Row(NamedTuple):
    """One tick. `due`: market epoch seconds at which it is sent; `stamp`: what it says; prices in units."""

    due: float
    symbol: int
    price: int
    stamp: int
    volume: int
    #: Whether the book may believe it.
    good: bool


@dataclass(slots=True)
class DayOfSymbol:
    """What full packets tell of a symbol besides its price, units; moves with its good ticks."""

    close: int
    open: int = 0
    high: int = 0
    low: int = 0
    #: Of all good prices so far, for their mean.
    total: int = 0
    count: int = 0

    def see(self, price: int) -> None:
        """Take a good price in."""
        self.total += price
        self.count += 1
        if not self.open:
            self.open = self.high = self.low = price
        self.high = max(self.high, price)
        self.low = min(self.low, price)


class Market(Protocol):
    """Where a day's prices come from."""

    @property
    def listed(self) -> Sequence[Listing]:
        """Every symbol it has prices for."""

    def tape(self, day: date) -> "Tape":
        """The ticks of the market day `day`, the same whenever it is asked."""


class Columns:
    """Ticks by field, see `Row`: half a million of them in some 12 MB."""

    def __init__(self, rows: Sequence[Row] = ()) -> None:
        """`rows` in sending order, their numbers within what the wire carries."""
        self.due = array("d", [row[0] for row in rows])
        self.symbol = array("H", [row[1] for row in rows])
        self.price = array("i", [row[2] for row in rows])
        self.stamp = array("I", [row[3] for row in rows])
        self.volume = array("I", [row[4] for row in rows])
        self.good = bytearray([row[5] for row in rows])

    def add(self, due: float, symbol: int, price: int, stamp: int, volume: int, good: int) -> None:
        """Append one tick."""
        self.due.append(due)
        self.symbol.append(symbol)
        self.price.append(price)
        self.stamp.append(stamp)
        self.volume.append(volume)
        self.good.append(good)

    def add_all(self, other: "Columns", first: int, last: int, shift: float = 0.0) -> None:
        """Append `other`'s ticks from `first` until `last`, `shift` seconds later; a sick stamp stays as it is."""
        part, goods = slice(first, last), other.good[first:last]
        due, stamp = other.due[part], other.stamp[part]
        if shift:
            due = array("d", [at + shift for at in due])
            stamp = array("I", [at + int(shift) * good for at, good in zip(stamp, goods, strict=True)])
        self.due.extend(due)
        self.stamp.extend(stamp)
        self.symbol.extend(other.symbol[part])
        self.price.extend(other.price[part])
        self.volume.extend(other.volume[part])
        self.good.extend(goods)

    def cut(self, end: float) -> None:
        """Drop the ticks due at `end` or later."""
        at = bisect_left(self.due, end)
        for column in (self.due, self.symbol, self.price, self.stamp, self.volume, self.good):
            del column[at:]


class Tape(Columns):
    """The ticks of one day in sending order, and the previous close of every symbol, units."""

    def __init__(self, listed: Sequence[Listing], closes: Sequence[int], rows: Sequence[Row] = ()) -> None:
        super().__init__(rows)
        self.listed, self.closes = tuple(listed), tuple(closes)

    @classmethod
    def of_columns(cls, listed: Sequence[Listing], closes: Sequence[int], columns: Columns) -> "Tape":
        """The tape that takes over `columns`."""
        tape = cls(listed, closes)
        vars(tape).update(vars(columns))
        return tape

    def __len__(self) -> int:
        return len(self.due)

    def until(self, market_epoch: float) -> int:
        """How many ticks are due before `market_epoch`."""
        return bisect_left(self.due, market_epoch)


class Encoder:
    """Full packets of one symbol. Only what changes between ticks is packed, into a template."""

    def __init__(self, listing: Listing, close: int) -> None:
        self._token = listing.token
        self._is_index, self._tick = listing.is_index, listing.tick_units
        self._body = bytearray(encode_full(TickPacket(listing.token, Mode.FULL, 0)))
        self.day = DayOfSymbol(close)
        #: How old the last trade is when a packet tells of it, seconds.
        self.idle = 0

    def encode(self, price: int, stamp: int, volume: int) -> bytes:
        """The body of a tick in full mode; its first bytes serve quote and ltp mode."""
        day = self.day
        if self._is_index:
            ohlc = (day.high, day.low, day.open, day.close)
            return _INDEX.pack(self._token, price, *ohlc, price - day.close, stamp)
        mean = day.total // day.count if day.count else price
        bids, asks = self._quantities(price, 1), self._quantities(price, 2)
        _HEAD.pack_into(
            self._body, 0, self._token, price, 1, mean, volume, sum(bids), sum(asks),
            day.open, day.high, day.low, day.close, max(0, stamp - self.idle), stamp,
        )  # fmt: skip
        _DEPTH.pack_into(self._body, _DEPTH_AT, *self._rows(bids, price - self._tick, -1), *self._rows(asks, price, 1))
        return bytes(self._body)

    def _quantities(self, price: int, side: int) -> list[int]:
        """An invented queue at each level: the same for the same price, so that a book stands while the price does."""
        return [(self._token + price * 7 + level * 13 * side) % 900 + 10 for level in range(LEVELS)]

    def _rows(self, quantities: Sequence[int], best: int, direction: int) -> list[int]:
        rows: list[int] = []
        for level, quantity in enumerate(quantities):
            price = best + direction * level * self._tick
            # Nobody bids at or below nothing, and a sick price must fit the wire.
            rows += (quantity, price, quantity % 17 + 1) if 0 < price < INT32_MAX else (0, 0, 0)
        return rows
