"""The recoverer's and the sweeper's process, a few rounds of each in this one: what they do beside what others test."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from datetime import time as wall_time
from itertools import count
from types import ModuleType, SimpleNamespace

import pytest

from broker_connector.paper.process import PaperControl, paper_broker
from engine import bootstrap, store_outage
from engine.calendar import AlwaysOpenCalendar, Calendar, Override, OverrideKind
from engine.clockwatch import ClockWatch
from engine.config import CalendarKind
from engine.domain.orders import OrderStatus
from engine.domain.run import Run
from engine.processes import recoverer, sweeper
from engine.runtime.word import CalendarWord
from engine.store_outage import StoreOutage
from models import schema
from models.database import open_database, sessions_of
from models.repositories.bookkeeping import CalendarTable
from tasks.app import app_at
from tests.builders import entry, run, strategy
from tests.desk import PAPER, Desk, open_desk
from tests.fakes import RecordingLog
from tests.unit.test_store_outage import History


class Rounds:
    """A stop that comes after so many rounds; `between` is called after each."""

    def __init__(self, count: int, between: Callable[[], None] = lambda: None) -> None:
        self._left = count
        self._between = between

    def __bool__(self) -> bool:
        return self._left <= 0

    def wait(self, seconds: float) -> None:
        del seconds
        self._left -= 1
        self._between()


@pytest.fixture(scope="module")
def paper() -> Iterator[PaperControl]:
    with paper_broker(*PAPER) as control:
        yield control


@contextmanager
def desk_at(url: str, paper: PaperControl, monkeypatch: pytest.MonkeyPatch, **settings: object) -> Iterator[Desk]:
    """A desk whose parts are those of every process that is run here."""
    monkeypatch.setattr(bootstrap, "app", app_at(url))
    with open_desk(url, paper, calendar=CalendarKind.ALWAYS_OPEN, **settings) as desk:
        desk.parts.redis.flushall()
        desk.open()
        monkeypatch.setattr(bootstrap, "parts", lambda _name: desk.parts)
        yield desk


@pytest.fixture
def desk(valkey_url: str, paper: PaperControl, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """Without a database."""
    with desk_at(valkey_url, paper, monkeypatch) as opened:
        yield opened


@pytest.fixture
def stored(valkey_url: str, paper: PaperControl, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """With one."""
    schema.upgrade(database_url)
    with desk_at(valkey_url, paper, monkeypatch, DATABASE_URL=database_url) as opened:
        yield opened


def play(process: ModuleType, monkeypatch: pytest.MonkeyPatch, rounds: Rounds) -> None:
    monkeypatch.setattr(process, "Stop", lambda: rounds)
    # Once: a thread of its own would look on when the test is over.
    monkeypatch.setattr(ClockWatch, "start", ClockWatch.look)
    process.main()


def left_overnight(desk: Desk) -> Run:
    """A run of yesterday that holds and whose session is over."""
    today, day = desk.run(), timedelta(days=1)
    earlier = replace(today.id, trading_date=today.id.trading_date - day)
    held = replace(today, id=earlier, orders=(entry(OrderStatus.FILLED, 10),), closes_at=datetime.now(UTC) - day)
    desk.parts.store.arm(held, datetime.now(UTC) + day, buying=True)
    return held


def test_the_sweeper_gives_what_was_left_over_night_its_session_without_postgresql(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = left_overnight(desk)
    CalendarWord(desk.parts.redis).keep(Calendar())
    play(sweeper, monkeypatch, Rounds(1))
    today = AlwaysOpenCalendar().today("NSE", datetime.now(UTC))
    assert desk.live(held).closes_at == AlwaysOpenCalendar().session("NSE", today).closes


def test_the_recoverer_keeps_what_the_operator_says_of_the_calendar(
    stored: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = CalendarTable(sessions_of(open_database(stored.parts.settings.database_url)))
    special = Override("NSE", date(2026, 11, 8), OverrideKind.SPECIAL, wall_time(18), wall_time(19), "Diwali")
    table.override(special)
    table.override(Override("BSE", date(2026, 3, 3), OverrideKind.CLOSED))
    table.confirm_year("NSE", 2027, "test")
    play(recoverer, monkeypatch, Rounds(2))
    taught = Calendar()
    assert CalendarWord(stored.parts.redis).teach(taught)
    overrides, confirmed = taught.word
    assert special in overrides
    assert {each.exchange: each.kind for each in overrides} == {"NSE": "special", "BSE": "closed"}
    assert confirmed == {("NSE", 2027)}


@pytest.fixture
def history(monkeypatch: pytest.MonkeyPatch) -> History:
    """Rows of two tenants, of whom one holds something and one is buying; an outage is told to them at once."""
    held = run(entry(OrderStatus.FILLED, 10))
    buying = run(entry(OrderStatus.ACCEPTED), spec=strategy(id=8, tenant="beta"))
    rows = History([held, buying])
    monkeypatch.setattr(bootstrap, "store_outage", lambda parts, _: StoreOutage(rows, parts.real.now, RecordingLog()))
    monkeypatch.setattr(store_outage, "TOLD_AFTER", timedelta(0))
    return rows


def told_of(code: str) -> list[tuple[str, str]]:
    return [("", code), ("alpha", code), ("beta", code)]


def test_a_redis_that_only_refuses_writes_is_told_to_every_tenant(
    stored: Desk, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis = stored.parts.redis
    # Nothing else that is written every few seconds tells of it.
    monkeypatch.setattr(recoverer, "RELEARN_EVERY", 3600.0)
    looks = count(1)

    def between() -> None:
        match next(looks):
            case 3:
                assert history.told == []
                redis.config_set("maxmemory", "1")
            case 5:
                assert sorted(history.told) == told_of("store_away")
                assert "maxmemory" in " ".join(history.messages)
                redis.config_set("maxmemory", "0")

    try:
        play(recoverer, monkeypatch, Rounds(7, between))
    finally:
        redis.config_set("maxmemory", "0")
    assert sorted(history.told) == sorted(told_of("store_away") + told_of("store_back"))


def test_a_rebuilding_that_takes_its_time_is_told_to_every_tenant(
    stored: Desk, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored.parts.redis.flushall()

    def opens(now: Callable[[], datetime], sleep_until: Callable[[datetime], None], *_: object) -> None:
        sleep_until(now() + timedelta(milliseconds=20))
        assert sorted(history.told) == told_of("store_away")
        assert "it is being rebuilt" in " ".join(history.messages)

    rebuilding = SimpleNamespace(open=opens)
    monkeypatch.setattr(bootstrap, "recoverer", lambda *_: rebuilding)
    play(recoverer, monkeypatch, Rounds(1))
    assert sorted(history.told) == sorted(told_of("store_away") + told_of("store_back"))


@pytest.mark.parametrize("process", [recoverer, sweeper], ids=["recoverer", "sweeper"])
def test_a_clock_that_was_wrong_as_its_process_started_is_right_again(
    stored: Desk, process: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored.parts.real.doubt = "+9.0 s off Redis"
    play(process, monkeypatch, Rounds(1))
    assert stored.parts.real.doubt == ""
