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
    #: No price and no last trade: nobody has traded it yet.
    NOT_YET_TRADED = "not_yet_traded"
    NO_TIME = "no_time"
    OUT_OF_SESSION = "out_of_session"
    OLDER_THAN_LAST = "older_than_last"
    #: A stamp ahead of the market's clock would shut out every true tick after it.
    FROM_THE_FUTURE = "from_the_future"
    #: A step that neither a later price nor the day's low confirmed.
    SPIKE = "spike"


#: What a tick is refused for that says something of the feed or of our clock. A trade of another session is an honest
#: one of a symbol that trades seldom, and so is none yet.
UNREADABLE = frozenset({Refusal.NOT_A_PRICE, Refusal.NO_TIME, Refusal.OLDER_THAN_LAST, Refusal.FROM_THE_FUTURE})


@dataclass(frozen=True, slots=True)
class FeedPolicy:
    """What is believed without a second look."""

    #: A step from the last good price beyond this fraction must be confirmed.
    max_step: float = 0.05
    #: So many steps of the price are never too far: one of them alone is 8 % of a price of 0.60.
    least_ticks: int = 2
    #: The day's price band around the previous close, a fraction; used where no quote gave one.
    band: float = 0.20
    #: Market time without a tick after which the next is held against the band, not the last tick.
    gap: timedelta = timedelta(minutes=5)
    #: Exchange time for which the broker's band rules prices out: exchanges widen it.
    band_lasts: timedelta = timedelta(seconds=2)
    #: Real time a doubtful price may wait for confirmation.
    confirm_within: timedelta = timedelta(seconds=1)
    #: Real time one may wait for the day's low that no later price confirmed: long enough to ask the broker anew.
    prove_within: timedelta = timedelta(seconds=3)
    #: Real time a stamp may be ahead of the market's clock, beyond the second it is rounded to.
    ahead: timedelta = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class Asked:
    """A symbol's last trade as the broker tells it: integer price units, exchange time; no band where both are 0.

    `low`: the day's, 0 where it is not told.
    """

    price: int
    lower_band: int
    upper_band: int
    at: datetime
    low: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Doubt:
    """A price in doubt, when it was first seen, real time, and the day's low as told before it, 0 where none was."""

    tick: Tick
    seen_at: datetime
    low_before: int

    @property
    def can_be_proven(self) -> bool:
        """Whether the day's low can tell: a price the day had been to before proves nothing of now."""
        return self.low_before == 0 or self.tick.price < self.low_before

    def is_proven_by(self, low: int) -> bool:
        """Whether the day's low of a later moment says that it was traded. Where none was told before, only itself."""
        return low == self.tick.price if self.low_before == 0 else low <= self.tick.price < self.low_before


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
    """The judgement of one symbol's ticks. Mutable: it remembers the last good price and what is in doubt."""

    policy: FeedPolicy
    session: Session
    last_price: int = 0
    last_time: datetime | None = None
    close: int = 0
    #: The day's price band, units, once the broker told it.
    band: tuple[int, int] | None = None
    #: When that was, exchange time; None where it is known to be old.
    band_at: datetime | None = None
    #: The least step of its price, units; 0 where nobody told.
    tick_size: int = 0
    #: The day's low as the last good packet told it, units; 0 where none did.
    low: int = 0
    #: Whether it is known that this session has traded it, whoever was told of that: no price is then no packet of it.
    was_traded: bool = False
    #: Oldest first: what comes after one does not put off its end.
    doubts: list[Doubt] = field(default_factory=list)
    #: Those no later price confirmed, for the price came back: a trade can be alone, so the day's low is waited for.
    unproven: list[Doubt] = field(default_factory=list)
    refused: Counter[Refusal] = field(default_factory=Counter)
    #: Real time since when every tick was refused for what it is, none for when it was traded; None where one was not.
    unreadable_since: datetime | None = None
    #: When the last of those was refused.
    refused_at: datetime | None = None

    def judge(self, tick: Tick, now: Moment) -> list[Tick]:
        """The ticks to evaluate now that `tick` has come, oldest first: none, itself, or confirmed doubts too."""
        refusal = self._refusal(tick, now)
        if refusal is not None:
            self.refused[refusal] += 1
            if refusal in UNREADABLE:
                self.unreadable_since, self.refused_at = self.unreadable_since or now.real, now.real
            return []
        self.unreadable_since = None
        if tick.close > 0:
            self.close = tick.close
        is_believable = self._is_believable(tick)
        if self.doubts or self.unproven:
            return self._judge_beside_doubts(tick, now.real, is_believable=is_believable)
        if not is_believable:
            return self._doubt(tick, now.real)
        self.low = self._low_told(tick.low, tick.price, tick.traded_at) or self.low
        return self._accept([tick])

    def may_be_untraded(self, tick: Tick) -> bool:
        """Whether `tick` tells of no trade, and nothing else does."""
        is_empty = tick.price == 0 and tick.traded_at is None
        return is_empty and self.last_time is None and not self.was_traded

    @property
    def needs_word(self) -> bool:
        """Whether the broker's word could settle a price in doubt."""
        return bool(self.doubts or self.unproven)

    def _judge_beside_doubts(self, tick: Tick, real_now: datetime, *, is_believable: bool) -> list[Tick]:
        at = tick.exchange_time
        earlier = self._before(at)
        if not is_believable and not self._in_band(tick.price):
            earlier = self._since_it_turned(tick.price, at)
        confirmed = [doubt for doubt in earlier if self._is_borne_out(doubt.tick.price, tick.price, at)]
        is_good = is_believable or any(
            self._is_near(tick.price, doubt.tick.price) or self._is_on_the_way(tick.price, doubt.tick.price, at)
            for doubt in earlier
        )
        if not is_good and not confirmed:
            return self._doubt(tick, real_now)
        # A price that came back to the last good one bears out none; one that came back half the way, not those beyond.
        kept = [each for each in self.doubts if each not in earlier or self._is_beyond(each.tick.price, tick.price)]
        low = self._low_told(tick.low, tick.price, tick.traded_at) if is_good else 0
        believed = self._settle(confirmed, [] if is_believable else kept, low, tick.exchange_time)
        if not is_good:
            return self._accept(believed) + self._doubt(tick, real_now)
        self.low = low or self.low
        return self._accept([*believed, tick])

    def asked(self, told: Asked) -> list[Tick]:
        """The doubtful ticks to evaluate now that the broker was asked: those a later trade is near to, or beyond.

        One near the last good price bears out none; the day's low proves or disproves each. Any other leaves them to
        the next tick, and one of the same second always: the broker may have been told what the feed was told. Its
        band counts from now on.
        """
        if told.upper_band > 0:
            self.band = told.lower_band, told.upper_band
            # A trade outside it proves it old.
            self.band_at = told.at if self._in_band(told.price) else None
        earlier = self._before(told.at)
        confirmed = [doubt for doubt in earlier if self._is_borne_out(doubt.tick.price, told.price, told.at)]
        is_back = self._is_near(told.price, self.last_price)
        kept = [doubt for doubt in self.doubts if doubt not in earlier] if confirmed or is_back else self.doubts
        low = self._low_told(told.low, told.price, told.at)
        believed = self._settle(confirmed, kept, low, told.at)
        # An answer can be older than the packets since: it raises no low.
        self.low = min(low, self.low or low) or self.low
        # A price that came back is the last one still.
        return believed if is_back and not confirmed else self._accept(believed)

    def overdue(self, real_now: datetime) -> list[Tick]:
        """Doubtful ticks nothing confirmed in time: to evaluate where they lie inside the day's band."""
        if not self.needs_word:
            return []
        seen_by, unproven_by = real_now - self.policy.confirm_within, real_now - self.policy.prove_within
        due = [doubt for doubt in self.doubts if doubt.seen_at <= seen_by]
        inside = [doubt for doubt in due if self._in_band(doubt.tick.price)]
        kept = [doubt for doubt in self.doubts if doubt not in due]
        believed = self._settle(inside, kept, 0, None)
        waiting = [doubt for doubt in self.unproven if doubt.seen_at > unproven_by]
        self.refused[Refusal.SPIKE] += len(self.unproven) - len(waiting)
        self.unproven = waiting
        return self._accept(believed)

    def _settle(self, confirmed: list[Doubt], kept: list[Doubt], low: int, at: datetime | None) -> list[Tick]:
        """Take out of the doubts those confirmed and those proven by the day's `low` of `at`, and return them.

        Of the others, those the low disproves are refused. `kept` stay as they are; the rest wait for the low.
        """
        believed, doubts, unproven = [], [], []
        for doubt in [*self.unproven, *self.doubts]:
            is_told = low > 0 and _is_later(at, doubt)
            if doubt in confirmed or (is_told and doubt.is_proven_by(low)):
                believed.append(doubt.tick)
            elif doubt in kept and not (is_told and low > doubt.tick.price):
                doubts.append(doubt)
            elif not is_told and doubt.can_be_proven:
                unproven.append(doubt)
            else:
                self.refused[Refusal.SPIKE] += 1
        self.doubts, self.unproven = doubts, unproven
        return believed

    def _refusal(self, tick: Tick, now: Moment) -> Refusal | None:
        if tick.price <= 0:
            return Refusal.NOT_YET_TRADED if self.may_be_untraded(tick) else Refusal.NOT_A_PRICE
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
        return abs(price - known) <= max(self.policy.max_step * known, self.policy.least_ticks * self.tick_size)

    def _in_band(self, price: int) -> bool:
        if self.band is not None:
            return self.band[0] <= price <= self.band[1]
        return self.close == 0 or abs(price - self.close) <= self.policy.band * self.close

    def _low_told(self, low: int, price: int, traded_at: datetime | None) -> int:
        """The day's low a packet or a quote tells, 0 where none: before its first trade of a day it is yesterday's."""
        is_of_today = traded_at is not None and self.session.contains(traded_at)
        return low if is_of_today and 0 < low <= price else 0

    def _before(self, time: datetime | None) -> list[Doubt]:
        """The doubts of earlier seconds: one of the same second confirms nothing."""
        return [doubt for doubt in self.doubts if _is_later(time, doubt)]

    def _since_it_turned(self, price: int, time: datetime | None) -> list[Doubt]:
        """The doubts of earlier seconds that came after the last one on the other side of the last good price.

        What says that a price rose says that an earlier one did not fall. Inside the day's band whichever comes again
        is right; outside it, a wrong price that is told again is likelier than a band that was widened.
        """
        known = self.last_price or self.close
        sides = [(doubt.tick.price < known) == (price < known) for doubt in self.doubts]
        turned = len(sides) - sides[::-1].index(False) if False in sides else 0
        return [doubt for doubt in self.doubts[turned:] if _is_later(time, doubt)]

    def _is_borne_out(self, doubt: int, price: int, at: datetime | None) -> bool:
        """Whether a later price, of `at`, says that a doubtful one was true: it is near, or even further off."""
        return self._is_near(price, doubt) or self._is_on_the_way(doubt, price, at)

    def _is_on_the_way(self, price: int, other: int, at: datetime | None) -> bool:
        """Whether whoever trades at `other` at that time may have traded at `price`: nobody does outside the band.

        A feed gone wrong tells one such price after another; while the broker's word is fresh only one near it bears
        it out.
        """
        is_fresh = self.band_at is not None and at is not None and at - self.band_at <= self.policy.band_lasts
        is_ruled_out = is_fresh and not self._in_band(price)
        return not is_ruled_out and self._is_beyond(other, price)

    def _is_beyond(self, price: int, other: int) -> bool:
        """Whether `price` is further off the last good one than `other`, on the same side of it."""
        known = self.last_price or self.close
        return known > 0 and (price < other < known or known < other < price)

    def _doubt(self, tick: Tick, real_now: datetime) -> list[Tick]:
        seen_at = next((doubt.seen_at for doubt in self.doubts if doubt.tick == tick), real_now)
        self.doubts = [*self.doubts, Doubt(tick, seen_at, self.low)]
        return []

    def _accept(self, ticks: list[Tick]) -> list[Tick]:
        """Believe `ticks`."""
        # One whose time to be confirmed ran out is not news where others were believed meanwhile.
        newest = [tick for tick in ticks if self._is_news(tick)]
        if newest:
            self.last_price, self.last_time = newest[-1].price, newest[-1].exchange_time
        return ticks

    def _is_news(self, tick: Tick) -> bool:
        return self.last_time is None or (tick.exchange_time is not None and tick.exchange_time >= self.last_time)


def _is_later(time: datetime | None, doubt: Doubt) -> bool:
    return time is not None and doubt.tick.exchange_time is not None and doubt.tick.exchange_time < time
