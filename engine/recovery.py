"""Recovery and arming: the live state opened under an epoch, rebuilt from the durable one, and kept complete.

One recoverer at a time. It creates state and never executes: the claim admits one runner for what it creates.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Protocol

from engine import lifecycle
from engine.books import Books
from engine.domain.broker import Instrument
from engine.domain.orders import Leg
from engine.domain.routing import Alert
from engine.domain.run import Run, RunId
from engine.domain.schedule import Times, fit, moved_alert
from engine.domain.strategy import Session, Strategy, UnconfirmedYear
from engine.domain.ticks import to_units
from engine.instruments import PUBLISHED, Instruments
from engine.ports import AccountState, Armed, Brokers, Calendar, Clock, Log, Store, Timers

#: Real time between two tries to find the symbols of open runs in the day's list.
ASK_SYMBOLS_EVERY = timedelta(seconds=30)


class Durable(Protocol):
    """What recovery needs of PostgreSQL."""

    def epoch(self) -> tuple[int, str] | None:
        """The current epoch's number and its Redis' run id."""

    def advance_epoch(self, redis_run_id: str) -> int:
        """Begin the next epoch; an older drainer is fenced from here on."""

    def accounts(self) -> Sequence[AccountState]:
        """Every account, its secrets encrypted."""

    def unarmed(self, day: date) -> Sequence[Strategy]:
        """Strategies to trade on `day` that have no run for it; those whose last date is behind it are ended."""

    def create_runs(self, runs: Sequence[Run]) -> None:
        """Store those that are absent, in one transaction."""

    def open_runs(self, *, of: Collection[int] | None = None, before: date | None = None) -> Sequence[Run]:
        """Runs that still need the engine, with their orders: all, of these strategies, of dates before that one."""

    def drain(self, epoch: int) -> None:
        """Store what the ledger's stream still holds, as the drainer of `epoch`."""


class EpochKeeper(Protocol):
    """The epoch as Redis holds it."""

    def stored(self) -> tuple[int, str] | None:
        """The (n, run id) in Redis."""

    def run_id(self) -> str:
        """This Redis' own run id."""

    def open(self, n: int) -> str:
        """Open the store under epoch `n`."""


class LiveState(Store, Protocol):
    """The store, and what only recovery writes."""

    def write_account(self, account: AccountState) -> None:
        """Put an account where workers read it."""

    def forget_runs(self) -> None:
        """Drop every live run, but not the tombstones of those that ended; only while the store is closed."""


class Recoverer:
    """Opens, rebuilds and arms. Used by one thread of one process."""

    def __init__(
        self,
        durable: Durable,
        store: LiveState,
        epoch: EpochKeeper,
        brokers: Brokers,
        timers: Timers,
        calendar: Calendar,
        clock: Clock,
        deployment: str,
        settle_after: timedelta,
        log: Log,
    ) -> None:
        self._durable = durable
        self._store = store
        self._epoch = epoch
        self._brokers = brokers
        self._timers = timers
        self._calendar = calendar
        self._clock = clock
        self._deployment = deployment
        self._settle_after = settle_after
        self._log = log
        self._accounts: dict[int, AccountState] = {}
        self._armed: set[RunId] = set()
        #: Whether every open run is: then there is no other until one is created.
        self._all_armed = False
        #: The date a run that is left holding was last given a session of.
        self._prolonged: dict[RunId, date] = {}
        self._instruments = Instruments(brokers, calendar.today, store, log)
        #: The day on whose list the symbols of all open runs were looked for, and when that was tried last.
        self._symbols_seen_on: date | None = None
        self._symbols_asked_at: datetime | None = None
        #: Years and strategies somebody was told of: they wait for an operator, another session, or an earlier run.
        self._told: set[tuple[object, ...]] = set()

    def open(self, real_now: Callable[[], datetime], sleep_until: Callable[[datetime], None]) -> None:
        """Open the store: at once where it is the one we know, else rebuilt under the next epoch."""
        stored, run_id, known = self._epoch.stored(), self._epoch.run_id(), self._durable.epoch()
        if stored is not None and known is not None and stored == known and stored[1] == run_id:
            self._log("epoch_kept", epoch=stored[0])
            return
        n = self._durable.advance_epoch(run_id)
        self._durable.drain(n)
        runs = self._durable.open_runs()
        if runs and known is not None:
            # A call under way when Redis went may still reach the broker: no attempt is numbered before it shows.
            self._log("recovery_waits", epoch=n, seconds=self._settle_after.total_seconds(), runs=len(runs))
            sleep_until(real_now() + self._settle_after)
        # A server that kept its state may lack its last second of it: all is rebuilt from what is durable.
        self._store.forget_runs()
        self._epoch.open(n)
        # What was written to the Redis that is gone has to be written again.
        self._accounts.clear()
        self._armed.clear()
        self._all_armed = False
        self._prolonged.clear()
        self._log("epoch_opened", epoch=n, runs=len(runs))

    @property
    def accounts(self) -> Collection[AccountState]:
        """Every account, as workers were last told of it."""
        return self._accounts.values()

    def refresh_accounts(self) -> None:
        """Write accounts that are new or changed where workers read them."""
        for account in self._durable.accounts():
            known = self._accounts.get(account.id)
            if known != account:
                self._store.write_account(account)
                self._accounts[account.id] = account
                self._log("account_ready", account=account.id, tenant=account.tenant, broker=account.broker)
            if known is not None and known.version != account.version:
                self._try_again(account)

    def _try_again(self, account: AccountState) -> None:
        """Exits that wait need not wait longer: `account` has other details, a new token as a rule."""
        now = self._clock.now().real
        for run in self._durable.open_runs():
            if run.strategy.account_id == account.id and run.held > 0:
                self._store.signal(run.id, {"exit_retry_at": ""}, now)

    def arm(self) -> int:
        """Give every strategy of today its run, and every open run its live state and timers; returns how many.

        A run that may have sent orders is armed with what its account's book proves; while that book cannot be
        read its account stays down alone, for an attempt we do not know of would be sent again.
        """
        self.refresh_accounts()
        day = self._calendar.today("NSE", self._clock.now().market)
        created = self._create_runs(day)
        count = 0 if self._all_armed and not created else self._arm_open(created)
        for run in self._durable.open_runs(before=day):
            self._prolong(run)
        self._look_for_symbols()
        if count:
            self._log("armed", runs=count)
        return count

    def _arm_open(self, created: frozenset[RunId]) -> int:
        """Arm every open run that is not yet; returns how many are from now on."""
        books = Books(self._brokers, self._accounts, self._log)
        count = 0
        self._all_armed = True
        for run in self._durable.open_runs():
            if run.id in self._armed:
                continue
            known = run if run.id in created else self._with_book(run, books)
            if known is None:
                self._all_armed = False
                continue
            count += self._arm(known)
            self._armed.add(run.id)
        return count

    def _prolong(self, run: Run) -> None:
        """A run that was left holding when its session ended goes on in the next one, once that has begun."""
        if run.held <= 0:
            return
        exchange, now = run.strategy.symbol.split(":")[0], self._clock.now()
        today = self._calendar.today(exchange, now.market)
        if run.id.trading_date >= today or self._prolonged.get(run.id) == today:
            return
        session = self._session(run.strategy.symbol, today)
        if isinstance(session, Session) and session.contains(now.market):
            self._store.prolong(run.id, session.closes, now.real)
            self._prolonged[run.id] = today
            self._log("prolonged", run=str(run.id), closes_at=session.closes.isoformat())

    def _create_runs(self, day: date) -> frozenset[RunId]:
        """Rows for the strategies of `day` that have none; nothing can have been sent for these."""
        due = self._durable.unarmed(day)
        of = {strategy.id for strategy in due}
        earlier = {run.id.strategy_id: run for run in self._durable.open_runs(of=of)} if due else {}
        possible = (self._new_run(strategy, day, earlier.get(strategy.id)) for strategy in due)
        runs = [run for run in possible if run is not None]
        self._durable.create_runs(runs)
        return frozenset(run.id for run in runs)

    def _hold_back(self, day: date, earlier: Run) -> None:
        """Tell that a strategy gets no run on `day` while its `earlier` one holds, or may be buying."""
        if earlier.held > 0 or earlier.live(Leg.ENTRY) or earlier.watched:
            strategy, holds = earlier.strategy, f"run {earlier.id}, which holds {earlier.held},"
            alert = Alert("warning", "held_back", f"{strategy.name} gets no run on {day} until {holds} has ended")
            self._tell(("held_back", strategy.id, day), strategy.tenant, alert)

    def _arm(self, run: Run) -> bool:
        now = self._clock.now()
        at_once = run.dirty or Times.of(run).is_canceled
        armed = self._store.arm(run, now.real if at_once else now.when(run.buy_at), buying=bool(run.orders))
        if armed is Armed.ENDED:
            return False
        self._timers.schedule(run, now)
        return True

    def _new_run(self, strategy: Strategy, day: date, earlier: Run | None) -> Run | None:
        """The run of `strategy` on `day`; None where there can be none, or none yet."""
        times = self._times(strategy, day)
        if times is None:
            return None
        if earlier is not None:
            # Two open runs could be two positions.
            self._hold_back(day, earlier)
            return None
        listed = self._listed(strategy)
        if listed is None:
            return None
        instrument = listed.get(strategy.symbol)
        if instrument is None:
            self._tell_gone(strategy, day, "it is not armed")
            return None
        return Run(
            id=RunId(strategy.id, day),
            strategy=strategy,
            buy_at=times.buy_at,
            sell_at=times.sell_at,
            closes_at=times.closes_at,
            stop_units=to_units(strategy.stop_loss, instrument.scale),
        )

    def _times(self, strategy: Strategy, day: date) -> Times | None:
        """When `strategy` trades on `day`; None where it does not.

        A session that changed since it was stored moves it, or cancels it: one whose only date this is gets a run
        that can buy nothing, and is told of as that ends; any other is meant for the next session it fits.
        """
        exchange = strategy.symbol.split(":")[0]
        session = self._session(strategy.symbol, day)
        if isinstance(session, UnconfirmedYear):
            return None
        walls = (strategy.buy_time, strategy.sell_time)
        buy_at, sell_at = (self._calendar.to_utc(exchange, day, wall) for wall in walls)
        times = fit(strategy, session, buy_at, sell_at)
        is_first = strategy.trading_date == day
        if not is_first or (strategy.repeat is not None and times.is_canceled):
            if session is None or self._clock.now().market > session.closes:
                # It is meant for the next session, not for the one that is over.
                return None
            if times.is_canceled:
                waits = Alert(
                    "warning", "waits", f"{strategy.name}: its times are outside the session of {day}; it waits"
                )
                self._tell(("waits", strategy.id, day), strategy.tenant, waits)
                return None
        for alert in moved_alert(strategy, Times(buy_at, sell_at, times.closes_at), times):
            self._tell((alert.code, strategy.id, day), strategy.tenant, alert)
        return times

    def _session(self, symbol: str, day: date) -> Session | UnconfirmedYear | None:
        """The symbol's session of `day`, None where it is closed, or why nobody knows, which an operator is told."""
        try:
            return self._calendar.session(symbol, day)
        except UnconfirmedYear as error:
            unconfirmed = Alert("critical", "year_unconfirmed", str(error))
            self._tell((unconfirmed.code, error.exchange, error.year), "", unconfirmed)
            return error

    def _tell(self, what: tuple[object, ...], tenant: str, alert: Alert) -> None:
        """Record `alert`, once for each `what`."""
        if what in self._told:
            return
        if self._store.alert_once(tenant, alert, ":".join(map(str, what))):
            self._log("alert", tenant=tenant, severity=alert.severity, code=alert.code, message=alert.message)
        self._told.add(what)

    def _listed(self, strategy: Strategy) -> Mapping[str, Instrument] | None:
        """What the market of a strategy lists, None while nobody can tell: asked by its own account first."""
        own = self._accounts[strategy.account_id]
        accounts = sorted(self._accounts.values(), key=lambda each: each.id != own.id)
        exchange, now = strategy.symbol.split(":")[0], self._clock.now().market
        return self._instruments.listed(own.market, exchange, accounts, now, [strategy.symbol])

    def _look_for_symbols(self) -> None:
        """Once a day: tell of runs under way whose symbol is listed no more, so that no tick of it will come."""
        now = self._clock.now()
        day = self._calendar.today("NSE", now.market - PUBLISHED)
        asked_just_now = self._symbols_asked_at is not None and now.real < self._symbols_asked_at + ASK_SYMBOLS_EVERY
        if self._symbols_seen_on == day or asked_just_now:
            return
        self._symbols_asked_at = now.real
        complete = True
        for run in self._durable.open_runs():
            exchange, account = run.strategy.symbol.split(":")[0], self._accounts[run.strategy.account_id]
            listed = self._listed(run.strategy)
            if listed is None or not self._instruments.is_of(account.market, exchange, day):
                # Nobody can tell today: who reads the list says so.
                complete = False
            elif run.strategy.symbol not in listed:
                held = f"it holds {run.held}, and its stop cannot fire" if run.held else "its stop could not fire"
                self._tell_gone(run.strategy, day, held)
        if complete:
            self._symbols_seen_on = day

    def _tell_gone(self, strategy: Strategy, day: date, what: str) -> None:
        message = f"{strategy.name}: {strategy.symbol} is not listed on {day} (renamed, merged?): {what}"
        self._tell(("symbol_gone", strategy.id, day), strategy.tenant, Alert("critical", "symbol_gone", message))

    def _with_book(self, run: Run, books: Books) -> Run | None:
        """`run` with every order its account's book proves to be its own; None while the book cannot be read."""
        book = books.of(run.strategy.account_id)
        if book is None:
            return None
        return replace(lifecycle.adopt(run, book, self._deployment, self._clock.now().real), dirty=True)
