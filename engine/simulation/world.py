"""The simulated world: one seed's clock, queue, crashes and losses around the real engine, and its invariants.

Everything random comes from the seed, in one order; a run of it is therefore exactly repeatable.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any

from engine.actions import Actions
from engine.calendar import Calendar
from engine.domain.broker import BookEntry
from engine.domain.decision import Policy
from engine.domain.events import Event, EventType
from engine.domain.moment import Moment
from engine.domain.orders import TERMINAL, Side
from engine.domain.run import Run, RunId, parse_client_order_id
from engine.domain.strategy import StopMode, Strategy
from engine.domain.ticks import Tick
from engine.orderstream import OrderStream
from engine.pipeline import Pipeline
from engine.ports import AccountState, Broker, StoreClosed
from engine.recovery import Recoverer
from engine.simulation.actors import Actor
from engine.simulation.broker import Chances, SimulatedBroker
from engine.simulation.durable import SimulatedDurable
from engine.simulation.store import MemoryStore
from engine.sweeper import Sweeper

#: Of a hundred steps, how many resume an actor, take a message, trade, tick; the rest passes time.
ODDS = {"resume": 55, "take": 25, "trade": 8, "tick": 5, "pass": 7}
#: How often a fault a seed may have is in it.
HAS_FAULT = 0.5
#: A rare thing: a user's stop at a tick, a process paused for seconds.
RARE = 0.02
START = datetime(2026, 1, 5, 4, 0, tzinfo=UTC)
DEPLOYMENT, SYMBOL, STOP, QUANTITY = "SM", "NSE:SIM", 9_000, 10
#: Market time from the start to each run's buy, sell, and to the end of the faults.
BUY_AFTER, SELL_AFTER, FAULTS_END = timedelta(seconds=2), timedelta(seconds=40), timedelta(seconds=60)
#: How long after the faults every run has to be flat and ended, or alerted.
SETTLED_AFTER = timedelta(seconds=150)


class Violation(AssertionError):
    """Raised when the ledger breaks an invariant; the message names it."""


@dataclass(frozen=True, slots=True)
class Seed:
    """What one seed chose before it began."""

    number: int
    runs: int
    chances: Chances
    crash: float
    lose_message: float
    repeat_message: float
    lose_push: float
    repeat_reply: float
    #: How often, in a hundred seconds, the live state is lost whole.
    lose_store: float


def seed_of(number: int) -> Seed:
    """The choices of seed `number`: some worlds are calm, some fail in one way, some in all."""
    rng = random.Random(number)  # noqa: S311 - a simulation's dice

    def chance(most: float) -> float:
        return most * rng.random() if rng.random() < HAS_FAULT else 0.0

    return Seed(
        number=number,
        runs=rng.randint(1, 3),
        chances=Chances(chance(0.4), chance(0.4), chance(0.5), chance(0.3), chance(0.5), chance(0.3)),
        crash=chance(0.08),
        lose_message=chance(0.5),
        repeat_message=chance(0.3),
        lose_push=chance(0.6),
        repeat_reply=chance(0.3),
        lose_store=chance(4.0),
    )


def _run(number: int) -> Run:
    """The run of strategy `number`, as it is before it is armed."""
    strategy = Strategy(number, f"s{number}", "tenant", 1, SYMBOL, QUANTITY, time(9, 30), time(15, 0), Decimal(90))
    return Run(RunId(number, date(2026, 1, 5)), strategy, START + BUY_AFTER, START + SELL_AFTER, STOP)


class World:
    """One seed's world."""

    def __init__(self, seed: Seed) -> None:
        self.seed = seed
        self.rng = random.Random(seed.number ^ 0x5EED)  # noqa: S311
        self.now = START
        self.actors: list[Actor] = []
        self._running: Actor | None = None
        self.messages: list[tuple[datetime, Callable[[], object], str]] = []
        self.store = MemoryStore(lambda: self.now)
        self.broker = SimulatedBroker(self.rng, lambda: self.now, self.boundary, self._pushed, seed.chances)
        self.trace: list[str] = []
        self._healed = False
        self._checked = 0
        self._price = 10_000
        self._compose()

    def _compose(self) -> None:
        account = AccountState(1, "tenant", "sim", "simulated", "", "", "", "1", {})
        runs = [_run(number) for number in range(1, self.seed.runs + 1)]
        self.durable = SimulatedDurable([account], runs)
        self._bounded: Any = _Bounded(self, self.store)
        store = self._bounded
        policy = Policy(rest_limit=timedelta(seconds=20))
        clock = _Clock(self)
        actions = Actions(store, _OneBroker(self.broker), clock, _Timers(), DEPLOYMENT, self._log)
        self.pipeline = Pipeline(store, actions, clock, self, policy, self._log)
        self.sweeper = Sweeper(store, self, clock, policy)
        self.stream = OrderStream(store, self, clock, DEPLOYMENT, self._log)
        self.recoverer = self._new_recoverer()
        self._recover()
        for run in runs:
            for kind, at in ((EventType.BUY, run.buy_at), (EventType.SELL, run.sell_at)):
                self.publish(Event(f"{kind}:{run.id}", kind, run.id), at)
        self._sweep_at = self.now

    def _new_recoverer(self) -> Recoverer:
        """A recoverer that has just started and remembers nothing."""
        settle_after = Policy().settle_after
        brokers, clock, store = _OneBroker(self.broker), _Clock(self), self._bounded
        return Recoverer(
            self.durable, store, self.store, brokers, _Timers(), Calendar(), clock, DEPLOYMENT, settle_after, self._log
        )

    def _recover(self) -> None:
        if self.store.epoch is None:
            self.recoverer.open(lambda: self.now, _Clock(self).sleep_until)
        self.recoverer.arm()

    def publish(self, event: Event, at: datetime | None = None) -> None:
        """The `Publisher` port: a queue that loses, repeats and reorders."""
        if not self._healed and self.rng.random() < self.seed.lose_message:
            return
        copies = 2 if self.rng.random() < self.seed.repeat_message else 1
        wire = event.as_wire()
        for _ in range(copies):
            self.messages.append((at or self.now, lambda: self.pipeline.process(wire), f"{event.type}"))

    def boundary(self, name: str) -> None:
        """An I/O boundary of the code that runs: hand over to the world, if it is an actor's."""
        if self._running is not None:
            self._running.pause(name)

    def step(self) -> None:
        """One thing happens."""
        waiting = [message for message in self.messages if message[0] <= self.now]
        match self.rng.choices(list(ODDS), list(ODDS.values()))[0]:
            case "resume" if self.actors:
                self._resume(self.rng.choice(self.actors))
            case "take" if waiting:
                message = self.rng.choice(waiting)
                self.messages.remove(message)
                self._begin(message[2], message[1])
            case "trade":
                self.broker.trade()
            case "tick" if not self._healed:
                self._tick()
            case _:
                self._pass_time()
        self.check()

    def run(self) -> None:
        """The faults' time, then healing, then the proof that everything ended; raises Violation."""
        while self.now < START + FAULTS_END and not self._is_settled():
            self.step()
        self._healed = True
        self.broker.heal()
        self._price = STOP + 500
        while self.now < START + FAULTS_END + SETTLED_AFTER and not self._is_settled():
            self.step()
        self.check_end()

    def close(self) -> None:
        """End the actors that are left, so that no thread outlives its world."""
        self._running = None
        for actor in self.actors:
            while not actor.done:
                actor.crash()

    def check(self) -> None:
        """Invariant 1, on the broker's ledger alone, whenever it changed."""
        if self.broker.revision == self._checked:
            return
        self._checked = self.broker.revision
        bought: defaultdict[RunId, int] = defaultdict(int)
        sold: defaultdict[RunId, int] = defaultdict(int)
        live_exits: defaultdict[RunId, int] = defaultdict(int)
        for placed in self.broker.book:
            ours = _run_of(placed.request.client_order_id)
            if ours is None:
                raise Violation(f"an order without an id of ours: {placed.request.client_order_id}")
            if placed.request.side is Side.BUY:
                bought[ours] += placed.filled
            else:
                sold[ours] += placed.filled
                live_exits[ours] += placed.status not in TERMINAL
        for run in {*bought, *sold, *live_exits}:
            if bought[run] > QUANTITY:
                raise Violation(f"{run} bought {bought[run]} of {QUANTITY}")
            if sold[run] > bought[run]:
                raise Violation(f"{run} sold {sold[run]} of {bought[run]} bought: a short")
            if live_exits[run] > 1:
                raise Violation(f"{run} has {live_exits[run]} live exits")

    def check_end(self) -> None:
        """Invariants 2 and 3: everything bought is flat, every run ended, the history equals the book."""
        for placed in self.broker.book:
            if placed.status not in TERMINAL:
                raise Violation(f"order {placed.request.client_order_id} is still {placed.status}")
        held = sum(p.filled if p.request.side is Side.BUY else -p.filled for p in self.broker.book)
        if held:
            raise Violation(f"{held} units still held {SETTLED_AFTER} after the faults ended")
        if left := {*self.store.runtimes, *(str(run.id) for run in self.durable.open_runs())}:
            raise Violation(f"runs not ended: {', '.join(sorted(left))}")

    def _is_settled(self) -> bool:
        return not (self.store.runtimes or self.actors or self.messages or self.durable.open_runs())

    def _begin(self, name: str, call: Callable[[], object]) -> None:
        self.actors.append(Actor(name, call))

    def _resume(self, actor: Actor) -> None:
        kill = not self._healed and self.rng.random() < self.seed.crash
        self.trace.append(f"{self.now:%M:%S.%f} {actor.name} {'KILLED at ' if kill else ''}{actor.at}")
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
            if actor.error is not None and not isinstance(actor.error, StoreClosed):
                raise actor.error

    def _tick(self) -> None:
        self._price = max(8_500, self._price + self.rng.randint(-400, 380))
        if self.store.epoch is None:
            return
        tick = Tick(SYMBOL, self._price, self.now)
        for breach in self.store.on_tick([tick], self.now, f"t{self.now:%M%S%f}"):
            self.publish(Event(breach.event_id, EventType.STOPLOSS, breach.run_id))
        if self.rng.random() < RARE:
            run_id = RunId(self.rng.randint(1, self.seed.runs), date(2026, 1, 5))
            if self.store.signal(run_id, {"stop_requested": StopMode.CLOSE}, self.now) == "ok":
                self.publish(Event(f"stop:{self.now:%M%S%f}", EventType.FORCE_STOP, run_id))

    def _pass_time(self) -> None:
        """Milliseconds mostly, sometimes the pause of a process that was stopped."""
        if not self.actors:
            upcoming = [at for at, _, _ in self.messages] + [self._sweep_at]
            self.now = max(self.now, min(upcoming) - timedelta(milliseconds=400))
        long = self.rng.random() < RARE and not self._healed
        self.now += timedelta(milliseconds=self.rng.randint(1000, 9000) if long else self.rng.randint(1, 400))
        if self.now >= self._sweep_at:
            self._sweep_at = self.now + timedelta(seconds=1)
            self._every_second()

    def _every_second(self) -> None:
        """The processes that look once a second: sweeper, drainer, recoverer; and now and then a loss."""
        self._begin("sweeper", self.sweeper.sweep)
        records = len(self.store.ledger)
        self.durable.drain(self.store, records if self._healed else self.rng.randint(0, records))
        if not any(actor.name == "recoverer" for actor in self.actors):
            self._begin("recoverer", self._recover)
        if not self._healed and self.rng.random() < self.seed.lose_store / 100:
            self.trace.append(f"{self.now:%M:%S.%f} THE LIVE STATE IS LOST")
            self.store.flush()

    def _pushed(self, entry: BookEntry) -> None:
        if not self._healed and self.rng.random() < self.seed.lose_push:
            return
        copies = 2 if self.rng.random() < self.seed.repeat_message else 1
        for _ in range(copies):
            at = self.now + timedelta(milliseconds=self.rng.randint(0, 3000))
            self.messages.append((at, lambda: self.stream.on_update(entry), "push"))

    def _log(self, action: str, /, **facts: object) -> None:
        self.trace.append(f"{self.now:%M:%S.%f}   {action} {_shown(facts)}")


@lru_cache(maxsize=1024)
def _run_of(client_order_id: str) -> RunId | None:
    ours = parse_client_order_id(DEPLOYMENT, client_order_id)
    return ours[0] if ours else None


class _Clock:
    """The `Clock` port on a world's time; market time is real time here."""

    def __init__(self, world: World) -> None:
        self._world = world

    def now(self) -> Moment:
        """This instant."""
        return Moment(self._world.now, self._world.now)

    def sleep_until(self, real: datetime) -> None:
        """The world's time moves on while somebody sleeps."""
        self._world.now = max(self._world.now, real)


class _Timers:
    """Timers are messages here; a message for a run that ended finds its tombstone."""

    def schedule(self, run: Run, now: Moment) -> None:
        """Already published by the world."""

    def cancel(self, run_id: RunId) -> None:
        """Nothing to remove."""


class _OneBroker:
    """Every account's broker is the same."""

    def __init__(self, broker: SimulatedBroker) -> None:
        self._broker = broker

    def of(self, account_id: int, version: str) -> Broker:
        """The broker."""
        del account_id, version
        return self._broker


class _Bounded:
    """The store behind a boundary at each call, before it and after it, and replies that are lost and asked again."""

    def __init__(self, world: World, store: MemoryStore) -> None:
        self._world = world
        self._store = store

    def __getattr__(self, name: str) -> Callable[..., Any]:
        call = getattr(self._store, name)

        def bounded(*args: Any, **named: Any) -> Any:
            self._world.boundary(f"store.{name}")
            reply = call(*args, **named)
            if name in REPEATED and self._world.rng.random() < self._world.seed.repeat_reply:
                reply = call(*args, **named)
            self._world.boundary(f"store.{name} done")
            return reply

        return bounded


#: Calls whose lost reply is asked for again.
REPEATED = frozenset({"claim", "intend", "commit"})


def _shown(facts: Mapping[str, object]) -> str:
    return " ".join(f"{name}={value}" for name, value in facts.items())
