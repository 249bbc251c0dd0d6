"""The two clocks at one instant: market time, scaled in a replay, and real time, which never is."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Moment:
    """Now, on both clocks, aware UTC. `speed` is market seconds in one real second."""

    market: datetime
    real: datetime
    speed: float = 1.0
    #: Whether others agree on the time: no position is opened by a clock that may be wrong.
    is_trusted: bool = True

    def late(self, due: datetime) -> timedelta:
        """Real time passed since market time `due`; negative before it."""
        return (self.market - due) / self.speed

    def at(self, real: datetime) -> "Moment":
        """The moment of real time `real`, which is close to this one."""
        return replace(self, real=real, market=self.market + (real - self.real) * self.speed)

    def when(self, due: datetime) -> datetime:
        """The real instant of market time `due`."""
        return self.real + (due - self.market) / self.speed
