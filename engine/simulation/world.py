"""The simulated world: one seed's clock, queue, crashes and losses around the real engine, and its invariants.

Everything random comes from the seed, in one order; a run of it is therefore exactly repeatable.
"""

import random
from bisect import bisect
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

from redis.exceptions import RedisError

from engine.actions import Actions
from engine.calendar import Calendar
from engine.domain.action import Policy
from engine.domain.broker import BookEntry
from engine.domain.events import Event, EventType
from engine.domain.run import Run, RunId
from engine.domain.strategy import StopMode
from engine.orderstream import OrderStream
from engine.overnight import Overnight
from engine.pipeline import Pipeline
from engine.ports import AccountState, Breach, StoreClosed
from engine.reconcile import Reconciler
from engine.recovery import Recoverer
from engine.simulation.actors import NO_SKEW, Actor
from engine.simulation.broker import Chances, Placed, SimulatedBroker
from engine.simulation.conduct import UNREAD
from engine.simulation.durable import SimulatedDurable
from engine.simulation.hardships import Kind
from engine.simulation.invariants import Violation, check_always, check_end, check_history, run_id_of
from engine.simulation.judges import Judges
from engine.simulation.livestate import LiveState
from engine.simulation.losses import Losses
from engine.simulation.market import Market
from engine.simulation.oversight import DOUBLES, LastPrice
from engine.simulation.scenario import (
    CIRCUIT_AT,
    CLOSES_TONIGHT,
    DEPLOYMENT,
    FAULTS_END,
    MORNING,
    SETTLED_AFTER,
    SLOTS,
    START,
    Seed,
    run_of,
    strategy_of,
)
from engine.simulation.stand_ins import Bounded, Brokers, Clock, Timers
from engine.simulation.troubles import Troubles
from engine.sweeper import Sweeper
from engine.telling import Told

#: Of a hundred steps, how many resume an actor, take a message, trade, tick; the rest passes time.
ODDS = {"resume": 55, "take": 25, "trade": 8, "tick": 5, "pass": 7}
_DEEDS, _UP_TO = list(ODDS), [sum(list(ODDS.values())[: n + 1]) / 100 for n in range(len(ODDS))]
#: The least price of a limit today, where quotes name it.
LOWER_BAND = Decimal(80)
#: A rare thing: a process that stands still for seconds.
RARE = 0.02
#: How much time passes at once, ms: while somebody works, while nobody does, and while a process is stopped.
BUSY_MS, IDLE_MS, PAUSE_MS = (1, 80), (1, 400), (1000, 9000)
#: How far ahead a clock is that is far ahead.
FAR_AHEAD = timedelta(minutes=1)
#: Threads of all workers, and what each account may take of them.
THREADS, LIMITS = 12, dict.fromkeys(("entry_slots", "exit_slots", "update_slots"), SLOTS)
#: How often accounts are reconciled.
RECONCILED_EVERY = timedelta(seconds=10)
#: How soon a breach is served whose message is lost.
SERVED_WITHIN = timedelta(seconds=1)
#: In a hard world positions are read as often as the order stream's process does, and the book at every fifth look.
COVERED_EVERY, COVERS_A_BOOK = timedelta(seconds=2), 5


_MS = timedelta(milliseconds=1)
_NO_FACTS: Mapping[str, object] = {}

#: When it may be taken, what taking it does, and what it is called.
_Message = tuple[datetime, Callable[[], object], str]


class World:
    """One seed's world."""

    def __init__(self, seed: Seed, store: Callable[[Callable[[], datetime]], Any] = LiveState) -> None:
        """`store`: makes the live state from a clock; in memory, or the real scripts on a server."""
        self.seed = seed
        self.rng = random.Random(seed.number ^ 0x5EED)  # noqa: S311
        self.now = START
        self.actors: list[Actor] = []
        self._running: Actor | None = None
        self.messages: list[_Message] = []
        self.store = store(lambda: self.now)
        #: The line of whoever is no worker: listeners, owners, judges. Each line hears of a new epoch by itself.
        self.outside = LiveState(lambda: self.now, self.store.server)
        #: What happened: when, what, and the facts a log line tells of it.
        self._happened: list[tuple[datetime, str, Mapping[str, object]]] = []
        self._healed = False
        self.doubted_until: datetime | None = None
        #: Whether a book changed since the invariants were checked last.
        self._is_unchecked = False
        #: Runs whose owner said of an order of theirs that it was never placed.
        self.misled: set[RunId] = set()
        self._looks = 0
        self._sweep_at = self._reconcile_at = self.now
        accounts = {number: seed.account_of(number) for number in range(1, seed.runs + 1)}
        self.brokers = {account: self._broker(account) for account in sorted({*accounts.values()})}
        self._strategies = [strategy_of(number, account, seed.hard) for number, account in accounts.items()]
        is_created = seed.hard.are_created
        self._runs = [] if is_created else [run_of(number, account, seed.hard) for number, account in accounts.items()]
        self._compose()

    def _broker(self, account: int) -> SimulatedBroker:
        chances = self.seed.chances if account <= self.seed.ill_accounts else Chances()
        return SimulatedBroker(
            self.rng,
            lambda: self.now,
            self.boundary,
            self._hang,
            partial(self._book_changed, account),
            partial(self._pushed, account),
            chances,
            hard=self.seed.hard,
            lower_band=self.rng.choice((Decimal(0), LOWER_BAND)),
        )

    def _compose(self) -> None:
        self.accounts = [
            AccountState(n, f"t{n}", f"sim-{n}", "simulated", "", "", "", "1", LIMITS | dict(self.seed.hard.limits))
            for n in self.brokers
        ]
        strategies = self._strategies if self.seed.hard.are_created else []
        self.durable = SimulatedDurable(self.store, self.accounts, self._runs, strategies, lambda: self.now)
        limits = self.accounts[0].limits
        self.judges = Judges(self.seed, lambda: self.now, self.outside, self.brokers, self.durable, limits)
        self.market = Market(self, Clock(self), self._log)
        self._troubles = Troubles(self)
        self._timers = Timers(self._trigger)
        self._bounded: Any = Bounded(self, self.store)
        store, policy, clock = self._bounded, Policy(rest_limit=timedelta(seconds=20)), Clock(self)
        actions = Actions(store, Brokers(self.brokers), clock, self._timers, DEPLOYMENT, self._log)
        self.pipeline = Pipeline(store, actions, clock, self, policy, self._log)
        # Processes of their own: what they hear of an epoch tells the workers nothing.
        beside: Any = Bounded(self, self.outside)
        self.sweeper = Sweeper(beside, self, self, clock, policy)
        told = Told(beside, self._log)
        self.overnight = Overnight(beside, Calendar(), lambda: True, clock, told, self._log)
        self.stream = OrderStream(beside, self, clock, DEPLOYMENT, self._log, self.durable)
        self.reconciler = Reconciler(beside, self.stream, clock, self._log)
        self.recoverer = self._new_recoverer()
        self.market.leave_yesterday()
        self._recover()
        self.market.carry()
        self._losses = Losses(self)
        # From here on, so that the first opening needs no luck.
        self._set_clock()

    def _set_clock(self) -> None:
        """The server's clock, where this seed sets it apart."""
        if self.seed.hard.clock:
            self.store.server.skew = timedelta(seconds=self.seed.hard.clock)

    def _trigger(self, run: Run) -> None:
        """What its timers publish."""
        for kind, at in ((EventType.BUY, run.buy_at), (EventType.SELL, run.sell_at)):
            self.publish(Event(f"{kind}:{run.id}", kind, run.id), at)

    def _new_recoverer(self) -> Recoverer:
        """A recoverer that has just started and remembers nothing."""
        self._has_just_started = True
        settle_after = self.brokers[1].profile.settles_after
        # A process of its own, with a line of its own: it hears of an epoch by itself.
        line = LiveState(lambda: self.now, self.store.server)
        brokers, clock, store = Brokers(self.brokers), Clock(self), Bounded(self, line)
        return Recoverer(
            self.durable,
            store,
            line,
            brokers,
            self._timers,
            Calendar(),
            clock,
            DEPLOYMENT,
            settle_after,
            self._log,
        )

    def _recover(self) -> None:
        if not self.store.is_open or self._has_just_started:
            self.recoverer.open(lambda: self.now, Clock(self).sleep_until)
            self._has_just_started = False
        self.recoverer.arm()

    def _sweep(self) -> None:
        if self.seed.hard.has_night:
            self.overnight.look()
        self.sweeper.sweep()

    @property
    def book(self) -> list[Placed]:
        """Every order of ours at every broker."""
        return [placed for broker in self.brokers.values() for placed in broker.book if not placed.is_foreign]

    @property
    def trace(self) -> list[str]:
        """What happened, a line each; written only when asked for, because only a failed seed's is ever read."""
        return [f"{at:%M:%S.%f} {what}{_shown(facts)}" for at, what, facts in self._happened]

    def skew(self) -> timedelta:
        """How far the clock of whoever runs is off."""
        return self._running.skew if self._running is not None else NO_SKEW

    def sleep_until(self, at: datetime) -> None:
        """Whoever runs sleeps; before the world begins its time just passes."""
        if self._running is None:
            self.now = max(self.now, at)
        elif at > self.now:
            self._running.asleep_until = at
            self.boundary("sleeps")

    def ended(self, run_id: RunId) -> None:
        """A run's STOP was committed."""
        self.judges.observer.ended(run_id, self.book)

    def publish(self, event: Event, at: datetime | None = None, reading: object = None) -> None:
        """The `Publisher` port: a queue that loses, repeats and reorders."""
        if not self._healed and self.rng.random() < self.seed.lose_message:
            return
        copies = 2 if self.rng.random() < self.seed.repeat_message else 1
        for _ in range(copies):
            self.messages.append((at or self.now, partial(self._serve, event, reading), f"{event.type}"))

    def ahead_of(self, kind: EventType) -> int:
        """The `Backlog` port: what waits for a thread; a worker that takes it up does so by chance."""
        return sum(name == kind for at, _, name in self.messages if at <= self.now)

    def called(self, name: str, arguments: tuple[Any, ...], named: Mapping[str, Any], reply: Any) -> None:
        """A call of the store has answered."""
        if name == "intend" and reply is None:
            self._losses.granted()
        self.judges.called(name, arguments, named, reply)

    def doubt_clock(self, until: datetime) -> None:
        """Others disagree on the time until then."""
        self.doubted_until = until
        self.judges.conduct.doubted(self.now, until)

    def _serve(self, event: Event, reading: object) -> None:
        self.judges.observer.answered(event, self.pipeline.process(event.as_wire(), reading))

    def boundary(self, name: str) -> None:
        """An I/O boundary of the code that runs: hand over to the world, if it is an actor's."""
        if self._running is not None:
            self._running.pause(name)

    def step(self) -> None:
        """One thing happens."""
        match _DEEDS[bisect(_UP_TO, self.rng.random())]:
            case "resume" if awake := self._awake():
                self._resume(self.rng.choice(awake))
            case "take" if waiting := self._waiting():
                message = self.rng.choice(waiting)
                self.messages.remove(message)
                self._begin(message[2], message[1], works=True)
            case "trade":
                any(broker.trade() for broker in self.rng.sample([*self.brokers.values()], len(self.brokers)))
            case "tick" if not self._healed or self.market.stays_low:
                self._tick()
            case _:
                self._pass_time()
        self._check()

    def run(self) -> None:
        """The faults' time, then healing, then the proof that everything ended; raises Violation."""
        faults_end, ends_at = START + FAULTS_END, START + FAULTS_END + SETTLED_AFTER
        while self.now < faults_end and not self._is_settled():
            self.step()
            if (self.seed.hard.has_night or Kind.CIRCUIT in self.seed.hard) and self.now >= CIRCUIT_AT:
                for broker in self.brokers.values():
                    broker.at_lower_circuit = True
        if self.seed.hard.has_night:
            ends_at = MORNING + SETTLED_AFTER
            self._night()
        self._healed = True
        for broker in self.brokers.values():
            broker.heal()
            broker.at_lower_circuit = False
        self._troubles.heal()
        self.doubted_until = None
        self._losses.heal()
        self.market.heal()
        while self.now < ends_at and not self._is_settled():
            self.step()
        self.durable.take(len(self.store.ledger))
        if self.seed.hard.kinds:
            self.judges.oversight.check_end()
            if not self.seed.hard.has_night:
                check_history([each for each in self.book if self._can_be_known(each)], self.durable)
            return
        check_end(self.book, self.store, self.durable)
        self.judges.observer.check_end(self.durable)

    def _can_be_known(self, placed: Placed) -> bool:
        """Whether an order showed itself before its run ended; what fills after that is told to a human."""
        run = self.durable.run(run_id_of(placed))
        # What shows itself later than anybody waits may bear the name of the attempt that followed it.
        names = () if DOUBLES & self.seed.hard.kinds else [order.client_order_id for order in run.orders]
        is_listed = placed.request.client_order_id in names
        # What a lost second had granted, and nobody filled, leaves no trace once its run has ended.
        may_be_lost = bool(self.seed.lose_store or self.seed.roll_back) and not is_listed and not placed.filled
        is_told = "fill_after_end" not in self.durable.alerts_of(run)
        return placed.visible_at <= self.now and is_told and not may_be_lost

    def _night(self) -> None:
        """The session ends; the next day begins, with the engine awake all the while or not."""
        over = START + CLOSES_TONIGHT + timedelta(seconds=90)
        while Kind.ASLEEP not in self.seed.hard and self.now < over:
            self.step()
        if not (Kind.ASLEEP in self.seed.hard or self.seed.hard.are_created) and self.outside.is_ready():
            self.judges.oversight.check_evening(START + CLOSES_TONIGHT)
        for broker in self.brokers.values():
            broker.night()
            broker.at_lower_circuit = False
        self.tell("THE NIGHT PASSES")
        self.now = max(self.now, MORNING)
        self.judges.night_passed(self.now)
        self._sweep_at = self._reconcile_at = self.now

    def close(self) -> None:
        """End the actors that are left."""
        self._running = None
        for actor in self.actors:
            while not actor.done:
                actor.crash()

    def _waiting(self) -> list[_Message]:
        """The messages a worker's thread could take, none while all of them are busy."""
        return [] if self._is_busy() else [message for message in self.messages if message[0] <= self.now]

    def _is_busy(self) -> bool:
        return sum([actor.works for actor in self.actors]) >= THREADS

    def _awake(self) -> list[Actor]:
        return [actor for actor in self.actors if actor.asleep_until is None or actor.asleep_until <= self.now]

    def _hang(self, span: timedelta) -> None:
        """The broker lets whoever asks wait."""
        if self._running is not None:
            self._running.asleep_until = self.now + span

    def _check(self) -> None:
        if self._is_unchecked:
            self._is_unchecked = False
            # What filled yesterday and was lost since is in no book of today, nor told apart from another's shares.
            is_forgotten = self.seed.hard.has_night and not (self.seed.is_sound and not UNREAD & self.seed.hard.kinds)
            if not (is_forgotten or DOUBLES & self.seed.hard.kinds):
                # Whoever says of an order that is there that it is not is believed where nobody can look.
                check_always(each for each in self.book if run_id_of(each) not in self.misled)

    def _book_changed(self, account: int) -> None:
        self._is_unchecked = True
        self.judges.upkeep.changed(account)

    def _is_settled(self) -> bool:
        waits = self.actors or self.messages or self.store.runtimes or self.durable.open_runs()
        return not (waits or self.durable.untraded() or self.judges.oversight.waits())

    def _begin(self, name: str, call: Callable[[], object], *, works: bool = False) -> Actor:
        actor = Actor(name, call, works=works)
        if self.seed.skew and not self._healed:
            actor.skew = timedelta(seconds=self.rng.uniform(-self.seed.skew, self.seed.skew))
        self.actors.append(actor)
        return actor

    def _set_apart(self, reader: Actor) -> None:
        """Give whoever reads an account the clock of its machine, where that is another one's."""
        hard = self.seed.hard
        if Kind.APART in hard and not self._healed:
            is_set = self.now - START > timedelta(seconds=hard.set_after)
            reader.skew = timedelta(seconds=hard.apart) if is_set else FAR_AHEAD

    def _resume(self, actor: Actor) -> None:
        kill = not self._healed and self.rng.random() < self.seed.crash
        self.tell(f"{actor.name} {'KILLED at ' if kill else ''}{actor.at}")
        self._running = actor
        if kill:
            actor.crash()
            if actor.name == "recoverer":
                self.recoverer = self._new_recoverer()
        else:
            actor.step()
        self._running = None
        if actor.done:
            self.actors.remove(actor)
            self._judge(actor)

    def _judge(self, actor: Actor) -> None:
        """A store that is closed is waited for; the loop of a process waits for any error of Redis."""
        if actor.error is None or isinstance(actor.error, StoreClosed):
            return
        if isinstance(actor.error, RedisError):
            if actor.name in ("recoverer", "sweeper"):
                return
            raise Violation(f"{actor.name} ended of {actor.error}") from actor.error
        raise actor.error

    def _tick(self) -> None:
        """The price moves, and now and then a user stops a run."""
        if not self.market.tick():
            return
        if self.rng.random() < self.seed.user_stops:
            run_id = RunId(self.rng.randint(1, self.seed.runs), date(2026, 1, 5))
            self.durable.request_stop(run_id, StopMode.CLOSE)
            self.judges.conduct.asked(run_id, StopMode.CLOSE)
            if self.outside.signal(run_id, {"stop_requested": StopMode.CLOSE}, self.now) == "ok":
                self.judges.news.told(str(run_id), self.now)
                self.judges.observer.wants_exit(run_id, self.now, self.book)
                self.publish(Event(f"stop:{self.now:%M%S%f}", EventType.FORCE_STOP, run_id))

    def latched(self, breaches: Sequence[Breach]) -> None:
        """The listener's store latched runs: their workers are woken."""
        for breach in breaches:
            self.judges.observer.wants_exit(breach.run_id, self.now, self.book)
            self.judges.news.latched(str(breach.run_id), self.now + SERVED_WITHIN)
            self.publish(Event(breach.event_id, EventType.STOPLOSS, breach.run_id), reading=breach.reading)

    def _pass_time(self) -> None:
        """Milliseconds mostly, sometimes the pause of a process that was stopped."""
        if not self.actors:
            upcoming = [at for at, _, _ in self.messages] + [self._sweep_at]
            self.now = max(self.now, min(upcoming) - 400 * _MS)
        long = self.rng.random() < RARE and not self._healed and not self.seed.is_steady
        usual = BUSY_MS if self.actors else IDLE_MS
        self.now += self.rng.randint(*(PAUSE_MS if long else usual)) * _MS
        self._losses.pass_time()
        if self.now >= self._sweep_at:
            self._sweep_at = self.now + timedelta(seconds=1)
            self._every_second()

    def _every_second(self) -> None:
        """The processes that look once a second: sweeper, drainer, recoverer; and now and then a loss."""
        self.market.carry()
        self._close_exchange()
        # Before it is judged: where all stood still for a while, the listener comes to its ticks first.
        self.market.pause()
        self.judges.look(is_busy=self._is_busy())
        if self.seed.hard.kinds:
            self._troubles_and_oversight()
        else:
            self.judges.observer.check(self.now, self.book, is_busy=self._is_busy())
        self._begin("sweeper", self._sweep)
        records = len(self.store.ledger)
        self.durable.take(records if self._healed else self.rng.randint(0, records))
        if not any(actor.name == "recoverer" for actor in self.actors):
            self._begin("recoverer", self._recover)
        if self.now >= self._reconcile_at:
            is_hard = bool(self.seed.hard.kinds)
            self._reconcile_at = self.now + (COVERED_EVERY if is_hard else RECONCILED_EVERY)
            self._looks += 1
            for account in () if Kind.ALONE in self.seed.hard and not self._healed else self.durable.accounts():
                if not any(actor.name == f"reconciler {account.id}" for actor in self.actors):
                    has_book = not is_hard or self._looks % COVERS_A_BOOK == 0
                    reader = self._begin(
                        f"reconciler {account.id}", partial(self._reconcile, account, has_book=has_book)
                    )
                    self._set_apart(reader)
        self._losses.every_second()

    def _close_exchange(self) -> None:
        """The session's end, as far as a night follows; runs the recoverer makes have the calendar's session."""
        is_over = START + CLOSES_TONIGHT <= self.now < MORNING
        if not self.seed.hard.has_night or self.seed.hard.are_created or not is_over:
            return
        for broker in self.brokers.values():
            if not broker.is_closed:
                # Some books show what rested as resting until the next day.
                broker.close_session(expires=self.seed.number % 2 == 0)

    def _troubles_and_oversight(self) -> None:
        is_well = self.seed.is_sound and self.store.is_open and not self.store.server.refuses and not self._is_busy()
        is_fed = (not self._healed or self.market.stays_low) and self.market.is_fed
        price = LastPrice(self.market.low_since if is_fed else None, self.market.traded_at)
        self.judges.oversight.check(self.now, price, is_well=is_well, crowd=len(self.actors))
        if not self._healed:
            self._troubles.every_second()

    def _reconcile(self, account: AccountState, *, has_book: bool) -> None:
        self.reconciler.cover(account, self.brokers[account.id])
        if has_book:
            self.reconciler.reconcile(account, self.brokers[account.id])

    def tell(self, what: str, facts: Mapping[str, object] = _NO_FACTS) -> None:
        self._happened.append((self.now, what, facts))

    def _pushed(self, account: int, entry: BookEntry) -> None:
        is_alone = Kind.ALONE in self.seed.hard
        if not self._healed and (is_alone or self.rng.random() < self.seed.lose_push):
            return
        copies = 2 if self.rng.random() < self.seed.repeat_message else 1
        for _ in range(copies):
            at = self.now + self.rng.randint(0, 3000) * _MS
            self.messages.append((at, partial(self.stream.on_update, entry, account), "push"))

    def _log(self, action: str, /, **facts: object) -> None:
        self.tell(f"  {action} ", facts)


def _shown(facts: Mapping[str, object]) -> str:
    return " ".join(f"{name}={value}" for name, value in facts.items())
