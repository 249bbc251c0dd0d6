"""Arming: which strategies get a run, on which date and at which times, and why one gets none.

Creates rows and never executes. Used by one thread of one process, the recoverer's.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Protocol

from engine.domain.action import Policy
from engine.domain.broker import Instrument
from engine.domain.moment import Moment
from engine.domain.orders import Leg
from engine.domain.routing import Alert
from engine.domain.run import Run, RunId
from engine.domain.schedule import Times, fit, moved_alert
from engine.domain.strategy import Session, Strategy, UnconfirmedYear
from engine.domain.ticks import to_units
from engine.instruments import PUBLISHED, Instruments
from engine.ports import AccountState, Calendar, Clock
from engine.telling import Told

#: How long before its time to buy somebody is told of a strategy that cannot be armed, market time.
NEAR = timedelta(minutes=5)
#: Real time between two tries to find the symbols of open runs in the day's list.
ASK_SYMBOLS_EVERY = timedelta(seconds=30)
#: The scale of the stop of a run that can buy nothing, whose instrument may be unknown.
ANY_SCALE = 100


class Missed(Protocol):
    """What tells of strategies whose date has passed."""

    def missed(self, day: date) -> Sequence[tuple[Strategy, date, datetime]]:
        """Strategies with each date before `day` on which they had no run and wanted one, and when they were added."""


@dataclass(frozen=True, slots=True)
class _Passed:
    """A date of a strategy that passed without a run, and why."""

    strategy: Strategy
    day: date
    reason: str


class Arming:
    """Makes the runs of a date."""

    def __init__(
        self,
        instruments: Instruments,
        calendar: Calendar,
        clock: Clock,
        told: Told,
        missed: Missed | None = None,
        policy: Policy | None = None,
    ) -> None:
        self._instruments = instruments
        self._calendar = calendar
        self._clock = clock
        self._told = told
        self._missed = missed
        self._policy = policy or Policy()
        #: The day on whose list the symbols of all open runs were looked for, and when that was tried last.
        self._symbols_seen_on: date | None = None
        self._symbols_asked_at: datetime | None = None
        #: The date whose missed strategies were looked for last, what of them is told of once an earlier run has ended,
        #: and what will be left of that.
        self._looked_on: date | None = None
        self._passed: list[_Passed] = []
        self._left: list[_Passed] = []

    def runs(
        self, due: Sequence[Strategy], day: date, earlier: Mapping[int, Run], accounts: Mapping[int, AccountState]
    ) -> list[Run]:
        """Runs for those `due` on `day` that can have one now; `earlier`: each strategy's open run, by its id."""
        possible = (self._run(strategy, day, earlier.get(strategy.id), accounts) for strategy in due)
        return [run for run in possible if run is not None]

    def missed(self, day: date, open_runs: Callable[[Collection[int]], Mapping[int, Run]]) -> list[Run]:
        """Runs that can buy nothing, for dates before `day` that passed while nobody armed: they tell of it and end.

        `open_runs`: the open run of each of these strategies. One that may hold something held the date back, and that
        is told instead; one that holds nothing ends in a moment, and the date has its run then. Raises StoreClosed.
        """
        if self._missed is None:
            return []
        if self._looked_on != day:
            self._passed = [*self._wanted_in_vain(self._missed.missed(day))]
        earlier = open_runs({each.strategy.id for each in self._passed}) if self._passed else {}
        made, self._left = list[Run](), []
        held_back: defaultdict[int, list[_Passed]] = defaultdict(list)
        for each in self._passed:
            open_run = earlier.get(each.strategy.id)
            if open_run is None:
                made.append(self._canceled(each.strategy, each.day, each.reason))
            elif _may_hold(open_run) or not any(each.strategy.dates(day)):
                # One whose last date is past gets no run any more, however soon the earlier one ends.
                held_back[each.strategy.id].append(each)
            else:
                self._left.append(replace(each, reason=f"run {open_run.id} was still open"))
        for strategy_id, dates in held_back.items():
            open_run, days = earlier[strategy_id], ", ".join(str(each.day) for each in dates)
            # By the newest of them: where the engine was up on that one, it is told already.
            self._tell_held_back(open_run, dates[-1].day, f"got no run on {days}: {_named(open_run)} is open")
        return made

    def has_looked(self, day: date) -> None:
        """What `missed` found for `day` is stored: it is not looked for again until another day."""
        self._looked_on, self._passed = day, self._left

    def _wanted_in_vain(self, missed: Sequence[tuple[Strategy, date, datetime]]) -> Iterator[_Passed]:
        for strategy, day, added_at in missed:
            wanted = self._wanted(strategy, day)
            if strategy.repeat is not None and wanted.buy_at <= added_at:
                continue
            try:
                session = self._calendar.session(strategy.symbol, day)
            except UnconfirmedYear:
                continue
            fits = not fit(strategy, session, wanted.buy_at, wanted.sell_at).is_canceled
            # One that repeats waits for a session it fits; one with this very date was never going to trade.
            if fits or strategy.repeat is None:
                yield _Passed(strategy, day, "engine_was_down" if fits else "")

    def _hold_back(self, day: date, times: Times, earlier: Run) -> None:
        """Tell that a strategy gets no run on `day`, which would have `times`, while its `earlier` one is open.

        One that holds nothing, and buys nothing, ends in a moment as a rule: of it is told where `times` are near.
        """
        if _may_hold(earlier) or self._clock.now().market >= times.buy_at - NEAR:
            self._tell_held_back(earlier, day, f"gets no run on {day} until {_named(earlier)} has ended")

    def _tell_held_back(self, earlier: Run, day: date, what: str) -> None:
        strategy = earlier.strategy
        alert = Alert("warning", "held_back", f"{strategy.name} {what}")
        self._told.once(("held_back", strategy.id, day), strategy.tenant, alert)

    def _session(self, symbol: str, day: date) -> Session | UnconfirmedYear | None:
        """The symbol's session of `day`, None where it is closed, or why nobody knows, which an operator is told."""
        try:
            return self._calendar.session(symbol, day)
        except UnconfirmedYear as error:
            self._told.of_year(error)
            return error

    def _run(
        self, strategy: Strategy, day: date, earlier: Run | None, accounts: Mapping[int, AccountState]
    ) -> Run | None:
        """The run of `strategy` on `day`; None where there can be none, or none yet."""
        times = self._times(strategy, day)
        if times is None:
            return None
        if earlier is not None:
            # Two open runs could be two positions.
            self._hold_back(day, times, earlier)
            return None
        listed = self._listed(strategy, accounts)
        if listed is None:
            account = accounts[strategy.account_id]
            reason = f"what {account.market} lists cannot be read, by account {account.name} or another"
            return self._not_armed(strategy, day, times, reason)
        instrument = listed.get(strategy.symbol)
        if instrument is None:
            self._tell_gone(strategy, day, "it is not armed")
            return self._not_armed(strategy, day, times, f"{strategy.symbol} is not an instrument its broker lists")
        return _made(strategy, day, times, to_units(strategy.stop_loss, instrument.scale))

    def _not_armed(self, strategy: Strategy, day: date, times: Times, reason: str) -> Run | None:
        """Tell why `strategy` cannot be armed, once its time is near; once it is past, a run whose row says so."""
        now = self._clock.now()
        if times.is_canceled or now.market < times.buy_at - NEAR:
            return None
        message = f"{strategy.name} is not armed, its time to buy is {strategy.buy_time}: {reason}"
        self._told.once(("not_armed", strategy.id, day), strategy.tenant, Alert("critical", "not_armed", message))
        if not now.is_trusted or not self._is_past(times, now):
            return None
        return self._canceled(strategy, day, reason)

    def _is_past(self, times: Times, now: Moment) -> bool:
        return now.late(times.buy_at) > self._policy.max_lateness or now.market >= max(times.buy_at, times.sell_at)

    def _canceled(self, strategy: Strategy, day: date, reason: str) -> Run:
        """A run that can buy nothing and ends as missed, for `reason`."""
        wanted = self._wanted(strategy, day)
        times = Times(wanted.buy_at, wanted.sell_at, closes_at=wanted.buy_at)
        return _made(strategy, day, times, to_units(strategy.stop_loss, ANY_SCALE), reason)

    def _wanted(self, strategy: Strategy, day: date) -> Times:
        """The times `strategy` names, on `day`."""
        exchange = strategy.symbol.split(":")[0]
        walls = (strategy.buy_time, strategy.sell_time)
        buy_at, sell_at = (self._calendar.to_utc(exchange, day, wall) for wall in walls)
        return Times(buy_at, sell_at, sell_at)

    def _times(self, strategy: Strategy, day: date) -> Times | None:
        """When `strategy` trades on `day`; None where it does not.

        A session that changed since it was stored moves it, or cancels it: one whose only date this is gets a run
        that can buy nothing, and is told of as that ends; any other is meant for the next session it fits.
        """
        session = self._session(strategy.symbol, day)
        if isinstance(session, UnconfirmedYear):
            return None
        wanted = self._wanted(strategy, day)
        times = fit(strategy, session, wanted.buy_at, wanted.sell_at)
        is_first = strategy.trading_date == day
        if not is_first or (strategy.repeat is not None and times.is_canceled):
            if session is None or self._clock.now().market > session.closes:
                # It is meant for the next session, not for the one that is over.
                return None
            if times.is_canceled:
                message = f"{strategy.name}: its times are outside the session of {day}; it waits"
                self._told.once(("waits", strategy.id, day), strategy.tenant, Alert("warning", "waits", message))
                return None
        for alert in moved_alert(strategy, Times(wanted.buy_at, wanted.sell_at, times.closes_at), times):
            self._told.once((alert.code, strategy.id, day), strategy.tenant, alert)
        return times

    def may_look_for_symbols(self) -> bool:
        """Whether the symbols of open runs were not all looked for in the day's list, nor just now."""
        now = self._clock.now()
        asked_just_now = self._symbols_asked_at is not None and now.real < self._symbols_asked_at + ASK_SYMBOLS_EVERY
        return self._symbols_seen_on != self._listing_day(now) and not asked_just_now

    def look_for_symbols(self, runs: Sequence[Run], accounts: Mapping[int, AccountState]) -> None:
        """Once a day: tell of `runs` under way whose symbol is listed no more, so that no tick of it will come."""
        now = self._clock.now()
        day = self._listing_day(now)
        self._symbols_asked_at = now.real
        complete = True
        for run in runs:
            exchange, account = run.strategy.symbol.split(":")[0], accounts[run.strategy.account_id]
            listed = self._listed(run.strategy, accounts)
            if listed is None or not self._instruments.is_of(account.market, exchange, day):
                # Nobody can tell today: who reads the list says so.
                complete = False
            elif run.strategy.symbol not in listed:
                held = f"it holds {run.held}, and its stop cannot fire" if run.held else "its stop could not fire"
                self._tell_gone(run.strategy, day, held)
        if complete:
            self._symbols_seen_on = day

    def _listing_day(self, now: Moment) -> date:
        return self._calendar.today("NSE", now.market - PUBLISHED)

    def _tell_gone(self, strategy: Strategy, day: date, what: str) -> None:
        message = f"{strategy.name}: {strategy.symbol} is not listed on {day} (renamed, merged?): {what}"
        self._told.once(("symbol_gone", strategy.id, day), strategy.tenant, Alert("critical", "symbol_gone", message))

    def _listed(self, strategy: Strategy, accounts: Mapping[int, AccountState]) -> Mapping[str, Instrument] | None:
        """What the market of a strategy lists, None while nobody can tell: asked by its own account first."""
        own = accounts[strategy.account_id]
        ordered = sorted(accounts.values(), key=lambda each: each.id != own.id)
        exchange, now = strategy.symbol.split(":")[0], self._clock.now().market
        return self._instruments.listed(own.market, exchange, ordered, now, [strategy.symbol])


def _made(strategy: Strategy, day: date, times: Times, stop_units: int, failure: str = "") -> Run:
    return Run(
        id=RunId(strategy.id, day),
        strategy=strategy,
        buy_at=times.buy_at,
        sell_at=times.sell_at,
        closes_at=times.closes_at,
        stop_units=stop_units,
        failure=failure,
    )


def _named(run: Run) -> str:
    return f"run {run.id}, which holds {run.held},"


def _may_hold(run: Run) -> bool:
    """Whether an open run holds something, or may be about to."""
    return run.held > 0 or run.live(Leg.ENTRY) is not None or bool(run.watched)
