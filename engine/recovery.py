"""Recovery: the live state opened under an epoch, rebuilt from the durable one, and kept complete.

One recoverer at a time. It creates state and never executes: the claim admits one runner for what it creates.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from functools import partial
from typing import Protocol

from engine import lifecycle
from engine.accountsdown import AccountsDown
from engine.arming import Arming, Missed
from engine.domain.action import Policy
from engine.domain.broker import BookEntry, BrokerUnreachable, TokenInvalid
from engine.domain.run import Run, RunId
from engine.domain.schedule import Times
from engine.domain.strategy import Strategy
from engine.instruments import Instruments
from engine.ports import AccountState, Armed, Brokers, Calendar, Clock, Log, Store, Timers
from engine.reads import Reads
from engine.telling import Told

#: Instrument lists read at a time.
DUMPS_AT_ONCE = 8
#: The longest a call that was under way is waited for, real time: a deadline beyond it was told by a wrong clock.
LONGEST_WAIT = timedelta(minutes=2)


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

    def follow(self, symbols: Collection[tuple[str, str]]) -> None:
        """Have listeners follow these symbols, each with its market first; also while the store is closed."""


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
        *,
        threads: int = 0,
        missed: Missed | None = None,
        policy: Policy | None = None,
    ) -> None:
        """`settle_after`: how long after Redis went a call that was under way then may still show in a book.

        `threads`: how many brokers are asked at once; 0: one after the other.
        """
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
        told = Told(store, log)
        # A list takes its time, megabytes of it: what has nothing to do with it goes on meanwhile.
        dumps = Instruments(brokers, calendar.today, store, log, threads=min(threads, DUMPS_AT_ONCE))
        self._arming = Arming(dumps, calendar, clock, told, missed, policy)
        self._books: Reads[int, Sequence[BookEntry]] = Reads(threads=threads)
        self._down = AccountsDown(store, log)
        self._accounts: dict[int, AccountState] = {}
        self._armed: set[RunId] = set()
        #: Whether every open run is: then there is no other until one is created.
        self._all_armed = False

    def open(
        self,
        real_now: Callable[[], datetime],
        sleep_until: Callable[[datetime], None],
        holds: Callable[[], bool] = lambda: True,
        went_at: datetime | None = None,
    ) -> None:
        """Open the store: at once where it is the one we know, else rebuilt under the next epoch.

        `holds`: whether this process is still the recoverer, asked after every wait: another may have taken over, and
        then nothing is opened. `went_at`: when Redis went, if that is known; else it went just now.
        """
        stored, run_id, known = self._epoch.stored(), self._epoch.run_id(), self._durable.epoch()
        if stored is not None and known is not None and stored == known and stored[1] == run_id:
            self._log("epoch_kept", epoch=stored[0])
            return
        n = self._durable.advance_epoch(run_id)
        self._durable.drain(n)
        runs = self._durable.open_runs()
        if runs and known is not None:
            # A call under way when Redis went may still reach the broker: no attempt is numbered before it shows.
            until = self._settled_at(runs, went_at or real_now())
            self._log("recovery_waits", epoch=n, seconds=(until - real_now()).total_seconds(), runs=len(runs))
            sleep_until(until)
        if not holds() or self._durable.epoch() != (n, run_id):
            self._log("recovery_left", epoch=n, reason="another recoverer has taken over")
            return
        if self._epoch.run_id() != run_id:
            # Opened under a name the history does not know, it is rebuilt again soon, and loses what it took meanwhile.
            self._log("recovery_left", epoch=n, reason="Redis was swapped once more while it was waited for")
            return
        # A server that kept its state may lack its last second of it: all is rebuilt from what is durable.
        self._store.forget_runs()
        # The listener follows them from now on: what they reach until their runs are armed is kept.
        markets = {account.id: account.market for account in self._durable.accounts()}
        self._store.follow({(markets[run.strategy.account_id], run.strategy.symbol) for run in runs})
        self._epoch.open(n)
        # What was written to the Redis that is gone has to be written again.
        self._accounts.clear()
        self._armed.clear()
        self._all_armed = False
        # A book that was asked for before the store was open may lack what was under way.
        self._books.forget()
        self._log("epoch_opened", epoch=n, runs=len(runs))

    def _settled_at(self, runs: Sequence[Run], went_at: datetime) -> datetime:
        """When every call that was under way at `went_at` shows in a book or never will: each by its own deadline."""
        known = [order.settles_at for run in runs for order in run.orders if order.is_doubtful]
        # One we do not know of was granted before that instant; no deadline lies further than a wrong clock can put it.
        return max(went_at + self._settle_after, *(min(each, went_at + LONGEST_WAIT) for each in known), went_at)

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
                self._log("account_ready", account=account.id, tenant=account.tenant, broker=account.broker)
            if known is not None and known.version != account.version:
                self._try_again(account)
            # Last: where PostgreSQL or Redis fails in between, all of it is done again.
            self._accounts[account.id] = account

    def _try_again(self, account: AccountState) -> None:
        """Exits that wait need not wait longer: `account` has other details, a new token as a rule."""
        now = self._clock.now().real
        for run in self._durable.open_runs():
            if run.strategy.account_id == account.id and run.held > 0:
                self._store.signal(run.id, {"exit_retry_at": ""}, now)

    def arm(self) -> int:
        """Give every strategy of today its run, and every open run its live state and timers; returns how many.

        A run that may have sent orders is armed with what its account's book proves; while that book cannot be
        read its account stays down alone, for an attempt we do not know of would be sent again. What may hold
        something comes first, and no account waits for another's broker.
        """
        self.refresh_accounts()
        day = self._calendar.today("NSE", self._clock.now().market)
        count = 0 if self._all_armed else self._arm_open()
        created = self._create_runs(day)
        if created:
            count += self._arm_created(created)
        if self._arming.may_look_for_symbols():
            self._arming.look_for_symbols(self._durable.open_runs(), self._accounts)
        if count:
            self._log("armed", runs=count)
        return count

    def _arm_open(self) -> int:
        """Arm every open run that is not yet and whose account's book is read; returns how many are from now on."""
        waiting: dict[int, list[Run]] = {}
        count, now = 0, self._clock.now().real
        for run in self._durable.open_runs():
            if run.id in self._armed:
                continue
            if self._store.account_of(run.id) is None:
                waiting.setdefault(run.strategy.account_id, []).append(run)
                continue
            # It lives, by a recoverer before this one: only its timers may be missing, and no book is asked for those.
            count += self._arm(run)
            self._armed.add(run.id)
        questions = {account: partial(self._book, self._accounts[account]) for account in waiting}
        for account, answer in self._books.ask(questions):
            if isinstance(answer, BrokerUnreachable | TokenInvalid):
                self._down.heard(account, str(answer))
                self._log("account_down", account=account, reason=str(answer))
                continue
            # First: were it not told, the book of an account whose runs are all armed would not be read again.
            self._down.up(self._accounts[account])
            for run in waiting.pop(account):
                adopted = lifecycle.adopt(run, answer, self._deployment, self._clock.now().real)
                count += self._arm(replace(adopted, dirty=True))
                self._armed.add(run.id)
        self._all_armed = not waiting
        for account, runs in waiting.items():
            self._down.look(self._accounts[account], runs, now)
        return count

    def _book(self, account: AccountState) -> Sequence[BookEntry]:
        return self._brokers.of(account.id, account.version).orders()

    def _arm_created(self, created: Collection[RunId]) -> int:
        """Arm runs that were created just now: nothing can have been sent for them."""
        count = 0
        for run in self._durable.open_runs(of={each.strategy_id for each in created}):
            if run.id in created and run.id not in self._armed:
                count += self._arm(run)
                self._armed.add(run.id)
        return count

    def _create_runs(self, day: date) -> frozenset[RunId]:
        """Rows for the strategies of `day` that have none, and for those whose date has passed without one."""
        missed = self._arming.missed(day, self._open_of)
        # Before the strategies whose last date is behind them are ended: they have their row all the same.
        self._create(missed)
        self._arming.has_looked(day)
        due = self._durable.unarmed(day)
        earlier = self._open_of({strategy.id for strategy in due}) if due else {}
        runs = self._arming.runs(due, day, earlier, self._accounts)
        self._create(runs)
        return frozenset(run.id for run in (*missed, *runs))

    def _open_of(self, strategies: Collection[int]) -> dict[int, Run]:
        return {run.id.strategy_id: run for run in self._durable.open_runs(of=strategies)}

    def _create(self, runs: Sequence[Run]) -> None:
        if runs:
            # Stored or not where this breaks off: the next pass finds them among the open runs.
            self._all_armed = False
            self._durable.create_runs(runs)

    def _arm(self, run: Run) -> bool:
        now = self._clock.now()
        at_once = run.dirty or Times.of(run).is_canceled
        armed = self._store.arm(run, now.real if at_once else now.when(run.buy_at), buying=bool(run.orders))
        if armed is Armed.ENDED:
            return False
        self._timers.schedule(run, now)
        return True
