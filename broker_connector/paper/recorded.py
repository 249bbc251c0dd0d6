"""A recorded day as a tape: DIR/SYMBOL.csv.gz with `timestamp,ltp,volume` in IST; DIR's name is the date.

Its illnesses are kept, for an engine must live with them: what the recorder wrote is sent. Only the book is
spared, see `Row.good`.
"""

import gzip
import math
from collections.abc import Iterable
from datetime import date, datetime, time
from itertools import islice, pairwise
from operator import itemgetter
from pathlib import Path
from statistics import median_low
from typing import NamedTuple

from broker_connector.kite_words import IST
from broker_connector.paper.symbols import SCALE, Listing, listings
from broker_connector.paper.tape import Row, Tape
from broker_connector.ticker import INT32_MAX, INT32_MIN, UINT32_MAX

#: Good ticks in the session whose median stands for the close of the day before, which no recording holds:
#: a sick first row cannot move it.
CLOSE_SAMPLE = 100

#: How far off a price must be from those before and after it to be a spike: a fraction, and steps of the price.
SPIKE, SPIKE_TICKS = 0.05, 2

_SUFFIX = ".csv.gz"
#: The recorded session, exchange time.
OPENS, CLOSES = time(9, 15), time(15, 30)


class Price(NamedTuple):
    """A price as the wire carries it, units, and what the text was."""

    units: int
    is_number: bool
    #: Whether the book may believe it: positive, and no larger than the wire can tell.
    is_sane: bool


class RecordedMarket:
    """The market of one recorded day; whatever day is asked for, it plays that one."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.day = date.fromisoformat(directory.name)
        names = [path.name.removesuffix(_SUFFIX) for path in directory.glob(f"*{_SUFFIX}")]
        if not names:
            raise FileNotFoundError(f"no *{_SUFFIX} in {directory}")
        self.listed: list[Listing] = listings(names)
        self._tape: Tape | None = None

    def tape(self, day: date) -> Tape:
        """The recorded ticks of all symbols, by the moment they are due; read once."""
        del day
        if self._tape is None:
            self._tape = self._read()
        return self._tape

    def _read(self) -> Tape:
        stamps = Stamps(self.day)
        opens, ends = (datetime.combine(self.day, edge, IST).timestamp() for edge in (OPENS, CLOSES))
        rows: list[Row] = []
        closes = []
        for index, listing in enumerate(self.listed):
            with gzip.open(self._directory / f"{listing.name}{_SUFFIX}", "rt", newline="") as file:
                ticks = rows_of(file, stamps, opens, index)
            spare_spikes(ticks, listing.tick_units)
            rows += ticks
            closes.append(previous_close(ticks, opens, ends))
        # Stable, so a symbol's rows keep their order among those due at one moment.
        rows.sort(key=itemgetter(0))
        return Tape(self.listed, closes, rows)


class Stamps:
    """Stamps of one market day as (epoch seconds, whether of that day); (0, False) where a text is none.

    Remembers what it read: the symbols of a day share their stamps, and reading them is half the loading time.
    """

    def __init__(self, day: date) -> None:
        self._day = day
        self._known: dict[str, tuple[int, bool]] = {}

    def read(self, text: str) -> tuple[int, bool]:
        """What `text` says, taken as IST where it names no zone."""
        known = self._known.get(text)
        if known is None:
            known = self._known[text] = self._parse(text)
        return known

    def _parse(self, text: str) -> tuple[int, bool]:
        try:
            stamp = datetime.fromisoformat(text.strip())
        except ValueError:
            return 0, False
        stamp = stamp.replace(tzinfo=IST) if stamp.tzinfo is None else stamp.astimezone(IST)
        return max(0, min(UINT32_MAX, int(stamp.timestamp()))), stamp.date() == self._day


def rows_of(lines: Iterable[str], stamps: Stamps, opening: float, symbol: int) -> list[Row]:
    """One symbol's file in sending order; `opening` is when a row is due that has nothing before it.

    Rows stamped on the day go by their stamps, ties as in the file. A row stamped elsewhere or not at all, or
    whose price is no number, has no moment of its own: it goes right after the row before it in the file.
    """
    rows: list[Row] = []
    prices: dict[str, Price] = {}
    due: float | None = None
    body = iter(lines)
    next(body, None)
    for line in body:
        if line.isspace():
            continue
        stamp_text, price_text, volume_text, *_ = *line.split(","), "", ""
        at, of_day = stamps.read(stamp_text)
        price = prices.get(price_text)
        if price is None:
            price = prices[price_text] = price_of(price_text)
        placed = of_day and price.is_number
        if placed:
            if due is None:
                rows = [row._replace(due=at) for row in rows]
            due = at
        moment = opening if due is None else due
        rows.append(Row(moment, symbol, price.units, at, _whole(volume_text), placed and price.is_sane))
    # Stable: what has no moment of its own stays behind the row it follows.
    rows.sort(key=itemgetter(0))
    return rows


def spare_spikes(rows: list[Row], tick_units: int) -> None:
    """Nobody traded at a lone price far off those before and after it: neither the book nor the day's low knows it."""
    good = [at for at, row in enumerate(rows) if row.good]
    before = good[0] if good else 0
    for at, after in pairwise(good[1:]):
        known, price, later = rows[before].price, rows[at].price, rows[after].price
        room = max(SPIKE * known, SPIKE_TICKS * tick_units)
        if abs(price - known) > room and abs(price - later) > room and abs(later - known) <= room:
            rows[at] = rows[at]._replace(good=False)
        else:
            before = at


def previous_close(rows: Iterable[Row], opens: float, ends: float) -> int:
    """The median of the first good prices in the session `opens` to `ends`, units; 0 where there is none."""
    in_session = (row.price for row in rows if row.good and opens <= row.due <= ends)
    sample = list(islice(in_session, CLOSE_SAMPLE))
    return median_low(sample) if sample else 0


def price_of(text: str) -> Price:
    """What is sent for `text`: 0 for no number, the nearest the wire can tell for one too large, infinity too."""
    try:
        units = float(text) * SCALE
    except ValueError:
        units = math.nan
    if math.isnan(units):
        return Price(0, is_number=False, is_sane=False)
    clamped = round(max(INT32_MIN, min(INT32_MAX, units)))
    return Price(clamped, is_number=True, is_sane=clamped > 0 and units <= INT32_MAX)


def _whole(text: str) -> int:
    try:
        return max(0, min(UINT32_MAX, int(text)))
    except ValueError:
        return 0
