"""Markets made of another: with an index beside the stocks, or one recorded session played at any hour. Pure."""

from collections.abc import Sequence
from datetime import date, datetime, time

from broker_connector.kite_words import IST
from broker_connector.paper.recorded import CLOSES, OPENS, RecordedMarket
from broker_connector.paper.symbols import INDEX, INDEX_TOKEN, Listing
from broker_connector.paper.tape import Columns, Market, Tape

#: Where the index closed the day before, units.
INDEX_CLOSE = 2_400_000
_DAY_SECONDS = 86_400


class WithIndex:
    """A market and, once a second, an index of it: the mean gain of its stocks on the close of the day before."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self.listed: Sequence[Listing] = [*market.listed, Listing(INDEX, INDEX_TOKEN)]

    def tape(self, day: date) -> Tape:
        """The ticks of `day` with the index's among them."""
        tape = self._market.tape(day)
        out, closes = Columns(), tape.closes
        gains = [0.0] * len(closes)
        total, counted, told = 0.0, sum(close > 0 for close in closes) or 1, 0
        seconds = [*map(int, tape.due), -1]
        for at, (symbol, price, good) in enumerate(zip(tape.symbol, tape.price, tape.good, strict=True)):
            if good and closes[symbol] > 0:
                gain = price / closes[symbol] - 1
                total += gain - gains[symbol]
                gains[symbol] = gain
            if seconds[at] != seconds[at + 1]:
                out.add_all(tape, told, at + 1)
                told, second = at + 1, seconds[at]
                out.add(second, len(closes), round(INDEX_CLOSE * (1 + total / counted)), second, 0, good=1)
        return Tape.of_columns(self.listed, [*closes, INDEX_CLOSE], out)


class AroundTheClock:
    """One recorded session, stamped and played as if it were today's, again and again from midnight on."""

    def __init__(self, market: Market, recorded: date) -> None:
        self._market, self._recorded = market, recorded
        self.listed: Sequence[Listing] = market.listed

    def tape(self, day: date) -> Tape:
        """The session's ticks on `day`, as often as they fit; what was sick in them stays as sick."""
        tape = self._market.tape(self._recorded)
        opens, closes = (_epoch(self._recorded, edge) for edge in (OPENS, CLOSES))
        first, last = tape.until(opens), tape.until(closes)
        midnight, span = _epoch(day, time.min), closes - opens
        out = Columns()
        for start in range(0, _DAY_SECONDS, int(span)):
            shift = midnight + start - opens
            out.add_all(tape, first, last, shift)
        out.cut(midnight + _DAY_SECONDS)
        return Tape.of_columns(self.listed, tape.closes, out)


def played_today(market: RecordedMarket, *, with_index: bool) -> Market:
    """The recording as today's market."""
    return AroundTheClock(WithIndex(market) if with_index else market, market.day)


def _epoch(day: date, edge: time) -> float:
    return datetime.combine(day, edge, IST).timestamp()
