"""Invented days as tapes: seeded random walks around a trend, the same for the same seed, symbol and date.

The whole day exists ahead of time, so a demo can ask `path` how each of its strategies must end.
"""

import random
from array import array
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from functools import lru_cache

from broker_connector.kite_words import IST
from broker_connector.paper.symbols import OPENING_UNITS, TICK_UNITS, Listing, listings
from broker_connector.paper.tape import Columns, Row, Tape

#: Standard deviation of one step, fraction of the opening price.
STEP_NOISE = 0.0002
#: Part of the distance to the trend line a step makes good.
REVERSION = 0.002
#: Bounds of what the trend gains over a whole day, fraction of the opening price.
TREND = 0.03
#: How far from the opening price a path may go, fraction: inside the exchange's price band.
LIMIT = 0.08
#: Opening prices drawn for symbols without one of their own, units.
_DRAWN_OPEN = (20_000, 300_000)


class SyntheticMarket:
    """Symbols that tick every `step` market seconds between `opens` and `closes`."""

    def __init__(
        self,
        seed: int,
        symbols: Sequence[str] = tuple(OPENING_UNITS),
        opens: time = time(9, 15),
        closes: time = time(15, 30),
        step: float = 1.0,
    ) -> None:
        self.listed: list[Listing] = listings(symbols)
        self._seed = seed
        self._opens, self._closes, self._step = opens, closes, step

    def path(self, symbol: str, day: date) -> Sequence[tuple[datetime, int]]:
        """Every (aware market time, price in units) of `symbol` on `day`."""
        start = self._start(day)
        return [(start + timedelta(seconds=self._step * n), price) for n, price in enumerate(self._walk(symbol, day))]

    def tape(self, day: date) -> Tape:
        """The ticks of `day`."""
        start, symbols, steps = self._start(day).timestamp(), len(self.listed), self._steps(day)
        columns = Columns()
        # Every symbol ticks at every step, so a tape is their walks interleaved.
        columns.due = array("d", [start + n * self._step for n in range(steps) for _ in range(symbols)])
        columns.stamp = array("I", map(int, columns.due))
        columns.symbol = array("H", range(symbols)) * steps
        columns.price = array("i", bytes(4 * steps * symbols))
        columns.volume = array("I", [n for n in range(steps) for _ in range(symbols)])
        columns.good = bytearray(b"\x01") * (steps * symbols)
        for index, listing in enumerate(self.listed):
            columns.price[index::symbols] = array("i", self._walk(listing.name, day))
        closes = [opening_units(self._seed, listing.name) for listing in self.listed]
        return Tape.of_columns(self.listed, closes, columns)

    def _start(self, day: date) -> datetime:
        return datetime.combine(day, self._opens, IST)

    def _walk(self, symbol: str, day: date) -> tuple[int, ...]:
        return walk(f"{self._seed}/{symbol}/{day}", opening_units(self._seed, symbol), self._steps(day))

    def _steps(self, day: date) -> int:
        span = datetime.combine(day, self._closes) - datetime.combine(day, self._opens)
        return int(span.total_seconds() / self._step) + 1


class ManualMarket:
    """Symbols that never tick by themselves; prices come through the control interface."""

    def __init__(self, symbols: Sequence[str] = tuple(OPENING_UNITS), seed: int = 0) -> None:
        self.listed: list[Listing] = listings(symbols)
        self._seed = seed

    def tape(self, day: date) -> Tape:
        """One opening tick of each symbol at the start of `day`, to have a price at all."""
        due = datetime.combine(day, time(0), IST).timestamp()
        closes = [opening_units(self._seed, listing.name) for listing in self.listed]
        rows = [Row(due, index, price, int(due), 0, good=True) for index, price in enumerate(closes)]
        return Tape(self.listed, closes, rows)


def opening_units(seed: int, symbol: str) -> int:
    """Where `symbol` opens and closed the day before, units."""
    drawn = random.Random(f"{seed}/{symbol}").randint(*_DRAWN_OPEN)
    return OPENING_UNITS.get(symbol) or _to_grid(drawn)


@lru_cache(maxsize=64)
def walk(seed: str, opening: int, steps: int) -> tuple[int, ...]:
    """`steps` prices from `opening`, units on the tick grid: noise pulled back to a line that trends."""
    draw = random.Random(seed)
    gain = draw.uniform(-TREND, TREND) * opening / max(steps, 1)
    low, high = opening * (1 - LIMIT), opening * (1 + LIMIT)
    price = line = float(opening)
    prices = [opening]
    for _ in range(steps - 1):
        line += gain
        price += REVERSION * (line - price) + draw.gauss(0.0, STEP_NOISE * opening)
        price = min(high, max(low, price))
        prices.append(_to_grid(price))
    return tuple(prices)


def _to_grid(units: float) -> int:
    return round(units / TICK_UNITS) * TICK_UNITS
