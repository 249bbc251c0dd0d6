"""When a run trades: its strategy's wall times within its date's session, as far as they fit. Knows no calendar."""

from dataclasses import dataclass, replace
from datetime import datetime

from engine.domain.routing import Alert
from engine.domain.run import Run
from engine.domain.strategy import Session, Strategy, later


@dataclass(frozen=True, slots=True)
class Times:
    """A run's times, market time. Where it closes no later than it buys, it is canceled."""

    buy_at: datetime
    sell_at: datetime
    closes_at: datetime

    @classmethod
    def of(cls, run: Run) -> "Times":
        """Those `run` has."""
        return cls(run.buy_at, run.sell_at, run.closes_at)

    @property
    def is_canceled(self) -> bool:
        """Whether nothing can be bought at these times."""
        return self.closes_at <= self.buy_at

    def put_into(self, run: Run) -> Run:
        """`run` with these times."""
        return replace(run, buy_at=self.buy_at, sell_at=self.sell_at, closes_at=self.closes_at)


def fit(
    strategy: Strategy, session: Session | None, buy_at: datetime, sell_at: datetime, *, entered: bool = False
) -> Times:
    """The times `strategy`, wanting `buy_at` and `sell_at`, has in `session`; None: the exchange is closed.

    A sale that is too late is moved ahead; a purchase is never moved: nobody asked to buy at another time. Once
    `entered`, something may be held, and the session's end is what counts.
    """
    if session is None:
        return Times(buy_at, sell_at, closes_at=buy_at)
    last_sale = session.last_sale(strategy.product)
    if not entered and not session.opens <= buy_at < last_sale:
        return Times(buy_at, sell_at, closes_at=buy_at)
    return Times(buy_at, min(sell_at, last_sale), session.closes)


def goes_on_until(session: Session | None, midnight: datetime, closes_at: datetime, now: datetime) -> datetime:
    """The session's end of a run that was left holding until `closes_at`, where its exchange now has `session`.

    `midnight`: the beginning of today; `session`: today's, None where there is none. Where that is another than was
    known, it is the one that counts; while none is under way nothing can be sold.
    """
    if session is None or now < session.opens:
        return min(closes_at, midnight)
    return session.closes if session.contains(now) else min(closes_at, session.closes)


def moved_alert(strategy: Strategy, before: Times, after: Times) -> tuple[Alert, ...]:
    """What to tell a human of times that changed; that a run is canceled, or cannot be sold, is told as it ends."""
    if after.is_canceled or before.sell_at == after.sell_at:
        return ()
    sells = later(strategy.sell_time, after.sell_at - before.sell_at)
    message = f"{strategy.name}: another session on {after.buy_at:%Y-%m-%d}: it is sold at {sells}"
    return (Alert("warning", "moved", message),)
