"""Whether a feed that says it lives is deaf: its line beats, and the broker has lost what was subscribed on it.

A symbol is watched once a packet of it came over this connection, as the broker answers each subscription with one. Of
those that went quiet the broker's quote is the second witness: it tells a later trade at another price, and no packet
does. That a symbol is quiet proves nothing. Knows no connection and no clock.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

from engine.domain.feed import Asked

#: Seconds without a packet after which a symbol is asked about, and symbols of one question.
QUIET_FOR, MOST_ASKED = 5.0, 200


class Heard:
    """What the packets of one connection told last, by symbol. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[float, int, datetime | None]] = {}
        self._asked_at: dict[str, float] = {}

    def hear(self, symbol: str, price: int, traded_at: datetime | None, now: float) -> None:
        """Take in a packet: its price in units, and when that was traded where it says so.

        One that tells no price proves that its symbol is subscribed, and leaves it as quiet as it was.
        """
        if price == 0 and symbol in self._last:
            return
        self._last[symbol] = now, price, traded_at

    def spoken(self, symbols: Iterable[str]) -> list[str]:
        """Those of `symbols` a packet came of."""
        return [symbol for symbol in symbols if symbol in self._last]

    def forget(self, symbols: Iterable[str]) -> None:
        """These are subscribed anew, or no longer."""
        for symbol in symbols:
            self._last.pop(symbol, None)
            self._asked_at.pop(symbol, None)

    def quiet(self, now: float) -> list[str]:
        """The symbols to ask the broker about, those asked longest ago first."""
        found = [symbol for symbol, (heard_at, _, _) in self._last.items() if now - heard_at >= QUIET_FOR]
        chosen = sorted(found, key=lambda symbol: self._asked_at.get(symbol, 0.0))[:MOST_ASKED]
        self._asked_at |= dict.fromkeys(chosen, now)
        return chosen

    def missed(self, told: Mapping[str, Asked]) -> set[str]:
        """Symbols of which the broker tells a trade at another price than the last packet, and none before it."""
        return {symbol for symbol, word in told.items() if self._is_missed(symbol, word)}

    def silent_since(self, symbols: Collection[str], asked_at: float) -> set[str]:
        """Those of `symbols` of which no packet came since they were asked about."""
        return {symbol for symbol in symbols if symbol in self._last and self._last[symbol][0] < asked_at}

    def _is_missed(self, symbol: str, word: Asked) -> bool:
        last = self._last.get(symbol)
        return last is not None and word.price != last[1] and (last[2] is None or word.at >= last[2])
