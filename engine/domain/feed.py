"""Distrust of the feed: which ticks may be believed, which must be confirmed, which have no effect.

Pure and per symbol; the listener holds one `SymbolGuard` a symbol. Evaluates every tick, conflates none.
"""

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from engine.domain.moment import Moment
from engine.domain.strategy import Session
from engine.domain.ticks import Tick


class Refusal(StrEnum):
    """Why a tick has no effect."""

    NOT_A_PRICE = "not_a_price"
    NO_TIME = "no_time"
    OUT_OF_SESSION = "out_of_session"
    OLDER_THAN_LAST = "older_than_last"
    #: A stamp ahead of the market's clock would shut out every true tick after it.
    FROM_THE_FUTURE = "from_the_future"
    #: A step no later tick confirmed.
    SPIKE = "spike"


#: What a tick is refused for that says something of the feed or of our clock. A trade of another session is an honest
#: one of a symbol that trades seldom.
UNREADABLE = frozenset({Refusal.NOT_A_PRICE, Refusal.NO_TIME, Refusal.OLDER_THAN_LAST, Refusal.FROM_THE_FUTURE})


@dataclass(frozen=True, slots=True)
class FeedPolicy:
    """What is believed without a second look."""

    #: A step from the last good price beyond this fraction must be confirmed.
    max_step: float = 0.05
    #: The day's price band around the previous close, a fraction; used where no quote gave one.
    band: float = 0.20
    #: Market time without a tick after which the next is held against the band, not the last tick.
    gap: timedelta = timedelta(minutes=5)
    #: Real time a doubtful price may wait for confirmation.
    confirm_within: timedelta = timedelta(seconds=1)
    #: Real time a stamp may be ahead of the market's clock, beyond the second it is rounded to.
    ahead: timedelta = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class Asked:
    """A symbol's last trade as the broker tells it: integer price units, exchange time; no band where both are 0."""

    price: int
    lower_band: int
    upper_band: int
    at: datetime


@dataclass(slots=True)
class ClockLead:
    """How far the stamps of a whole feed run ahead of our clock. Mutable.

    Where every tick is from the future for a while, by the same lead, our clock is slow: refusing them for ever would
    leave every stop without a price. The lead is then allowed for, and no longer once no tick needs it.
    """

    #: Real time for which all must be ahead, how much their leads may differ, and the longest lead that is believed.
    learn_after: timedelta = timedelta(seconds=3)
    spread: timedelta = timedelta(seconds=2)
    longest: timedelta = timedelta(minutes=1)
    #: Real time after the last tick that needed it at which it is forgotten.
    keep: timedelta = timedelta(minutes=1)
    #: What is allowed for, real time.
    lead: timedelta = timedelta(0)
    _since: datetime | None = None
    _least: timedelta = timedelta(0)
    _most: timedelta = timedelta(0)
    _needed_at: datetime | None = None

    def shifted(self, now: Moment) -> Moment:
        """`now` with the lead allowed for."""
        return replace(now, market=now.market + self.lead * now.speed) if self.lead else now

    def see(self, stamp: datetime, now: Moment, *, is_ahead: bool) -> bool:
        """Take in one tick's stamp; True where a lead has just been learned, and the tick is worth a second look.

        `is_ahead`: it was refused as from the future, with what is allowed for already.
        """
        ahead = (stamp - now.market) / max(now.speed, 1.0)
        if not is_ahead:
            self._since = None
            if self.lead and ahead > FeedPolicy().ahead:
                self._needed_at = now.real
            if self.lead and (self._needed_at is None or now.real - self._needed_at > self.keep):
                self.lead = timedelta(0)
            return False
        if self._since is None or max(self._most, ahead) - min(self._least, ahead) > self.spread:
            self._since, self._least, self._most = now.real, ahead, ahead
        self._least, self._most = min(self._least, ahead), max(self._most, ahead)
        if now.real - self._since < self.learn_after or self._most > self.longest:
            return False
        self.lead, self._since, self._needed_at = self._most, None, now.real
        return True


@dataclass(slots=True)
class SymbolGuard:
    """The judgement of one symbol's ticks. Mutable: it remembers the last good price and one doubt."""

    policy: FeedPolicy
    session: Session
    last_price: int = 0
    last_time: datetime | None = None
    close: int = 0
    #: The day's price band, units, once the broker told it.
    band: tuple[int, int] | None = None
    doubts: list[Tick] = field(default_factory=list)
    doubt_seen_at: datetime | None = None
    refused: Counter[Refusal] = field(default_factory=Counter)
    #: Real time since when every tick was refused for what it is, none for when it was traded; None where one was not.
    unreadable_since: datetime | None = None

    def judge(self, tick: Tick, now: Moment) -> list[Tick]:
        """The ticks to evaluate now that `tick` has come, oldest first: none, itself, or confirmed doubts too."""
        refusal = self._refusal(tick, now)
        if refusal is not None:
            self.refused[refusal] += 1
            if refusal in UNREADABLE:
                self.unreadable_since = self.unreadable_since or now.real
            return []
        self.unreadable_since = None
        if tick.close > 0:
            self.close = tick.close
        if self.doubts and self._confirms(tick):
            return self._accept([*self.doubts, tick])
        if self._is_believable(tick):
            self.refused[Refusal.SPIKE] += len(self.doubts)
            return self._accept([tick])
        return self._doubt(tick, now.real)

    def asked(self, told: Asked) -> list[Tick]:
        """The doubtful ticks to evaluate now that the broker was asked: those a later trade is near to.

        One near the last good price proves them wrong. Any other leaves them to the next tick, and one of the same
        second always: the broker may have been told what the feed was told. Its band counts from now on.
        """
        if told.upper_band > 0:
            self.band = told.lower_band, told.upper_band
        if not self.doubts:
            return []
        doubt = self.doubts[-1]
        assert doubt.exchange_time is not None
        if told.at <= doubt.exchange_time:
            return []
        if self._is_near(told.price, doubt.price):
            return self._accept(self.doubts)
        if self._is_near(told.price, self.last_price):
            self.refused[Refusal.SPIKE] += len(self.doubts)
            self._accept([])
        return []

    def overdue(self, real_now: datetime) -> list[Tick]:
        """Doubtful ticks nothing confirmed in time: to evaluate where they lie inside the day's band."""
        if self.doubt_seen_at is None or real_now < self.doubt_seen_at + self.policy.confirm_within:
            return []
        inside = [tick for tick in self.doubts if self._in_band(tick.price)]
        self.refused[Refusal.SPIKE] += len(self.doubts) - len(inside)
        return self._accept(inside)

    def _refusal(self, tick: Tick, now: Moment) -> Refusal | None:
        if tick.price <= 0:
            return Refusal.NOT_A_PRICE
        if tick.exchange_time is None:
            return Refusal.NO_TIME
        if not self.session.contains(tick.exchange_time):
            return Refusal.OUT_OF_SESSION
        if self.last_time is not None and tick.exchange_time < self.last_time:
            return Refusal.OLDER_THAN_LAST
        if tick.exchange_time > now.market + self.policy.ahead * max(now.speed, 1.0):
            return Refusal.FROM_THE_FUTURE
        return None

    def _is_believable(self, tick: Tick) -> bool:
        assert tick.exchange_time is not None
        if self.last_time is None or tick.exchange_time - self.last_time > self.policy.gap:
            return self._in_band(tick.price)
        return self._is_near(tick.price, self.last_price)

    def _is_near(self, price: int, known: int) -> bool:
        return abs(price - known) <= self.policy.max_step * known

    def _in_band(self, price: int) -> bool:
        if self.band is not None:
            return self.band[0] <= price <= self.band[1]
        return self.close == 0 or abs(price - self.close) <= self.policy.band * self.close

    def _confirms(self, tick: Tick) -> bool:
        doubt = self.doubts[-1]
        assert tick.exchange_time is not None
        assert doubt.exchange_time is not None
        later = tick.exchange_time > doubt.exchange_time
        return later and self._is_near(tick.price, doubt.price)

    def _doubt(self, tick: Tick, real_now: datetime) -> list[Tick]:
        if self.doubts and not self._is_near(tick.price, self.doubts[-1].price):
            self.refused[Refusal.SPIKE] += len(self.doubts)
            self.doubts, self.doubt_seen_at = [], None
        self.doubts.append(tick)
        self.doubt_seen_at = self.doubt_seen_at or real_now
        return []

    def _accept(self, ticks: list[Tick]) -> list[Tick]:
        self.doubts, self.doubt_seen_at = [], None
        if ticks:
            self.last_price, self.last_time = ticks[-1].price, ticks[-1].exchange_time
        return ticks
