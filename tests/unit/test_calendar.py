"""The market calendar against dates known from the exchange's circulars."""

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta

import pytest

from engine.calendar import (
    AlwaysOpenCalendar,
    Calendar,
    Override,
    OverrideKind,
    UnknownExchange,
    UnlistedYear,
    listed_holidays,
)
from engine.domain.orders import Product
from engine.domain.strategy import UnconfirmedYear

#: Weekdays without trading, from the exchange's lists (2026 with the closure announced in January).
CLOSED = {
    2021: "01-26 03-11 03-29 04-02 04-14 04-21 05-13 07-21 08-19 09-10 10-15 11-04 11-05 11-19",
    2026: "01-15 01-26 03-03 03-26 03-31 04-03 04-14 05-01 05-28 06-26 09-14 10-02 10-20 11-10 11-24 12-25",
}
#: Weekend days with trading.
OPEN = {2021: "", 2026: "02-01"}


def _dates(year: int, days: str) -> set[date]:
    return {date.fromisoformat(f"{year}-{day}") for day in days.split()}


@pytest.mark.parametrize("exchange", ["NSE", "BSE"])
@pytest.mark.parametrize("year", [2021, 2026])
def test_every_day_of_a_confirmed_year_is_as_the_exchange_announced(exchange: str, year: int) -> None:
    calendar = Calendar()
    days = [date.fromordinal(n) for n in range(date(year, 1, 1).toordinal(), date(year, 12, 31).toordinal() + 1)]
    trading = {day for day in days if calendar.session(exchange, day) is not None}
    weekdays = {day for day in days if day.weekday() < 5}
    assert trading == weekdays - _dates(year, CLOSED[year]) | _dates(year, OPEN[year])


def test_a_regular_session_runs_from_0915_to_1530_in_india() -> None:
    session = Calendar().session("NSE", date(2026, 1, 5))
    assert session is not None
    assert session.opens == datetime(2026, 1, 5, 3, 45, tzinfo=UTC)
    assert session.closes == datetime(2026, 1, 5, 10, 0, tzinfo=UTC)
    assert session.opens.tzinfo is UTC


#: (place, day, what is known to have no closing auction) -> the end of continuous trading.
ENDS = [
    ("NSE:INFY", date(2026, 7, 31), (), time(15, 30)),
    ("NSE:INFY", date(2026, 8, 3), (), time(15, 15)),
    ("BSE:INFY", date(2026, 12, 31), (), time(15, 15)),
    ("NSE", date(2026, 8, 3), (), time(15, 30)),
    ("NSE:INFY", date(2026, 8, 3), ("NSE:INFY",), time(15, 30)),
    ("NSE:TCS", date(2026, 8, 3), ("NSE:INFY",), time(15, 15)),
    ("BSE:INFY", date(2026, 8, 3), ("BSE",), time(15, 30)),
    ("NSE:INFY", date(2021, 4, 12), (), time(15, 30)),
]


@pytest.mark.parametrize(("place", "day", "no_auction", "closes"), ENDS)
def test_a_symbol_stops_trading_where_its_closing_auction_begins(
    place: str, day: date, no_auction: tuple[str, ...], closes: time
) -> None:
    calendar = Calendar(no_auction=no_auction)
    session = calendar.session(place, day)
    assert session is not None
    assert session.closes == calendar.to_utc(place.partition(":")[0], day, closes)


def test_the_next_session_of_a_symbol_ends_before_its_auction() -> None:
    session = Calendar().next_session("NSE:INFY", datetime(2026, 8, 3, 9, 50, tzinfo=UTC))
    assert session.closes == datetime(2026, 8, 4, 9, 45, tzinfo=UTC)


MUHURAT = Override("NSE", date(2026, 11, 8), OverrideKind.SPECIAL, time(18, 15), time(19, 15), "Muhurat")
SHORT = Override("NSE", date(2026, 11, 8), OverrideKind.SPECIAL, time(18), time(18, 5))


@pytest.mark.parametrize(
    ("day", "overrides", "lead", "squared_off"),
    [
        (date(2026, 1, 5), (), 12, time(15, 18)),
        (date(2026, 8, 3), (), 12, time(15, 3)),
        (date(2026, 1, 5), (), 30, time(15)),
        (MUHURAT.date, (MUHURAT,), 12, time(19, 3)),
        # Too short a session for it: nothing can be bought for the day.
        (SHORT.date, (SHORT,), 12, time(18)),
    ],
)
def test_intraday_positions_are_squared_off_before_their_own_sessions_end(
    day: date, overrides: tuple[Override, ...], lead: int, squared_off: time
) -> None:
    calendar = Calendar(overrides, square_off=timedelta(minutes=lead))
    session = calendar.session("NSE:INFY", day)
    assert session is not None
    assert session.last_sale(Product.INTRADAY) == calendar.to_utc("NSE", day, squared_off)
    assert {session.last_sale(each) for each in Product if each is not Product.INTRADAY} == {session.closes}


def test_nothing_is_squared_off_where_it_is_always_open() -> None:
    session = AlwaysOpenCalendar(square_off=timedelta(minutes=12)).session("NSE:INFY", date(2026, 8, 3))
    assert session.last_sale(Product.INTRADAY) == session.closes


@pytest.mark.parametrize("day", [date(2028, 1, 3), date(2027, 1, 26), date(2027, 1, 2), date(2020, 12, 31)])
def test_a_year_nobody_confirmed_is_refused_even_on_weekends(day: date) -> None:
    with pytest.raises(UnconfirmedYear, match=f"NSE holidays of {day.year} are not confirmed"):
        Calendar().session("NSE", day)


def test_an_operator_confirms_a_year_for_one_exchange() -> None:
    calendar = Calendar(confirmed=[("NSE", 2027)])
    assert calendar.session("NSE", date(2027, 1, 26)) is None
    assert calendar.session("NSE", date(2027, 1, 27)) is not None
    with pytest.raises(UnconfirmedYear):
        calendar.session("BSE", date(2027, 1, 27))


def test_an_operators_override_outranks_the_holiday_list_and_the_built_in_ones() -> None:
    muhurat = Override("NSE", date(2021, 11, 4), OverrideKind.SPECIAL, time(18, 15), time(19, 15), "Muhurat")
    reopened = Override("NSE", date(2026, 1, 15), OverrideKind.SPECIAL, time(9, 15), time(15, 30))
    closed = Override("NSE", date(2026, 1, 5), OverrideKind.CLOSED)
    calendar = Calendar([muhurat, reopened, closed])
    evening = calendar.session("NSE", muhurat.date)
    assert evening is not None
    assert evening.opens == datetime(2021, 11, 4, 12, 45, tzinfo=UTC)
    assert calendar.session("NSE", reopened.date) is not None
    assert calendar.session("NSE", closed.date) is None
    assert calendar.session("BSE", closed.date) is not None


@pytest.mark.parametrize(
    ("kind", "opens", "closes"),
    [
        (OverrideKind.CLOSED, time(9), time(10)),
        (OverrideKind.SPECIAL, None, None),
        (OverrideKind.SPECIAL, time(10), time(9)),
        (OverrideKind.SPECIAL, time(9), None),
    ],
)
def test_an_override_whose_hours_contradict_its_kind_is_refused(
    kind: OverrideKind, opens: time | None, closes: time | None
) -> None:
    with pytest.raises(ValueError, match="NSE 2026-01-05"):
        Override("NSE", date(2026, 1, 5), kind, opens, closes)


@pytest.mark.parametrize(
    ("after", "day"),
    [
        (datetime(2026, 1, 14, 10, 0, tzinfo=UTC), date(2026, 1, 14)),  # the very close
        (datetime(2026, 1, 14, 10, 1, tzinfo=UTC), date(2026, 1, 16)),  # over the closure of the 15th
        (datetime(2026, 1, 14, 19, 0, tzinfo=UTC), date(2026, 1, 16)),  # the 15th already, in India
        (datetime(2026, 1, 30, 11, 0, tzinfo=UTC), date(2026, 2, 1)),  # a Sunday with trading
        (datetime(2026, 2, 1, 5, 0, tzinfo=UTC), date(2026, 2, 1)),  # under way
    ],
)
def test_the_next_session_is_the_one_under_way_or_the_next_to_open(after: datetime, day: date) -> None:
    assert Calendar().next_session("NSE", after).date == day


def test_the_next_session_is_not_guessed_past_the_last_confirmed_year() -> None:
    with pytest.raises(UnconfirmedYear, match="2027"):
        Calendar().next_session("NSE", datetime(2026, 12, 31, 11, 0, tzinfo=UTC))


def test_an_unknown_exchange_is_named() -> None:
    calendar = Calendar()
    with pytest.raises(UnknownExchange, match="NYSE"):
        calendar.session("NYSE", date(2026, 1, 5))
    with pytest.raises(UnknownExchange, match="NYSE"):
        calendar.to_utc("NYSE", date(2026, 1, 5), time(9))
    with pytest.raises(UnknownExchange, match="NYSE"):
        AlwaysOpenCalendar().session("NYSE", date(2026, 1, 5))


def test_the_date_at_the_exchange_is_not_the_utc_date() -> None:
    assert Calendar().today("NSE", datetime(2026, 1, 5, 19, 0, tzinfo=UTC)) == date(2026, 1, 6)


def test_an_estimated_day_needs_an_operators_word_even_in_a_confirmed_year(monkeypatch: pytest.MonkeyPatch) -> None:
    estimated = date(2026, 5, 28)
    listed = {each.date: each for each in listed_holidays("NSE", 2026)}
    listed[estimated] = replace(listed[estimated], is_estimated=True)
    monkeypatch.setattr("engine.calendar._holidays", lambda _exchange, _year: listed)
    with pytest.raises(UnconfirmedYear):
        Calendar().session("NSE", estimated)
    assert Calendar().session("NSE", date(2026, 5, 29)) is not None
    assert Calendar(confirmed=[("NSE", 2026)]).session("NSE", estimated) is None


def test_estimated_days_are_told_apart() -> None:
    marked = {each.name: each.is_estimated for each in listed_holidays("NSE", 2027)}
    assert marked["Eid al-Fitr (estimated)"]
    assert not marked["Republic Day"]
    assert not any(each.is_estimated for year in (2021, 2026) for each in listed_holidays("NSE", year))


def test_a_year_without_data_is_an_error_even_if_somebody_confirmed_it() -> None:
    with pytest.raises(UnlistedYear, match="no holidays of NSE in 2000"):
        Calendar(confirmed=[("NSE", 2000)]).session("NSE", date(2000, 1, 3))
