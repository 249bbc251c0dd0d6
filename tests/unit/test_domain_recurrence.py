"""Which dates a recurrence names, and which of them a strategy may trade."""

from datetime import date, timedelta
from itertools import islice

import pytest

from engine.domain.recurrence import Recurrence, Weekday
from tests.builders import strategy

MONDAY = date(2026, 1, 5)
WEEK = [MONDAY + timedelta(days=n) for n in range(7)]
FRIDAY = WEEK[4]


@pytest.mark.parametrize(
    ("name", "until", "days"),
    [
        ("daily", None, "mon tue wed thu fri sat sun"),
        ("mon,wed,fri", None, "mon wed fri"),
        ("sun", None, "sun"),
        ("daily", FRIDAY, "mon tue wed thu fri"),
        ("mon,wed,fri", FRIDAY, "mon wed fri"),
        ("mon,wed,fri", WEEK[3], "mon wed"),
        ("daily", MONDAY - timedelta(days=1), ""),
    ],
)
def test_a_recurrence_names_its_weekdays_to_its_last_date(name: str, until: date | None, days: str) -> None:
    recurrence = Recurrence.named(name, until)
    named = [weekday for weekday, day in zip(Weekday, WEEK, strict=True) if recurrence.trades_on(day)]
    assert named == days.split()
    assert recurrence.name == name


@pytest.mark.parametrize("name", ["", "often", "mon,", "mon wed", "Mon"])
def test_a_name_of_no_recurrence_is_an_error(name: str) -> None:
    with pytest.raises(ValueError, match="not a valid Weekday"):
        Recurrence.named(name)


@pytest.mark.parametrize(
    ("trading_date", "repeat", "dates"),
    [
        # Once: its own date, or whichever comes.
        (WEEK[2], None, WEEK[2:3]),
        (None, None, WEEK),
        (MONDAY - timedelta(days=1), None, []),
        # Again and again: not before its first date.
        (None, Recurrence(), WEEK),
        (WEEK[2], Recurrence(), WEEK[2:]),
        (MONDAY - timedelta(days=9), Recurrence.named("tue,thu"), [WEEK[1], WEEK[3]]),
        (WEEK[1], Recurrence.named("mon,wed,fri", WEEK[3]), [WEEK[2]]),
        (WEEK[3], Recurrence.named("mon", WEEK[6]), []),
    ],
)
def test_a_strategy_may_trade_on_its_dates_only(
    trading_date: date | None, repeat: Recurrence | None, dates: list[date]
) -> None:
    spec = strategy(trading_date=trading_date, repeat=repeat)
    assert [day for day in WEEK if spec.trades_on(day)] == dates
    assert [day for day in islice(spec.dates(MONDAY), 7) if day <= WEEK[-1]] == dates
