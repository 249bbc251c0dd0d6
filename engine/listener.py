"""The market listener: one frame in, one `on_tick` round trip, which latches every run it breached and sends STOPLOSS.

Every believed tick is evaluated, none conflated. Knows no wire format and no connection.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import chain
from typing import Protocol

from engine.domain.feed import Asked, ClockLead, Refusal, SymbolGuard
from engine.domain.moment import Moment
from engine.domain.routing import Alert
from engine.domain.ticks import Tick, lows
from engine.ports import Breach, Clock, Log, StoreClosed, StoreFault

#: Market time after a session's close from which its symbols are judged by the next session.
AFTER_CLOSE = timedelta(hours=1)

#: How far behind the market's clock the newest stamp of all that comes may be, real time, and for how long, until the
#: feed counts as one that lags: nothing it tells is of now.
LAGS_BY, LAGS_FOR = timedelta(seconds=10), timedelta(seconds=5)
#: How long ago the last frame may have come to say so: what does not come at all is no lag.
FLOWS_WITHIN = timedelta(seconds=3)
#: Real time for which every tick of a symbol is refused until its feed counts as dead.
UNREADABLE_FOR = timedelta(seconds=5)


#: Real time between two questions whether what tells of no trade was traded all the same.
ASK_TRADED_EVERY = timedelta(seconds=5)


class Live(Protocol):
    """What it needs of the live state. Every call raises StoreClosed."""

    def on_tick(self, market: str, ticks: Sequence[Tick], seen_at: datetime, prefix: str) -> Sequence[Breach]:
        """As `engine.ports.Store.on_tick`."""

    def alert_once(self, tenant: str, alert: Alert, name: str) -> bool:
        """As `engine.ports.Store.alert_once`."""

    def traded(self, market: str, opened: Mapping[str, datetime]) -> set[str]:
        """Symbols, each told with when its session `opened`, that were traded in it."""


class Listener:
    """Turns ticks into latched runs, whose workers the store wakes. Used by one thread."""

    def __init__(
        self, store: Live, market: str, clock: Clock, guard_for: Callable[[str], SymbolGuard], log: Log
    ) -> None:
        self._store = store
        self._market = market
        self._clock = clock
        self._guard_for = guard_for
        self._log = log
        self._guards: dict[str, SymbolGuard] = {}
        self._tick_sizes: dict[str, int] = {}
        self._lead = ClockLead()
        #: While the store is away: each symbol's believed ticks that still count, played back on its return.
        self._missed: dict[str, list[Tick]] = {}
        #: Symbols whose state the scripts cannot work on: they are tried alone, so that they hold no other back.
        self._faulty: set[str] = set()
        self._is_away = False
        self._frames = 0
        #: Since when all that comes is old, and when it last came, real time.
        self._old_since: datetime | None = None
        self._old_at: datetime | None = None
        #: Symbols whose packets tell of no trade; when the live state was asked whether it knows of one, real time.
        self._untraded: set[str] = set()
        self._asked_traded_at: datetime | None = None
        self.evaluated = 0
        #: Symbols whose price took a step too far; whoever can asks the broker, see `on_asked`.
        self.doubted: set[str] = set()

    def on_frame(self, ticks: Iterable[Tick], seen_at: datetime) -> int:
        """Evaluate one frame's ticks; returns how many runs it latched."""
        now, ticks = self._clock.now(), [*ticks]
        self._time(ticks, now)
        believed: list[Tick] = []
        for tick in ticks:
            guard = self._guard(tick.symbol, now)
            if tick.price == 0 and guard.may_be_untraded(tick):
                self._untraded.add(tick.symbol)
            believed += self._judge(guard, tick, now)
            if guard.needs_word:
                self.doubted.add(tick.symbol)
        latched = self._evaluate(believed, seen_at)
        if self._untraded:
            self._ask_traded(now)
        return latched

    def on_asked(self, told: Mapping[str, Asked]) -> int:
        """Evaluate what the broker's word confirms, by symbol; returns how many runs it latched."""
        known = ((self._guards[symbol], word) for symbol, word in told.items() if symbol in self._guards)
        confirmed = [tick for guard, word in known for tick in guard.asked(word)]
        return self._evaluate(confirmed, self._clock.now().real) if confirmed else 0

    def on_pause(self) -> int:
        """Between frames: doubts nobody confirmed in time, and what was missed while the store was away."""
        now = self._clock.now().real
        overdue = [tick for guard in self._guards.values() for tick in guard.overdue(now)]
        # Of one that went quiet no tick would have the broker asked again.
        self.doubted |= {symbol for symbol, guard in self._guards.items() if guard.unproven}
        return self._evaluate(overdue, now) if overdue or self._missed else 0

    def unreadable(self) -> set[str]:
        """Symbols all of whose ticks are refused for what they are, for a while now: theirs is no living feed.

        So is that of a symbol whose prices the store cannot take.
        """
        refused = {symbol for symbol, guard in self._guards.items() if _is_unreadable(guard)}
        return refused | self._faulty

    def in_session(self, symbols: Iterable[str]) -> list[str]:
        """Those of `symbols` whose session is on."""
        now = self._clock.now()
        return [symbol for symbol in symbols if self._guard(symbol, now).session.contains(now.market)]

    @property
    def lags(self) -> bool:
        """Whether ticks come and all of them are old: stops would fire late, on prices that are gone."""
        if self._old_since is None or self._old_at is None:
            return False
        now = self._clock.now().real
        return now - self._old_since >= LAGS_FOR and now - self._old_at <= FLOWS_WITHIN

    def _ask_traded(self, now: Moment) -> None:
        """Ask the live state of what tells of no trade: this listener may have begun after it was traded."""
        if self._asked_traded_at is not None and now.real - self._asked_traded_at < ASK_TRADED_EVERY:
            return
        self._asked_traded_at = now.real
        opened = {symbol: self._guards[symbol].session.opens for symbol in self.in_session(self._untraded)}
        self._untraded.clear()
        try:
            traded = self._store.traded(self._market, opened) if opened else set()
        except StoreClosed:
            # The next packet has it asked again.
            return
        for symbol in traded:
            self._guards[symbol].was_traded = True

    def _time(self, ticks: Sequence[Tick], now: Moment) -> None:
        stamps = [tick.exchange_time for tick in ticks if tick.exchange_time is not None]
        if not stamps:
            return
        if (now.market - max(stamps)) / max(now.speed, 1.0) <= LAGS_BY:
            self._old_since = self._old_at = None
            return
        if self._old_at is None or now.real - self._old_at > FLOWS_WITHIN:
            # What came alone, such as the last packet of a quiet symbol, says nothing of the others.
            self._old_since = now.real
        self._old_at = now.real

    @property
    def is_behind(self) -> bool:
        """Whether ticks wait for the store."""
        return self._is_away

    @property
    def clock_lead(self) -> timedelta:
        """How far our clock is behind the feed's, where that is allowed for."""
        return self._lead.lead

    def _judge(self, guard: SymbolGuard, tick: Tick, now: Moment) -> list[Tick]:
        before = guard.refused[Refusal.FROM_THE_FUTURE]
        believed = guard.judge(tick, self._lead.shifted(now))
        if tick.exchange_time is None:
            return believed
        is_ahead = guard.refused[Refusal.FROM_THE_FUTURE] > before
        if self._lead.see(tick.exchange_time, now, is_ahead=is_ahead):
            self._log("clock_behind", seconds=self._lead.lead.total_seconds())
            return guard.judge(tick, self._lead.shifted(now))
        return believed

    def learn(self, tick_sizes: Mapping[str, int]) -> None:
        """Judge steps of these symbols by the least step of their prices, units."""
        self._tick_sizes |= tick_sizes
        for symbol in tick_sizes.keys() & self._guards.keys():
            self._guards[symbol].tick_size = tick_sizes[symbol]

    def follow(self) -> None:
        """Judge every symbol by its session as the calendar now has it."""
        for symbol, guard in self._guards.items():
            guard.session = self._guard_for(symbol).session

    def refused(self) -> Counter[Refusal]:
        """How many ticks had no effect, by reason."""
        return sum((guard.refused for guard in self._guards.values()), Counter())

    def _guard(self, symbol: str, now: Moment) -> SymbolGuard:
        guard = self._guards.get(symbol)
        if guard is None or now.market >= guard.session.closes + AFTER_CLOSE:
            guard = self._guards[symbol] = self._guard_for(symbol)
            guard.tick_size = self._tick_sizes.get(symbol, 0)
        return guard

    def _evaluate(self, ticks: list[Tick], seen_at: datetime) -> int:
        """Hand what was missed and `ticks` to the store; returns how many runs that latched."""
        if self._missed:
            ticks = [*chain.from_iterable(self._missed.values()), *ticks]
            self._missed = {}
        if self._faulty:
            alone = _by_symbol(tick for tick in ticks if tick.symbol in self._faulty)
            ticks = [tick for tick in ticks if tick.symbol not in self._faulty]
        else:
            alone = {}
        try:
            latched = self._hand_over(ticks, seen_at)
        except StoreFault:
            latched, alone = 0, alone | _by_symbol(ticks)
        return latched + sum(self._try_alone(symbol, own, seen_at) for symbol, own in alone.items())

    def _hand_over(self, ticks: Sequence[Tick], seen_at: datetime) -> int:
        """One call of the store; what it does not take while it is away is kept. Raises StoreFault."""
        if not ticks:
            return 0
        self._frames += 1
        prefix = f"sl:{seen_at:%H%M%S%f}:{self._frames}"
        try:
            breaches = self._store.on_tick(self._market, ticks, seen_at, prefix)
        except StoreFault:
            raise
        except StoreClosed as error:
            if not self._is_away:
                self._log("ticks_kept", reason=str(error))
            self._is_away = True
            self._keep(ticks)
            return 0
        self._is_away = False
        self.evaluated += len(ticks)
        for breach in breaches:
            self._log("latched", run=str(breach.run_id), price=breach.price, event_id=breach.event_id)
        return len(breaches)

    def _try_alone(self, symbol: str, ticks: Sequence[Tick], seen_at: datetime) -> int:
        """Hand over one symbol's ticks; where its own state is what fails, somebody is told and the others go on."""
        try:
            latched = self._hand_over(ticks, seen_at)
        except StoreFault as error:
            self._keep(ticks)
            if symbol not in self._faulty:
                self._faulty.add(symbol)
                self._tell(symbol, error)
            return 0
        if not self._is_away:
            self._faulty.discard(symbol)
        return latched

    def _tell(self, symbol: str, error: StoreFault) -> None:
        message = f"prices of {symbol} cannot be stored, its stops do not fire: {error}"
        self._log("alert", severity="critical", code="symbol_broken", message=message)
        try:
            self._store.alert_once("", Alert("critical", "symbol_broken", message), f"symbol_broken:{symbol}")
        except StoreClosed as closed:
            self._log("store_closed", reason=str(closed))

    def _keep(self, ticks: Iterable[Tick]) -> None:
        """Keep of each symbol's ticks what tells of every breach."""
        for symbol, own in _by_symbol(ticks).items():
            self._missed[symbol] = lows([*self._missed.get(symbol, []), *own])


def _is_unreadable(guard: SymbolGuard) -> bool:
    """Whether ticks came for a while, and every one was refused for what it is: one alone proves nothing."""
    if guard.unreadable_since is None or guard.refused_at is None:
        return False
    return guard.refused_at - guard.unreadable_since >= UNREADABLE_FOR


def _by_symbol(ticks: Iterable[Tick]) -> dict[str, list[Tick]]:
    found: dict[str, list[Tick]] = {}
    for tick in ticks:
        found.setdefault(tick.symbol, []).append(tick)
    return found
