"""Who is told that the live state is away, and when."""

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from engine.domain.orders import OrderStatus
from engine.domain.routing import Alert
from engine.domain.run import Run
from engine.store_outage import StoreOutage
from tests.builders import SYMBOL, entry, run, strategy
from tests.fakes import RecordingLog


@dataclass
class History:
    """PostgreSQL, which can be away too."""

    runs: list[Run] = field(default_factory=list)
    told: list[tuple[str, str]] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    is_away: bool = False

    def open_runs(self) -> list[Run]:
        if self.is_away:
            raise ConnectionError
        return self.runs

    def told_last(self, code: str, or_else: str) -> set[str]:
        if self.is_away:
            raise ConnectionError
        newest = dict(self.told)
        assert or_else != code
        return {tenant for tenant, last in newest.items() if last == code}

    #: How many alerts it takes until it refuses.
    takes: int = 1000

    def alert(self, _at: datetime, tenant: str, alert: Alert) -> None:
        if self.takes == 0:
            raise ConnectionError
        self.takes -= 1
        self.told.append((tenant, alert.code))
        self.messages.append(alert.message)


class Scene:
    def __init__(self) -> None:
        held = run(entry(OrderStatus.FILLED, 10))
        buying = run(entry(OrderStatus.ACCEPTED), spec=strategy(id=8, tenant="beta"))
        later = run(spec=strategy(id=9, tenant="gamma"))
        self.history = History([held, buying, later])
        self.now = datetime(2026, 1, 5, 4, tzinfo=UTC)
        self.log = RecordingLog()
        self.outage = StoreOutage(self.history, lambda: self.now, self.log)

    def away(self, seconds: int) -> None:
        for _ in range(seconds):
            self.outage.away("Connection refused")
            self.now += timedelta(seconds=1)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_who_holds_or_may_hold_something_and_the_operator_are_told_once_and_when_it_is_over(scene: Scene) -> None:
    scene.away(5)
    assert scene.history.told == []
    scene.away(60)
    assert scene.history.told == [("alpha", "store_away"), ("beta", "store_away"), ("", "store_away")]
    assert f"10 of {SYMBOL}" in scene.history.messages[0]
    assert "Connection refused" in scene.history.messages[2]
    scene.history.told.clear()
    scene.outage.back()
    scene.outage.back()
    assert scene.history.told == [("", "store_back"), ("alpha", "store_back"), ("beta", "store_back")]


def test_a_moment_without_it_is_told_to_nobody(scene: Scene) -> None:
    for _ in range(3):
        scene.away(5)
        scene.outage.back()
    assert scene.history.told == []


def test_where_postgresql_is_away_too_it_is_told_once_that_is_back(scene: Scene) -> None:
    scene.history.is_away = True
    scene.away(5)
    with pytest.raises(ConnectionError):
        scene.away(1)
    scene.history.is_away = False
    scene.away(1)
    assert ("alpha", "store_away") in scene.history.told


def test_where_postgresql_is_away_too_the_log_tells(scene: Scene) -> None:
    scene.history.is_away = True
    scene.away(5)
    for _ in range(3):
        with pytest.raises(ConnectionError):
            scene.away(1)
    ((action, facts),) = scene.log.lines
    assert (action, facts["reason"]) == ("store_away", "Connection refused")


def test_an_outage_that_ended_while_nobody_could_be_told_makes_the_next_no_longer(scene: Scene) -> None:
    scene.outage.notice("Connection refused")
    scene.outage.end()
    scene.now += timedelta(minutes=10)
    scene.away(5)
    assert (scene.history.told, scene.log.lines) == ([], [])


def test_what_was_told_while_another_process_tells_is_asked_of_the_history(scene: Scene) -> None:
    scene.away(6)
    scene.outage.leave()
    scene.history.told += [("", "store_back"), ("alpha", "store_back")]
    scene.outage.back()
    assert scene.history.told[-1] == ("beta", "store_back")
    assert len(scene.history.told) == 6


def test_whoever_could_not_be_told_that_it_is_over_is_told_once_the_history_takes_it(scene: Scene) -> None:
    scene.away(6)
    scene.history.told.clear()
    scene.history.takes = 1
    with pytest.raises(ConnectionError):
        scene.outage.back()
    scene.history.takes = 1000
    scene.outage.back()
    assert scene.history.told == [("", "store_back"), ("alpha", "store_back"), ("beta", "store_back")]


def test_whoever_could_not_be_told_is_told_once_the_history_takes_it(scene: Scene) -> None:
    scene.history.takes = 1
    for _ in range(8):
        with suppress(ConnectionError):
            scene.away(1)
        scene.now += timedelta(seconds=1)
    assert scene.history.told == [("alpha", "store_away")]
    scene.history.takes = 1000
    scene.away(2)
    assert scene.history.told == [("alpha", "store_away"), ("beta", "store_away"), ("", "store_away")]
