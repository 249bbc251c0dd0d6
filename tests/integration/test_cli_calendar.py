"""`engine calendar` on a real database: what an operator says is kept, shown, and decides the sessions."""

import json
import sys
from collections.abc import Callable, Iterator
from datetime import date, time
from decimal import Decimal
from typing import Any

import pytest

from engine.calendar import Calendar, OverrideKind
from engine.cli import calendars, deployment, main
from engine.config import CalendarKind, Settings
from engine.strategies import Draft
from models import schema
from models.database import Sessions, open_database, sessions_of
from models.repositories.accounts import Account, Accounts
from models.repositories.bookkeeping import CalendarTable
from models.repositories.strategies import Strategies
from models.secrets import Credentials, Encrypted
from tests.desk import CREDENTIALS, SECRET_KEY

Call = Callable[..., Any]
DAY = date(2026, 1, 5)
DRAFT = Draft("first", "acme", "", "NSE:INFY", 10, time(10), time(15), Decimal(1500), trading_date=DAY)


@pytest.fixture
def sessions(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sessions]:
    schema.upgrade(database_url)
    database = open_database(database_url)
    opened = sessions_of(database)
    engine = deployment.Deployment(Settings(calendar=CalendarKind.ALWAYS_OPEN), opened, None)
    monkeypatch.setattr(calendars, "find", lambda: engine)
    yield opened
    database.dispose()


@pytest.fixture
def call(sessions: Sessions, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """Calls the command as the console script does; answers its JSON, or what it complains of."""

    def run(*words: str) -> Any:
        monkeypatch.setattr(sys, "argv", ["engine", "calendar", *words, "--json"])
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        return json.loads(told.out) if ended.value.code == 0 else (ended.value.code, told.err)

    return run


def shown(call: Call, day: str, exchange: str = "NSE") -> dict[str, Any]:
    (row,) = call("show", "--exchange", exchange, "--from", day, "--days", "1")
    found: dict[str, Any] = row
    return found


def test_a_date_is_shown_with_its_hours_or_why_it_has_none(call: Call) -> None:
    hours = {"opens": "09:15", "closes": "15:30", "auction": None, "square_off": "15:18", "note": ""}
    assert shown(call, "2026-01-05") == {
        "exchange": "NSE", "date": "2026-01-05", "weekday": "Mon", "state": "open", **hours
    }  # fmt: skip
    after = shown(call, "2026-08-03")
    assert (after["closes"], after["auction"], after["square_off"]) == ("15:30", "15:15", "15:03")
    closed = {day: shown(call, day) for day in ("2026-01-10", "2026-01-15", "2026-01-26")}
    assert {row["state"] for row in closed.values()} == {"closed"}
    assert [row["note"] for row in closed.values()] == ["weekend", "municipal elections in Maharashtra", "Republic Day"]
    unknown = shown(call, "2027-01-27")
    assert (unknown["state"], unknown["opens"]) == ("unconfirmed", None)
    assert "engine calendar confirm NSE 2027" in unknown["note"]
    assert shown(call, "1999-01-05")["state"] == "unconfirmed"


def test_both_exchanges_are_shown_for_a_fortnight_from_today(call: Call) -> None:
    rows = call("show")
    assert [row["exchange"] for row in rows] == ["NSE"] * 14 + ["BSE"] * 14


def test_an_operator_closes_a_date_opens_another_and_takes_it_back(call: Call, sessions: Sessions) -> None:
    (closed,) = call("close", "NSE", "2026-01-05", "--note", "a storm")
    assert (closed["state"], closed["note"], closed["strategies"]) == ("closed", "a storm", 0)
    (opened,) = call("open", "NSE", "2026-11-08", "--opens", "18:15", "--closes", "19:15", "--note", "Muhurat")
    assert (opened["opens"], opened["closes"], opened["square_off"]) == ("18:15", "19:15", "19:03")
    kept = CalendarTable(sessions).overrides()
    assert [each.kind for each in kept] == [OverrideKind.CLOSED, OverrideKind.SPECIAL]
    assert Calendar(kept).session("NSE", date(2026, 1, 5)) is None
    (taken_back,) = call("remove", "NSE", "2026-01-05")
    assert taken_back["state"] == "open"
    assert [each.date for each in CalendarTable(sessions).overrides()] == [date(2026, 11, 8)]


def test_who_changes_a_date_is_told_how_many_strategies_are_meant_for_it(
    call: Call, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Encrypted, "_cipher", None)
    Encrypted.use(SECRET_KEY)
    Accounts(sessions).add(Account(DRAFT.tenant, "paper", "paper", "", "", Credentials(CREDENTIALS)))
    Strategies(sessions).add([DRAFT])
    (closed,) = call("close", "NSE", str(DAY))
    assert closed["strategies"] == 1
    (elsewhere,) = call("close", "BSE", str(DAY))
    assert elsewhere["strategies"] == 0


def test_an_operator_confirms_a_year_and_sees_what_is_estimated(call: Call, sessions: Sessions) -> None:
    listed = {row["date"]: row for row in call("confirm", "NSE", "2027")}
    assert listed["2027-01-26"]["estimated"] is False
    assert listed["2027-03-10"]["estimated"] is True
    assert CalendarTable(sessions).confirmed_years() == {("NSE", 2027)}
    assert shown(call, "2027-01-26")["state"] == "closed"
    assert shown(call, "2027-01-27")["state"] == "open"
    assert shown(call, "2027-01-27", "BSE")["state"] == "unconfirmed"


#: What is asked, and what the answer names.
REFUSED: list[tuple[list[str], list[str]]] = [
    (["close", "NYSE", "2026-01-05"], ["EXCHANGE", "'NSE', 'BSE'"]),
    (["close", "NSE", "tomorrow"], ["DATE", "2026-11-08"]),
    (["close", "NSE", "2026-02-30"], ["DATE", "2026-02-30"]),
    (["open", "NSE", "2026-11-08", "--opens", "18:15"], ["--closes"]),
    (["open", "NSE", "2026-11-08", "--opens", "six", "--closes", "19:15"], ["--opens", "18:15"]),
    (["open", "NSE", "2026-11-08", "--opens", "18:15+05:30", "--closes", "19:15"], ["--opens", "18:15"]),
    (["open", "NSE", "2026-11-08", "--opens", "19:15", "--closes", "18:15"], ["--closes", "not after --opens"]),
    (["remove", "NSE", "2026-01-15"], ["DATE", "nothing was said", "close"]),
    (["confirm", "NSE", "2000"], ["YEAR", "no holidays of NSE in 2000", "cannot be confirmed"]),
    (["confirm", "NSE", "next"], ["YEAR", "integer"]),
    (["show", "--days", "0"], ["--days"]),
]


@pytest.mark.parametrize(("words", "named"), REFUSED)
def test_what_cannot_be_is_refused_by_its_field(
    words: list[str], named: list[str], call: Call, sessions: Sessions
) -> None:
    code, said = call(*words)
    assert code == 2
    assert [each for each in named if each not in said] == []
    assert CalendarTable(sessions).overrides() == []
    assert CalendarTable(sessions).confirmed_years() == set()
