"""What brokers list, by market: read daily before the session and again where a symbol is missing, from any account.

A dump that is empty or much smaller than the last one is refused: brokers publish such at dawn. Used by one thread at
a time; knows no strategy.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Protocol

from engine.domain.broker import BrokerUnreachable, Instrument
from engine.domain.routing import Alert
from engine.ports import AccountState, Brokers, Log, StoreClosed
from engine.reads import Reads

#: Wall time of the exchange at which a new day's dump is out, and may be read: before any session opens.
PUBLISHED = timedelta(hours=8, minutes=30)
#: Seconds to the next try where no account could read it, and to the next look where a symbol is missing or a dump was
#: refused: a dump is megabytes.
RETRY_AFTER, LOOK_AGAIN_AFTER = 5.0, 60.0
#: Seconds to the next look for an answer that is on its way.
LISTEN_AFTER = 0.5
#: The longest pause between two looks for what stays missing: it doubles up to here.
LONGEST_PAUSE = 900.0
#: Accounts without an answer after which a reading ends: theirs is one broker, and each costs its time limit.
MOST_SILENT = 2
#: A dump with a smaller share of the last one's instruments is not believed.
SHRUNK = 0.8


class Tells(Protocol):
    """Where people are told."""

    def alert_once(self, tenant: str, alert: Alert, name: str) -> bool:
        """As `engine.ports.Store.alert_once`."""


@dataclass(slots=True)
class _Shelf:
    """What is known of one exchange of one market."""

    listed: Mapping[str, Instrument]
    #: The day whose dump it is; None before one was believed.
    day: date | None = None
    #: Monotonic seconds before which it is not read again.
    not_before: float = 0.0
    #: Readings in a row that told nothing new of what is missing.
    fruitless: int = 0
    #: Where among the accounts the next reading begins.
    turn: int = 0


class Instruments:
    """The dumps of every market."""

    def __init__(
        self,
        brokers: Brokers,
        today: Callable[[str, datetime], date],
        tells: Tells,
        log: Log,
        passed: Callable[[], float] = time.monotonic,
        threads: int = 0,
    ) -> None:
        """`today`: the date at an exchange. `threads`: how many dumps are read at a time while the caller goes on; 0
        reads them in its own."""
        self._reads: Reads[tuple[int, str, date], Mapping[str, Instrument]] = Reads(threads=threads)
        self._brokers = brokers
        self._today = today
        self._tells = tells
        self._log = log
        self._passed = passed
        self._shelves: dict[tuple[str, str], _Shelf] = {}

    def listed(
        self, market: str, exchange: str, accounts: Iterable[AccountState], now: datetime, wanted: Iterable[str] = ()
    ) -> Mapping[str, Instrument] | None:
        """What `market` lists at `exchange`, by symbol, at market time `now`; None while nobody can tell.

        `accounts` are asked in their order, those of this market alone. Where one of `wanted` is missing it is read
        again, but not at once.
        """
        day = self._today(exchange, now - PUBLISHED)
        shelf = self._shelves.setdefault((market, exchange), _Shelf({}))
        is_due = shelf.day != day or any(symbol not in shelf.listed for symbol in wanted)
        if is_due and self._passed() >= shelf.not_before:
            self._read(shelf, market, exchange, [each for each in accounts if each.market == market], day)
        return shelf.listed or None

    def is_of(self, market: str, exchange: str, day: date) -> bool:
        """Whether what is known is that day's dump."""
        shelf = self._shelves.get((market, exchange))
        return shelf is not None and shelf.day == day

    def _read(self, shelf: _Shelf, market: str, exchange: str, accounts: Iterable[AccountState], day: date) -> None:
        asked, silent, waits = [*accounts], 0, False
        for account in [*asked[shelf.turn :], *asked[: shelf.turn]]:
            if silent == MOST_SILENT:
                break
            found = self._dump(account, exchange, day)
            if found is None:
                silent, waits = silent + 1, True
                continue
            if isinstance(found, Exception):
                self._log("not_listed", account=account.id, exchange=exchange, reason=str(found))
                silent += isinstance(found, BrokerUnreachable)
                shelf.turn = (shelf.turn + 1) % len(asked)
                continue
            is_new_day, known = shelf.day != day, len(shelf.listed)
            shelf.fruitless = 0 if is_new_day or len(found) > known else shelf.fruitless + 1
            shelf.not_before = self._passed() + min(LOOK_AGAIN_AFTER * 2.0**shelf.fruitless, LONGEST_PAUSE)
            if found and len(found) >= SHRUNK * len(shelf.listed):
                shelf.listed, shelf.day = found, day
                self._log("listed", market=market, exchange=exchange, instruments=len(found), day=day.isoformat())
            else:
                self._refuse(shelf, market, exchange, len(found), day)
            return
        shelf.not_before = self._passed() + (LISTEN_AFTER if waits else RETRY_AFTER)

    def _dump(self, account: AccountState, exchange: str, day: date) -> Mapping[str, Instrument] | Exception | None:
        """What an account's broker lists on `day`, or why it does not; None while that is on its way."""

        def read() -> Mapping[str, Instrument]:
            broker = self._brokers.of(account.id, account.version)
            return {each.symbol: each for each in broker.instruments(exchange)}

        try:
            for _, answer in self._reads.ask({(account.id, exchange, day): read}):
                return answer
        except StoreClosed as error:
            return error
        return None

    def _refuse(self, shelf: _Shelf, market: str, exchange: str, count: int, day: date) -> None:
        known = len(shelf.listed)
        kept = f"the last one, of {known}, is kept" if known else "nothing can be armed until it lists something"
        message = f"{market} lists {count} instruments of {exchange} on {day}: not believed, {kept}; it is read again"
        self._log("list_refused", market=market, exchange=exchange, instruments=count, known=known)
        alert = Alert("critical" if not known else "warning", "instruments_refused", message)
        self._tells.alert_once("", alert, f"instruments_refused:{market}:{exchange}:{day}")
