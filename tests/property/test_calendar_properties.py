"""What must hold of every calendar on every date."""

from datetime import UTC, date, datetime, time, timedelta

from hypothesis import given
from hypothesis import strategies as st

from engine.calendar import ZONES, AlwaysOpenCalendar, Calendar, Override, OverrideKind

EXCHANGES = st.sampled_from(sorted(ZONES))
CONFIRMED_DAYS = st.dates(date(2021, 1, 1), date(2021, 12, 31)) | st.dates(date(2026, 1, 1), date(2026, 12, 31))
ANY_DAY = st.dates(date(2000, 1, 2), date(2090, 12, 30))
MOMENTS = st.datetimes(datetime(2000, 1, 2), datetime(2090, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001


@given(EXCHANGES, CONFIRMED_DAYS)
def test_a_session_lies_within_its_own_date_at_the_exchange(exchange: str, day: date) -> None:
    session = Calendar().session(exchange, day)
    if session is not None:
        assert session.date == day
        assert session.opens < session.closes
        assert Calendar().today(exchange, session.opens) == Calendar().today(exchange, session.closes) == day


@given(EXCHANGES, ANY_DAY, st.times())
def test_a_wall_time_survives_the_way_to_utc_and_back(exchange: str, day: date, wall: time) -> None:
    instant = Calendar().to_utc(exchange, day, wall)
    assert instant.tzinfo is UTC
    local = instant.astimezone(ZONES[exchange])
    assert (local.date(), local.time()) == (day, wall)


@given(EXCHANGES, st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 29), timezones=st.just(UTC)))  # noqa: DTZ001
def test_the_next_session_is_never_over_and_none_was_skipped(exchange: str, after: datetime) -> None:
    calendar = Calendar()
    session = calendar.next_session(exchange, after)
    assert session.closes >= after
    day = calendar.today(exchange, after)
    while day < session.date:
        earlier = calendar.session(exchange, day)
        assert earlier is None or earlier.closes < after
        day += timedelta(days=1)


@given(EXCHANGES, ANY_DAY)
def test_an_override_decides_its_date_even_in_an_unconfirmed_year(exchange: str, day: date) -> None:
    assert Calendar([Override(exchange, day, OverrideKind.CLOSED)]).session(exchange, day) is None
    special = Override(exchange, day, OverrideKind.SPECIAL, time(18), time(19))
    session = Calendar([special]).session(exchange, day)
    assert session is not None
    assert session.closes - session.opens == timedelta(hours=1)


@given(EXCHANGES, MOMENTS)
def test_always_open_has_every_moment_in_the_session_of_its_date(exchange: str, moment: datetime) -> None:
    calendar = AlwaysOpenCalendar()
    assert calendar.session(exchange, calendar.today(exchange, moment)).contains(moment)
    assert calendar.next_session(exchange, moment).contains(moment)


@given(EXCHANGES, ANY_DAY)
def test_always_open_leaves_no_gap_between_two_dates(exchange: str, day: date) -> None:
    calendar = AlwaysOpenCalendar()
    gap = calendar.session(exchange, day + timedelta(days=1)).opens - calendar.session(exchange, day).closes
    assert gap == timedelta(microseconds=1)
