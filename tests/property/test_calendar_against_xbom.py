"""The calendar against an independent list of sessions: `exchange_calendars`' XBOM, which keeps its own holidays."""

import warnings
from datetime import UTC, date, datetime
from functools import cache
from typing import Any

import exchange_calendars
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.calendar import BUILT_IN_CONFIRMED, ZONES, Calendar

#: Where the two differ, and why ours is right. Whatever is not listed here must be equal.
DIFFERENCES: dict[date, str] = {
    date(2026, 2, 1): "the Union Budget on a Sunday: traded 09:15 to 15:30 by circular, weekends are closed to XBOM",
}


def _xbom(**bounds: str) -> Any:
    with warnings.catch_warnings():
        # What the package does with pandas is its own affair.
        warnings.simplefilter("ignore")
        return exchange_calendars.get_calendar("XBOM", **bounds)


def _years_in_common() -> list[int]:
    """Confirmed years that XBOM covers whole."""
    covered = _xbom(end="2026-12-31")
    first, last = covered.first_session.date(), covered.last_session.date()
    return sorted({year for _, year in BUILT_IN_CONFIRMED if first.year < year <= last.year})


YEARS = _years_in_common()


@cache
def _theirs(year: int) -> dict[date, tuple[datetime, datetime]]:
    """XBOM's sessions of `year`: date -> opening and close, UTC."""
    schedule = _xbom(start=f"{year}-01-01", end=f"{year}-12-31").schedule
    return {row.Index.date(): (row.open.to_pydatetime(), row.close.to_pydatetime()) for row in schedule.itertuples()}


def _days(year: int) -> list[date]:
    return [date.fromordinal(n) for n in range(date(year, 1, 1).toordinal(), date(year + 1, 1, 1).toordinal())]


def test_the_years_that_must_be_confirmed_are_compared() -> None:
    assert {2021, 2026} <= set(YEARS)


@pytest.mark.parametrize("exchange", sorted(ZONES))
@pytest.mark.parametrize("year", YEARS)
def test_every_difference_from_xbom_is_explained(exchange: str, year: int) -> None:
    ours = {day for day in _days(year) if Calendar().session(exchange, day) is not None}
    assert ours ^ _theirs(year).keys() == {day for day in DIFFERENCES if day.year == year}


@given(st.sampled_from(sorted(ZONES)), st.sampled_from([day for year in YEARS for day in _theirs(year)]))
def test_a_session_of_an_exchange_has_xboms_hours(exchange: str, day: date) -> None:
    session = Calendar().session(exchange, day)
    assert session is not None
    assert session.opens.tzinfo is UTC
    assert (session.opens, session.closes) == _theirs(day.year)[day]
