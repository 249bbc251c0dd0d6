"""Recurrence: the weekdays a strategy trades on, and until when. Knows no holiday; the exchange's calendar does."""

from dataclasses import dataclass
from datetime import date
from enum import StrEnum

#: What every weekday is called together; the exchange's holidays are skipped all the same.
DAILY = "daily"


class Weekday(StrEnum):
    """A day of the week at the exchange, in the order of `date.weekday`."""

    MON = "mon"
    TUE = "tue"
    WED = "wed"
    THU = "thu"
    FRI = "fri"
    SAT = "sat"
    SUN = "sun"

    @classmethod
    def of(cls, day: date) -> "Weekday":
        """The weekday of `day`."""
        return _WEEK[day.weekday()]


_WEEK = tuple(Weekday)


@dataclass(frozen=True, slots=True)
class Recurrence:
    """Every date on one of `days`, `until` included; without `until` it has no end."""

    days: frozenset[Weekday] = frozenset(Weekday)
    until: date | None = None

    @classmethod
    def named(cls, name: str, until: date | None = None) -> "Recurrence":
        """The recurrence whose `name` this is; ValueError where it names none."""
        return cls(frozenset(_WEEK if name == DAILY else map(Weekday, name.split(","))), until)

    @property
    def name(self) -> str:
        """Its days: "daily", or such as "mon,wed,fri"."""
        return DAILY if len(self.days) == len(_WEEK) else ",".join(day for day in Weekday if day in self.days)

    def trades_on(self, day: date) -> bool:
        """Whether `day` is one of its dates."""
        return Weekday.of(day) in self.days and (self.until is None or day <= self.until)
