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
from broker_connector.ticker import Mode, TickPacket, encode_full

_HEAD = Struct(">Ii4xiI8x4iI12xI")


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

    def see(self, price: int) -> None:
        """Take a good price in."""
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


class Tape:
    """The ticks of one day in sending order, and the previous close of every symbol, units."""

    def __init__(self, listed: Sequence[Listing], closes: Sequence[int], rows: Sequence[Row]) -> None:
        """`rows` in sending order, their numbers within what the wire carries."""
        self.listed, self.closes = tuple(listed), tuple(closes)
        self.due = array("d", [row[0] for row in rows])
        self.symbol = array("H", [row[1] for row in rows])
        self.price = array("i", [row[2] for row in rows])
        self.stamp = array("I", [row[3] for row in rows])
        self.volume = array("I", [row[4] for row in rows])
        self.good = bytearray([row[5] for row in rows])

    def __len__(self) -> int:
        return len(self.due)

    def until(self, market_epoch: float) -> int:
        """How many ticks are due before `market_epoch`."""
        return bisect_left(self.due, market_epoch)


class Encoder:
    """Full packets of one symbol. Only the head changes between ticks, so it is packed into a template."""

    def __init__(self, listing: Listing, close: int) -> None:
        self._token = listing.token
        self._body = bytearray(encode_full(TickPacket(listing.token, Mode.FULL, 0, last_quantity=1)))
        self.day = DayOfSymbol(close)

    def encode(self, price: int, stamp: int, volume: int) -> bytes:
        """The 184-byte body of a tick; its first 44 and 8 bytes serve quote and ltp mode."""
        day = self.day
        _HEAD.pack_into(
            self._body, 0, self._token, price, price, volume, day.open, day.high, day.low, day.close, stamp, stamp
        )  # fmt: skip
        return bytes(self._body)
