"""The market calendar: an exchange's zone, its sessions by date, and wall times as UTC.

Pure but for the `holidays` package; the operator's overrides and confirmed years are passed in.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import lru_cache
from zoneinfo import ZoneInfo

import holidays

from engine.domain.strategy import SQUARE_OFF, Session, UnconfirmedYear

#: Exchange -> the zone its wall times are meant in.
ZONES: dict[str, ZoneInfo] = {"NSE": ZoneInfo("Asia/Kolkata"), "BSE": ZoneInfo("Asia/Kolkata")}

#: Both exchanges publish one list of trading holidays.
_HOLIDAY_CODE = {"NSE": "XNSE", "BSE": "XNSE"}

#: How `holidays` marks a date that hangs on a moon nobody has seen yet; the exchange's may be a day off.
_ESTIMATED = "(estimated)"

_SATURDAY = 5


@dataclass(frozen=True, slots=True)
class Hours:
    """Continuous trading on every regular day from `since` on, in wall times."""

    since: date
    opens: time
    closes: time
    #: Where it ends for a symbol with a closing auction, in which no stop works; None where there is no such auction.
    auction: time | None = None


#: Regular hours, the newest last; a change of hours is a row, so that older dates replay with theirs.
#: The first row is right from 2010-10-18 on; nothing older can be replayed.
REGULAR_HOURS: dict[str, tuple[Hours, ...]] = {
    exchange: (
        Hours(date.min, time(9, 15), time(15, 30)),
        Hours(date(2026, 8, 3), time(9, 15), time(15, 30), auction=time(15, 15)),
    )
    for exchange in ZONES
}


class OverrideKind(StrEnum):
    """What an override says of its date."""

    CLOSED = "closed"
    #: Open, at hours of its own.
    SPECIAL = "special"


@dataclass(frozen=True, slots=True)
class Override:
    """One date the holiday list has wrong or cannot know; `opens` and `closes` are wall times of a special session."""

    exchange: str
    date: date
    kind: OverrideKind
    opens: time | None = None
    closes: time | None = None
    note: str = ""

    def __post_init__(self) -> None:
        if self.kind is OverrideKind.CLOSED and (self.opens or self.closes):
            raise ValueError(f"{self.exchange} {self.date}: a closure has no hours")
        if self.kind is OverrideKind.SPECIAL and not (self.opens and self.closes and self.opens < self.closes):
            raise ValueError(f"{self.exchange} {self.date}: a special session opens before it closes")


#: One-off dates from the exchanges' circulars that the `holidays` package lacks.
BUILT_IN_OVERRIDES: tuple[Override, ...] = tuple(
    override
    for exchange in ZONES
    for override in (
        Override(exchange, date(2026, 1, 15), OverrideKind.CLOSED, note="municipal elections in Maharashtra"),
        Override(
            exchange,
            date(2026, 2, 1),
            OverrideKind.SPECIAL,
            time(9, 15),
            time(15, 30),
            "Union Budget, a Sunday",
        ),
    )
)

#: (exchange, year) whose holidays were compared with the exchange's circular.
BUILT_IN_CONFIRMED: frozenset[tuple[str, int]] = frozenset(
    (exchange, year) for exchange in ZONES for year in (2021, 2026)
)


@dataclass(frozen=True, slots=True)
class Holiday:
    """A date without trading, as the list has it; `is_estimated` where only the exchange's circular tells the date."""

    date: date
    name: str
    is_estimated: bool


class UnlistedYear(UnconfirmedYear):
    """Raised when `holidays` has nothing for a year: that is no list of no holidays, and nobody can confirm it."""

    def __init__(self, exchange: str, year: int) -> None:
        super().__init__(exchange, year, f"no holidays of {exchange} in {year} are known to the `holidays` package")


class UnknownExchange(ValueError):
    """Raised when an exchange is named that no zone is known for."""

    def __init__(self, exchange: str) -> None:
        super().__init__(f"{exchange} is not an exchange this engine knows; known are {', '.join(ZONES)}")


class Calendar:
    """Sessions of the exchanges. Later `overrides` outrank earlier ones and all outrank the built-in ones.

    A place is an exchange ("NSE"), or a symbol of it ("NSE:INFY"), whose continuous trading may end earlier.
    """

    def __init__(
        self,
        overrides: Iterable[Override] = (),
        confirmed: Iterable[tuple[str, int]] = (),
        *,
        square_off: timedelta = SQUARE_OFF,
        no_auction: Iterable[str] = (),
    ) -> None:
        """`square_off`: how long before a session's end; `no_auction`: places known to have no closing auction."""
        self._square_off = square_off
        self._no_auction = frozenset(no_auction)
        self._word: tuple[tuple[Override, ...], frozenset[tuple[str, int]]] = ((), frozenset())
        self.learn(overrides, confirmed)

    def learn(self, overrides: Iterable[Override], confirmed: Iterable[tuple[str, int]]) -> bool:
        """Take the operator's word as it now is, in the place of what it was; whether it is another."""
        before, self._word = self._word, (tuple(overrides), frozenset(confirmed))
        said, self._operators_years = self._word
        self._overrides = {(each.exchange, each.date): each for each in (*BUILT_IN_OVERRIDES, *said)}
        return before != self._word

    @property
    def word(self) -> tuple[tuple[Override, ...], frozenset[tuple[str, int]]]:
        """The operator's word as it was learned last: overrides and confirmed years."""
        return self._word

    def today(self, exchange: str, now: datetime) -> date:
        """The date at `exchange` when it is `now` (aware)."""
        return now.astimezone(_zone(exchange)).date()

    def to_utc(self, exchange: str, day: date, wall: time) -> datetime:
        """The instant of `wall` on `day` at `exchange`, aware UTC."""
        return datetime.combine(day, wall, _zone(exchange)).astimezone(UTC)

    def session(self, place: str, day: date) -> Session | None:
        """The session of `day` at `place`, None where it is closed; raises UnconfirmedYear, UnknownExchange."""
        exchange = place.partition(":")[0]
        override = self._overrides.get((exchange, day))
        if override is not None:
            return self._between(exchange, day, override.opens, override.closes)
        _zone(exchange)
        if not self._is_certain(exchange, day):
            raise UnconfirmedYear(exchange, day.year)
        if day.weekday() >= _SATURDAY or day in _holidays(exchange, day.year):
            return None
        hours = next(each for each in reversed(REGULAR_HOURS[exchange]) if each.since <= day)
        has_auction = hours.auction is not None and place != exchange and not {place, exchange} & self._no_auction
        return self._between(exchange, day, hours.opens, hours.auction if has_auction else hours.closes)

    def next_session(self, place: str, after: datetime) -> Session:
        """The session under way at `after` (aware), else the next to open; raises UnconfirmedYear where unknown."""
        day = self.today(place.partition(":")[0], after)
        while True:
            session = self.session(place, day)
            if session is not None and session.closes >= after:
                return session
            day += timedelta(days=1)

    def note(self, exchange: str, day: date) -> str:
        """What is special about `day`: whose word it is, or the holiday; "" on any other day. Certain or not."""
        override = self._overrides.get((exchange, day))
        if override is not None:
            return override.note or override.kind.value
        holiday = _holidays(exchange, day.year).get(day)
        return holiday.name if holiday else "weekend" if day.weekday() >= _SATURDAY else ""

    def _is_certain(self, exchange: str, day: date) -> bool:
        """Whether it is known that `day` is, or is not, a holiday; raises UnlistedYear."""
        holiday = _holidays(exchange, day.year).get(day)
        if (exchange, day.year) in self._operators_years:
            return True
        # What was compared with the circular had no estimated day: this one came with another list.
        return (exchange, day.year) in BUILT_IN_CONFIRMED and not (holiday and holiday.is_estimated)

    def _between(self, exchange: str, day: date, opens: time | None, closes: time | None) -> Session | None:
        if opens is None or closes is None:
            return None
        opens_at, closes_at = self.to_utc(exchange, day, opens), self.to_utc(exchange, day, closes)
        return Session(day, opens_at, closes_at, max(opens_at, closes_at - self._square_off))


class AlwaysOpenCalendar(Calendar):
    """Every date is one session from midnight to midnight at the exchange: for paper trading at any hour."""

    def session(self, place: str, day: date) -> Session:
        """The whole of `day`; never None, and nothing is squared off."""
        exchange = place.partition(":")[0]
        return Session(day, self.to_utc(exchange, day, time.min), self.to_utc(exchange, day, time.max))


def _zone(exchange: str) -> ZoneInfo:
    try:
        return ZONES[exchange]
    except KeyError:
        raise UnknownExchange(exchange) from None


def listed_holidays(exchange: str, year: int) -> Sequence[Holiday]:
    """The holidays of `year` as the package lists them, in order; raises UnlistedYear, UnknownExchange."""
    _zone(exchange)
    return sorted(_holidays(exchange, year).values(), key=lambda each: each.date)


@lru_cache(maxsize=64)
def _holidays(exchange: str, year: int) -> Mapping[date, Holiday]:
    listed = holidays.financial_holidays(_HOLIDAY_CODE[exchange], years=year, language="en_US")
    if not listed:
        raise UnlistedYear(exchange, year)
    return {day: Holiday(day, name, _ESTIMATED in name) for day, name in listed.items()}
