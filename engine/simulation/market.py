"""The simulated market: one symbol's price, the feed that tells it, and the real listener behind that."""

import random
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

from redis.exceptions import RedisError

from engine.domain.feed import Asked, FeedPolicy, SymbolGuard
from engine.domain.strategy import Session
from engine.domain.ticks import Tick
from engine.listener import Listener
from engine.ports import AccountState, Breach, Clock, Log
from engine.runtime import codec, keys
from engine.simulation.hardships import Kind
from engine.simulation.invariants import Violation
from engine.simulation.judges import Judges
from engine.simulation.livestate import LiveState
from engine.simulation.scenario import CIRCUIT_AT, MORNING, START, STOP, SYMBOL, Seed

#: Yesterday's close, the day's band, and how often a quote names that.
CLOSE, BAND, QUOTES_BAND = 10_000, (8_000, 12_000), 0.5
#: A price outside that.
BELOW_BAND = 7_900
#: Between which prices it moves, and how far down and up at a tick: on a wild day, and on a quiet one near the stop.
LOWEST, HIGHEST, WILD, QUIET = 8_500, 11_900, (-400, 380), (-50, 50)
IS_QUIET, NEAR = 0.3, (-100, 300)
#: How often a trade is alone, far below those before and after it, where the feed sends nonsense, and how far, percent.
DIPS, DIPS_TO = 0.05, 92
#: In how long such a trade is proven by the day's low that the next packet tells, and how far that may be off.
PROVEN_WITHIN, SMALL = timedelta(seconds=2), 400
#: How far beyond a stop the price stays at the end.
FAR = 500
#: How often a day opens below every stop, and how often a price of the day before is known.
OPENS_LOW, HAS_YESTERDAY = 0.15, 0.3
#: How often a listener that lags is held up for as long as it is, or for another while, and how long at most.
HELD_UP, LAGS_MS = 0.2, 15000
#: How long after the start a feed comes that comes late.
FEED_BEGINS = timedelta(seconds=12)


class Around(Protocol):
    """What a market needs of its world."""

    now: datetime
    rng: random.Random
    seed: Seed
    store: LiveState
    outside: LiveState
    accounts: list[AccountState]
    judges: Judges

    def latched(self, breaches: Sequence[Breach]) -> None:
        """The listener's store latched runs."""


class Market:
    """Its price moves at each tick, told or not."""

    def __init__(self, world: "Around", clock: Clock, log: Log) -> None:
        self._world = world
        hard = world.seed.hard
        #: Whether the price is below every stop once the faults are over.
        self.stays_low = Kind.STAYS_LOW in hard or Kind.CIRCUIT in hard
        #: What the last true tick said, and until when none is told.
        self.told = CLOSE
        #: Since when that is at or below every stop.
        self.low_since: datetime | None = None
        #: When that price was traded.
        self.traded_at = START - timedelta(hours=1)
        self.silent_until = world.now + (FEED_BEGINS if hard.comes_late else timedelta(0))
        self._price = STOP - FAR if world.rng.random() < OPENS_LOW else CLOSE
        self._steps = WILD
        if world.rng.random() < IS_QUIET:
            self._price, self._steps = STOP + world.rng.randint(*NEAR), QUIET
        self._is_over = False
        #: The lowest trade of the day, and whether packets tell it; quotes do.
        self._low = self._price
        self._tells_low = world.seed.number % 3 > 0
        #: When the last packet told of a trade that is alone and below all before, and of the price before it.
        self._dipped: tuple[datetime, int] | None = None
        wakes: Any = _Wakes(world)
        self._listener = Listener(wakes, world.accounts[0].market, clock, _guard, log)
        self._second = Listener(wakes, world.accounts[0].market, clock, _guard, log)
        #: True ticks that the second one has not read yet, oldest first, and how far behind it is.
        self._unread: list[Tick] = []
        self._lag = timedelta(0)

    def leave_yesterday(self) -> None:
        """Now and then the live state has kept the last price of the day before, and it is below every stop."""
        if self._world.rng.random() < HAS_YESTERDAY:
            then = str(codec.to_us(START - timedelta(hours=18)))
            left = ("price", str(STOP - FAR), "time", then, "traded_at", then)
            self._world.store.server.keys.call("HSET", [keys.price(self._world.accounts[0].market, SYMBOL), *left])

    @property
    def is_fed(self) -> bool:
        """Whether the price reaches the listener."""
        return self._world.now >= self.silent_until

    def heal(self) -> None:
        """No fault from here on, and a price that stays where it is."""
        self._is_over = True
        self._price = STOP - FAR if self.stays_low else STOP + FAR

    def carry(self) -> None:
        """A listener proves that the line of the symbol lives."""
        if self.is_fed and self._can_store():
            self._world.judges.conduct.fed()
            self._world.outside.carry(self._world.accounts[0].market, "listener", 1, [(timedelta(0), [SYMBOL])])

    def tick(self) -> bool:
        """One move of the price; whether it was told, and the live state takes more."""
        world = self._world
        if world.seed.hard.illiquid and world.rng.random() < world.seed.hard.illiquid:
            return self._repeat()
        if self._is_over or (Kind.CIRCUIT in world.seed.hard and world.now >= CIRCUIT_AT):
            self._price = STOP - FAR
        else:
            self._price = min(HIGHEST, max(LOWEST, self._price + world.rng.randint(*self._steps)))
        price = self._price * DIPS_TO // 100 if self._dips() else self._price
        is_lowest, self._low = price < self._low, min(price, self._low)
        if not self.is_fed:
            return False
        before, self.told, self.traded_at = self.told, price, world.now
        self.low_since = (self.low_since or world.now) if self.told <= STOP else None
        world.judges.conduct.told(price)
        world.judges.stops.told(price, is_alone=price < self._price)
        self._judge_dips(before, is_alone=is_lowest and price < self._price)
        ticks = [self._packet()]
        if world.seed.hard.bad_ticks > 0 and world.rng.random() < world.seed.hard.bad_ticks:
            ticks += self._bad_ticks()
        self._listener.on_frame(ticks, world.now)
        self._ask(self._listener)
        if Kind.PAIR in world.seed.hard:
            self._unread.append(ticks[0])
            self._read_late()
        return self._can_store()

    def _read_late(self) -> None:
        """What the listener that lags has come to by now."""
        world = self._world
        if world.rng.random() < HELD_UP:
            self._lag = timedelta(milliseconds=world.rng.randint(0, LAGS_MS))
        while self._unread and world.now - (self._unread[0].exchange_time or world.now) >= self._lag:
            self._second.on_frame([self._unread.pop(0)], world.now)
            self._ask(self._second)

    def _dips(self) -> bool:
        """Whether somebody trades once, far below all others."""
        return not self._is_over and self._world.seed.hard.bad_ticks > 0 and self._world.rng.random() < DIPS

    def _judge_dips(self, before: int, *, is_alone: bool) -> None:
        """A trade that was alone is a breach once the next packet, near the one before, has told the day's low."""
        now, stops, dipped = self._world.now, self._world.judges.stops, self._dipped
        self._dipped = None
        if dipped and dipped[0] < now <= dipped[0] + PROVEN_WITHIN and abs(self.told - dipped[1]) <= SMALL:
            stops.proven()
        elif is_alone and self._tells_low and Kind.FEED not in self._world.seed.hard and self.told <= STOP < before:
            self._dipped = now, before
            stops.dipped()

    def _packet(self, close: int = CLOSE) -> Tick:
        """A packet of now that tells of the last trade."""
        low = self._low if self._tells_low else 0
        return Tick(SYMBOL, self.told, self._world.now, close, self.traded_at if low else self._stamp(), low)

    def _stamp(self) -> datetime | None:
        """When the price was traded, where the feed tells it."""
        return self.traded_at if Kind.ILLIQUID in self._world.seed.hard else None

    def _repeat(self) -> bool:
        """A packet of now that tells of the last trade, and no close: no price has moved."""
        if self.is_fed and self.traded_at >= START:
            self._listener.on_frame([self._packet(close=0)], self._world.now)
        return self.is_fed and self._can_store()

    def pause(self) -> None:
        """No frame came for a while."""
        self._listener.on_pause()
        self._second.on_pause()

    def _can_store(self) -> bool:
        return self._world.outside.is_ready()

    def _ask(self, listener: Listener) -> None:
        """A price that is doubted is asked of the broker, which tells the last trade."""
        if not listener.doubted:
            return
        listener.doubted.clear()
        at = self._world.now + self._world.rng.choice((-1, 0, 1)) * timedelta(seconds=1)
        band = BAND if self._world.rng.random() < QUOTES_BAND else (0, 0)
        listener.on_asked({SYMBOL: Asked(self._price, *band, at, self._low)})

    def _bad_ticks(self) -> list[Tick]:
        """What a feed sends besides: no price, no time, one far off; an old one, or one from the future, close by."""
        price, at = self._price, self._world.now
        near = price * 96 // 100
        choices = (
            [Tick(SYMBOL, 0, at, CLOSE)],
            [Tick(SYMBOL, near, None, CLOSE)],
            # Told twice of the same moment it is no less wrong.
            [Tick(SYMBOL, price // 2, at, CLOSE)] * 2,
            # The day's low it tells itself is no proof of it. In the band it would count where nothing follows.
            [Tick(SYMBOL, BELOW_BAND, at, CLOSE, at, BELOW_BAND)],
            [Tick(SYMBOL, near, at - timedelta(seconds=self._world.rng.randint(2, 15)), CLOSE)],
            [Tick(SYMBOL, near, at + timedelta(minutes=1), CLOSE)],
            [Tick(SYMBOL, near, at - timedelta(days=1), CLOSE)],
        )
        return self._world.rng.choice(choices)


def _guard(_symbol: str) -> SymbolGuard:
    """What judges the ticks of a symbol."""
    session = Session(START.date(), START - timedelta(minutes=15), MORNING + timedelta(hours=6))
    return SymbolGuard(FeedPolicy(), session)


class _Wakes:
    """The listener's store: what it latches, the world wakes workers for, at once."""

    def __init__(self, world: "Around") -> None:
        self._world = world

    def on_tick(self, market: str, ticks: Sequence[Tick], seen_at: datetime, prefix: str) -> Sequence[Breach]:
        """As the store's."""
        try:
            breaches = self._world.outside.on_tick(market, ticks, seen_at, prefix)
        except RedisError as error:
            raise Violation(f"the listener ended of {error}") from error
        self._world.latched(breaches)
        return breaches

    def traded(self, market: str, opened: Mapping[str, datetime]) -> set[str]:
        """As the store's."""
        traded: set[str] = self._world.outside.traded(market, opened)
        return traded
