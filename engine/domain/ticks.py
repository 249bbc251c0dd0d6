"""Ticks: prices as integer units on the wire, and the exchange's clock beside them.

Knows nothing of how a tick arrived or what it will trigger.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Tick:
    """One price of one symbol. `price`, `close` and the day's `low` in integer units (money x scale); 0 when not told.

    `exchange_time` is aware UTC, market time; None where the packet carries none. `traded_at` is when the price was
    traded, the same way: of an illiquid symbol that can be minutes before.
    """

    symbol: str
    price: int
    exchange_time: datetime | None
    close: int = 0
    traded_at: datetime | None = None
    low: int = 0


#: How many lows of one symbol are kept.
MOST_LOWS = 32


def lows(ticks: Iterable[Tick]) -> list[Tick]:
    """Of one symbol's ticks, oldest first, those that no later one reaches: the lowest price since any moment.

    A run is sold on a price since it bought: the lowest of all may be older. Of more than `MOST_LOWS`, those between
    the lowest and the last are thinned out.
    """
    found: list[Tick] = []
    for tick in ticks:
        while found and found[-1].price >= tick.price:
            found.pop()
        found.append(tick)
        if len(found) > MOST_LOWS:
            found = [found[0], *found[2:-1:2], found[-1]]
    return found


def to_units(price: Decimal, scale: int) -> int:
    """`price` in integer units, rounding a stop between two units up: it then fires no later than asked."""
    scaled = price * scale
    whole = int(scaled)
    return whole if whole == scaled else whole + 1


def from_units(units: int, scale: int) -> Decimal:
    """Money for integer `units`."""
    return Decimal(units) / scale
