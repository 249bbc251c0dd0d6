"""The clock watch: whose word counts, what is told, and that a host set right is followed."""

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from broker_connector.http import Dated
from engine import clockwatch
from engine.clockwatch import ClockWatch, Told, of_broker, of_redis
from engine.domain.action import Finish, Policy, Submit, Wait
from engine.domain.decision import decide, next_action
from engine.domain.events import EventType
from engine.domain.moment import Moment
from engine.domain.routing import Alert
from tests.builders import BUY_AT, S, run
from tests.fakes import RecordingLog

NOW = datetime(2026, 1, 5, 4, tzinfo=UTC)
HOUR = timedelta(hours=1)
DATE_AGE = timedelta(seconds=2)


@dataclass
class HandClock:
    """Ours, off the true time by `off`; the wall by `wall_off`."""

    off: timedelta = timedelta(0)
    wall_off: timedelta = timedelta(0)
    doubt: str = ""

    @property
    def wall_ahead(self) -> timedelta:
        return self.wall_off - self.off

    def follow_wall(self) -> None:
        self.off = self.wall_off


@dataclass
class Host:
    """A host's clock under watch, and what its witnesses are off by; None where one is silent."""

    clock: HandClock
    broker: timedelta | None = timedelta(0)
    redis: timedelta | None = timedelta(0)
    alerts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        clock: Any = self.clock
        store: Any = self
        witnesses = {"the broker": lambda: self._told(self.broker, DATE_AGE), "Redis": lambda: self._told(self.redis)}
        self.watch = ClockWatch(clock, witnesses, store, RecordingLog())

    def alert(self, _tenant: str, alert: Alert) -> None:
        self.alerts.append(alert.code)

    def _told(self, off: timedelta | None, age: timedelta = timedelta(0)) -> Told | None:
        return None if off is None else Told(NOW + off - age / 2, NOW + self.clock.off, age)


@pytest.mark.parametrize(("ours", "broker", "redis", "doubted"), [
    (0, 0, 0, ""),
    # Within what two clocks may be apart.
    (0.4, 0, 0, ""),
    (0.4, None, 0, ""),
    # Nobody to say anything.
    (3600, None, None, ""),
    (3600, 0, 0, "the broker"),
    (-3600, 0, 0, "the broker"),
    (3600, None, 0, "Redis"),
    # A server that shares a host's jump is disproved by the broker.
    (0, 0, 3600, ""),
    (0, 0, -3600, ""),
    (3600, 0, 3600, "the broker"),
    # Finer than the broker's whole seconds tell.
    (0.9, 0, 0, "Redis"),
    (-0.9, 0, 0, "Redis"),
])  # fmt: skip
def test_the_weightiest_witness_that_can_tell_decides(
    ours: float, broker: float | None, redis: float | None, doubted: str
) -> None:
    host = Host(HandClock(timedelta(seconds=ours), wall_off=timedelta(seconds=ours)))
    host.broker, host.redis = (None if off is None else timedelta(seconds=off) for off in (broker, redis))
    host.watch.look()
    assert doubted in host.clock.doubt
    assert bool(host.clock.doubt) == bool(doubted)


def test_a_doubt_is_told_once_and_so_is_its_end() -> None:
    host = Host(HandClock(HOUR, wall_off=HOUR))
    for _ in range(3):
        host.watch.look()
    assert host.alerts == ["clock_disagrees"]
    host.broker = host.redis = HOUR
    for _ in range(3):
        host.watch.look()
    assert host.alerts == ["clock_disagrees", "clock_agrees"]


def test_a_host_that_is_set_right_is_followed() -> None:
    host = Host(HandClock(HOUR, wall_off=HOUR))
    host.watch.look()
    assert host.clock.doubt
    host.clock.wall_off = timedelta(0)
    host.watch.look()
    assert (host.clock.doubt, host.clock.off) == ("", timedelta(0))


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_a_jump_of_the_wall_alone_moves_nothing(jump: timedelta) -> None:
    host = Host(HandClock(wall_off=jump))
    host.watch.look()
    assert (host.clock.doubt, host.clock.off, host.alerts) == ("", timedelta(0), [])


@dataclass
class Passing:
    """A clock that has gone on by so many seconds whenever it is read again."""

    by: float
    off: float = 0.0
    reads: int = 0

    def now(self) -> datetime:
        self.reads += 1
        return NOW + timedelta(seconds=self.off + self.by * (self.reads - 1))


@dataclass
class Answering:
    """A Redis that reads its clock so many seconds after it was asked."""

    after: float

    def time(self) -> tuple[int, int]:
        told = (NOW + timedelta(seconds=self.after)).timestamp()
        return int(told), round(told % 1 * 1e6)


@pytest.mark.parametrize("read", [0.0, 1.5, 3.0])
def test_an_answer_of_redis_that_was_long_under_way_is_no_clock_that_differs(read: float) -> None:
    real, redis = cast("Any", Passing(by=3.0)), cast("Any", Answering(read))
    told = of_redis(real, redis)
    assert told is not None
    assert told.off_by == timedelta(0)


@pytest.mark.parametrize("off", [-60.0, 60.0])
def test_a_clock_that_differs_by_more_than_an_answer_took_is_noticed(off: float) -> None:
    told = of_redis(cast("Any", Passing(by=3.0, off=off)), cast("Any", Answering(1.5)))
    assert told is not None
    assert abs(told.off_by) > timedelta(seconds=55)


def test_a_brokers_answer_that_was_long_under_way_is_no_clock_that_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = Dated(NOW - timedelta(seconds=16), time.monotonic(), took=15.0)
    monkeypatch.setattr(clockwatch, "newest_date", lambda: heard)
    told = of_broker(cast("Any", Passing(by=0.0)))
    assert told is not None
    assert told.off_by == timedelta(0)


@pytest.mark.parametrize("passed", [-HOUR, timedelta(0), HOUR])
def test_by_a_doubted_clock_nothing_is_bought_and_nothing_missed(passed: timedelta) -> None:
    doubted = Moment(BUY_AT + passed, BUY_AT + passed, is_trusted=False)
    assert decide(run(), EventType.BUY, doubted, Policy()) == Wait(BUY_AT)
    assert next_action(run(), doubted, Policy()) is None


def test_by_a_trusted_clock_it_is_bought_or_missed() -> None:
    assert isinstance(decide(run(), EventType.BUY, Moment(BUY_AT + S, BUY_AT + S), Policy()), Submit)
    assert isinstance(decide(run(), EventType.BUY, Moment(BUY_AT + HOUR, BUY_AT + HOUR), Policy()), Finish)
