"""The clocks of a running process: real UTC carried by CLOCK_BOOTTIME, and market time computed from it.

A jump of the wall clock moves neither. Knows where the scaled clock's settings lie, not who set them.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from engine.domain.moment import Moment

#: How often a clock that was not announced yet is asked for, seconds.
ASK_EVERY = 0.05


class RealTime:
    """UTC at start plus CLOCK_BOOTTIME since: no wall jump, no suspend, moves it."""

    def __init__(self) -> None:
        self._anchor = _anchored()
        #: Why it is not to be traded by, "" where it is: what others say of the time, see `engine.clockwatch`.
        self.doubt = ""

    def now(self) -> datetime:
        """Real time, aware UTC."""
        wall, boot = self._anchor
        return wall + timedelta(microseconds=(time.clock_gettime_ns(time.CLOCK_BOOTTIME) - boot) // 1000)

    @property
    def wall_ahead(self) -> timedelta:
        """How far the host's wall is ahead of it."""
        return datetime.now(UTC) - self.now()

    def follow_wall(self) -> None:
        """Take the wall's time over, as at the start."""
        self._anchor = _anchored()

    def sleep_until(self, real: datetime) -> None:
        """Return at `real`, never before it."""
        while (left := (real - self.now()).total_seconds()) > 0:
            time.sleep(left)


def _anchored() -> tuple[datetime, int]:
    """The wall, and CLOCK_BOOTTIME (ns) at that instant."""
    return datetime.now(UTC), time.clock_gettime_ns(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class Scale:
    """Market time as a line: `market_anchor` at real `real_anchor`, then `speed` market seconds a real second.

    Before the anchor market time stands still: the start of a replay is announced ahead of time.
    """

    real_anchor: datetime
    market_anchor: datetime
    speed: float

    def at(self, real: datetime) -> Moment:
        """Both clocks at real time `real`."""
        passed = max(real - self.real_anchor, timedelta(0))
        # A moment before the start is told as the start itself, so that `Moment.when` stays exact.
        return Moment(self.market_anchor + passed * self.speed, max(real, self.real_anchor), self.speed)

    def as_fields(self) -> dict[str, str]:
        """The hash other processes read it from."""
        return {
            "real_anchor": self.real_anchor.isoformat(),
            "market_anchor": self.market_anchor.isoformat(),
            "speed": str(self.speed),
        }

    @classmethod
    def from_fields(cls, stored: Mapping[str, str]) -> "Scale":
        """The scale a hash stands for."""
        return cls(
            datetime.fromisoformat(stored["real_anchor"]),
            datetime.fromisoformat(stored["market_anchor"]),
            float(stored["speed"]),
        )


class MarketIsReal:
    """The clock of live trading: market time is real time."""

    def __init__(self, real: RealTime) -> None:
        self._real = real

    def is_announced(self) -> bool:
        """Always: nobody has to say when it starts."""
        return True

    def now(self) -> Moment:
        """This instant on both clocks, which agree."""
        now = self._real.now()
        return Moment(now, now, is_trusted=not self._real.doubt)

    def sleep_until(self, real: datetime) -> None:
        """Return at real time `real`."""
        self._real.sleep_until(real)


class ClockNotAnnounced(Exception):
    """Raised where the market's clock is needed before a replay has announced it."""


class MarketIsScaled:
    """The clock of a replay or demo, read once announced."""

    def __init__(self, real: RealTime, read: Callable[[], Mapping[str, str]]) -> None:
        self._real = real
        self._read = read
        self._scale: Scale | None = None

    def is_announced(self) -> bool:
        """Whether the replay's start is known; asks until it is."""
        if self._scale is None and (stored := self._read()):
            self._scale = Scale.from_fields(stored)
        return self._scale is not None

    def now(self) -> Moment:
        """This instant on both clocks; raises ClockNotAnnounced."""
        if self._scale is None and not self.is_announced():
            raise ClockNotAnnounced("the market's clock is not announced yet")
        assert self._scale is not None
        return self._scale.at(self._real.now())

    def sleep_until(self, real: datetime) -> None:
        """Return at real time `real`."""
        self._real.sleep_until(real)
