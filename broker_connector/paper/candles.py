"""Candles of the paper broker: of the ticks that were sent, and an invented past that ends where they begin. Pure.

Prices are integer units, times epoch seconds; days are the exchange's.
"""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any, NamedTuple

from broker_connector.kite_words import IST
from broker_connector.paper.symbols import money
from broker_connector.paper.synthetic import walk

#: Interval -> (minutes of a candle, longest span one request may ask for, days).
INTERVALS: dict[str, tuple[int, int]] = {
    "minute": (1, 30),
    "2minute": (2, 30),
    "3minute": (3, 90),
    "4minute": (4, 90),
    "5minute": (5, 90),
    "10minute": (10, 90),
    "15minute": (15, 180),
    "30minute": (30, 180),
    "60minute": (60, 365),
    "hour": (60, 365),
    "2hour": (120, 365),
    "3hour": (180, 365),
    "4hour": (240, 365),
    "day": (24 * 60, 2000),
}
#: Minutes of a session, and when it opens.
SESSION_MINUTES, OPENS = 375, time(9, 15)
#: Units that trade in a minute of the invented past, at least and at most.
_VOLUME = (100, 5000)
_SATURDAY = 5
#: Seconds: of a day, from UTC to the exchange's time, from its midnight to the opening.
_DAY, _OFFSET, _OPENING = 86_400, 19_800, 33_300


class Trade(NamedTuple):
    """One price as candles see it; `volume`: units that traded with it."""

    at: float
    price: int
    volume: int


@dataclass(slots=True)
class Candle:
    """Prices of one interval."""

    start: int
    open: int
    high: int
    low: int
    close: int
    volume: int = 0

    def see(self, price: int, volume: int) -> None:
        """Take a trade in."""
        self.high, self.low = max(self.high, price), min(self.low, price)
        self.close = price
        self.volume += volume


def fold(trades: Iterable[Trade], minutes: int) -> Iterator[Candle]:
    """Candles of `trades`, which come in the order of their time; intervals without a trade have none."""
    current: Candle | None = None
    for trade in trades:
        start = _start(trade.at, minutes)
        if current is None or start != current.start:
            if current is not None:
                yield current
            current = Candle(start, trade.price, trade.price, trade.price, trade.price)
        current.see(trade.price, trade.volume)
    if current is not None:
        yield current


def past(name: str, seed: int, close: int, first: date, today: date) -> Iterator[Trade]:
    """A price a minute of the weekdays from `first` to yesterday; each day ends at `close`, where today's began."""
    for offset in range((today - first).days):
        day = first + timedelta(days=offset)
        if day.weekday() >= _SATURDAY:
            continue
        draw = random.Random(f"{seed}/{name}/{day}/volume")
        opening = datetime.combine(day, OPENS, IST).timestamp()
        # Backwards, a walk ends where it was begun.
        prices = reversed(walk(f"{seed}/{name}/{day}/past", close, SESSION_MINUTES))
        for minute, price in enumerate(prices):
            yield Trade(opening + 60 * minute, price, draw.randint(*_VOLUME))


def candle_json(candle: Candle, *, with_interest: bool) -> list[Any]:
    """A candle as the broker's array; shares have no open interest."""
    prices = (candle.open, candle.high, candle.low, candle.close)
    start = datetime.fromtimestamp(candle.start, IST)
    row = [start.strftime("%Y-%m-%dT%H:%M:%S%z"), *(float(money(price)) for price in prices), candle.volume]
    return [*row, 0] if with_interest else row


def _start(at: float, minutes: int) -> int:
    """The start of the interval `at` is in: counted from the session's opening, or the date itself."""
    midnight = int(at + _OFFSET) // _DAY * _DAY - _OFFSET
    if minutes * 60 == _DAY:
        return midnight
    opening = midnight + _OPENING
    return opening + int((at - opening) // (60 * minutes)) * 60 * minutes
