"""The simulated world: one seed's clock, queue, crashes and losses around the real engine, and its invariants.

Everything random comes from the seed, in one order; a run of it is therefore exactly repeatable.
"""

import random
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from typing import Any

from engine.actions import Actions
from engine.calendar import Calendar
from engine.domain.action import Policy
from engine.domain.broker import BookEntry
from engine.domain.events import Event, EventType
from engine.domain.run import RunId
from engine.domain.strategy import StopMode
from engine.domain.ticks import Tick
from engine.orderstream import OrderStream
from engine.pipeline import Pipeline
from engine.ports import AccountState, StoreClosed
from engine.recovery import Recoverer
from engine.simulation.actors import Actor
from engine.simulation.broker import SimulatedBroker
from engine.simulation.durable import SimulatedDurable
from engine.simulation.invariants import check_always, check_end
from engine.simulation.scenario import (
    DEPLOYMENT,
    FAULTS_END,
    SETTLED_AFTER,
    START,
    STOP,
    SYMBOL,
    Seed,
    run_of,
)
from engine.simulation.stand_ins import Bounded, Clock, OneBroker, Timers
from engine.simulation.store import MemoryStore
from engine.sweeper import Sweeper

#: Of a hundred steps, how many resume an actor, take a message, trade, tick; the rest passes time.
ODDS = {"resume": 55, "take": 25, "trade": 8, "tick": 5, "pass": 7}
#: A rare thing: a user's stop at a tick, a process paused for seconds.
RARE = 0.02


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
        runs = [run_of(number) for number in range(1, self.seed.runs + 1)]
        self.durable = SimulatedDurable([account], runs)
        self._bounded: Any = Bounded(self, self.store)
        store = self._bounded
        policy = Policy(rest_limit=timedelta(seconds=20))
        clock = Clock(self)
        actions = Actions(store, OneBroker(self.broker), clock, Timers(), DEPLOYMENT, self._log)
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
        settle_after = self.broker.profile.settles_after
        brokers, clock, store = OneBroker(self.broker), Clock(self), self._bounded
        return Recoverer(
            self.durable, store, self.store, brokers, Timers(), Calendar(), clock, DEPLOYMENT, settle_after, self._log
        )

    def _recover(self) -> None:
        if self.store.epoch is None:
            self.recoverer.open(lambda: self.now, Clock(self).sleep_until)
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
        self._check()

    def run(self) -> None:
        """The faults' time, then healing, then the proof that everything ended; raises Violation."""
        while self.now < START + FAULTS_END and not self._is_settled():
            self.step()
        self._healed = True
        self.broker.heal()
        self._price = STOP + 500
        while self.now < START + FAULTS_END + SETTLED_AFTER and not self._is_settled():
            self.step()
        check_end(self.broker, self.store, self.durable)

    def close(self) -> None:
        """End the actors that are left, so that no thread outlives its world."""
        self._running = None
        for actor in self.actors:
            while not actor.done:
                actor.crash()

    def _check(self) -> None:
        if self.broker.revision != self._checked:
            self._checked = self.broker.revision
            check_always(self.broker)

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


def _shown(facts: Mapping[str, object]) -> str:
    return " ".join(f"{name}={value}" for name, value in facts.items())
