"""The market's clock of the paper broker: real time, shifted and scaled. Pure; `real` is an argument."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from broker_connector.kite_words import IST


@dataclass(frozen=True, slots=True)
class MarketClock:
    """Market time stands at `market_anchor` until the real `real_anchor`, then runs at `speed`. Aware UTC."""

    real_anchor: datetime
    market_anchor: datetime
    #: Market seconds in a real second.
    speed: float = 1.0

    @classmethod
    def live(cls, real: datetime) -> "MarketClock":
        """The clock whose market time is real time."""
        return cls(real, real)

    def now(self, real: datetime) -> datetime:
        """Market time at `real`."""
        elapsed = max(timedelta(0), real - self.real_anchor)
        return self.market_anchor + elapsed * self.speed

    def real_at(self, market: datetime) -> datetime:
        """The real instant at which market time reaches `market`; never before the start."""
        return self.real_anchor + max(timedelta(0), market - self.market_anchor) / self.speed


def utc_now() -> datetime:
    """The wall's time, aware."""
    return datetime.now(UTC)


def naive_ist(instant: datetime) -> str:
    """How the broker writes an instant: exchange time without a zone, whole seconds."""
    return instant.astimezone(IST).strftime("%Y-%m-%d %H:%M:%S")
