"""The use cases of the engine on the real live state, in a world of fakes, moved by hand one step at a time."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from engine.actions import Actions
from engine.domain.account_positions import AccountReading, seen_orders
from engine.domain.action import Policy
from engine.domain.broker import BookEntry
from engine.domain.events import EventType
from engine.domain.orders import Side
from engine.domain.run import Run, RunId
from engine.domain.ticks import Tick
from engine.orderstream import OrderStream
from engine.pipeline import Pipeline
from engine.runtime import codec, keys
from engine.sweeper import Sweeper
from tests.builders import DEPLOYMENT, SYMBOL, event, run
from tests.fakes import FakeBroker, FakeBrokers, HandClock, RecordingLog, RecordingPublisher, RecordingTimers
from tests.livestate import ACCOUNT, RUN, LiveState


@dataclass
class World:
    """One account's engine. Nothing happens in it but by a call."""

    live: LiveState
    clock: HandClock = field(default_factory=HandClock)
    publisher: RecordingPublisher = field(default_factory=RecordingPublisher)
    timers: RecordingTimers = field(default_factory=RecordingTimers)
    log: RecordingLog = field(default_factory=RecordingLog)

    def __post_init__(self) -> None:
        self.broker = FakeBroker(self.clock)
        self.brokers = FakeBrokers({1: self.broker})
        self.policy = Policy()
        actions = Actions(self.live.store, self.brokers, self.clock, self.timers, DEPLOYMENT, self.log)
        self.pipeline = Pipeline(self.live.store, actions, self.clock, self.publisher, self.policy, self.log)
        self.stream = OrderStream(self.live.store, self.publisher, self.clock, DEPLOYMENT, self.log)
        self.sweeper = Sweeper(self.live.store, self.publisher, self.publisher, self.clock, self.policy)

    def serve(self, kind: EventType, name: str = "e1", run_id: RunId | None = None) -> str:
        """One event, as a worker takes it off its queue."""
        self.cover()
        return self.pipeline.process(event(kind, name, run_id).as_wire())

    def deliver(self) -> list[str]:
        """Serve what was published and is due, and what that publishes in turn; the outcomes."""
        outcomes: list[str] = []
        self.cover()
        while due := [each for each in self.publisher.waiting if each[1] is None or each[1] <= self.clock.real]:
            for each in due:
                self.publisher.waiting.remove(each)
                outcomes.append(self.pipeline.process(each[0].as_wire()))
        return outcomes

    def cover(self) -> None:
        """What the account holds, told to its runs every few seconds."""
        book = list(self.broker.book.values())
        self.live.store.cover(1, AccountReading(self.clock.real, self.broker.held(), seen_orders(book, book)))

    def sweep(self) -> list[str]:
        """Nudge what is due by the hand-set clock, and serve it."""
        now = codec.to_us(self.clock.real)
        scores: Any = self.live.redis.zrange(keys.DUE, 0, -1, withscores=True)
        for name, score in scores:
            if score <= now:
                self.live.redis.zadd(keys.DUE, {name: 1})
        self.sweeper.sweep()
        return self.deliver()

    def pass_time(self, seconds: float, step: float = 1.0) -> None:
        """Let time pass with the sweeper at work."""
        passed = 0.0
        while passed < seconds:
            self.clock.advance(step)
            # The server's own clock does not follow this one: what it counts in seconds has passed, too.
            self.live.redis.hdel(keys.health(1), "exit_probe_at")
            passed += step
            self.deliver()
            self.sweep()

    def push(self, entry: BookEntry) -> list[str]:
        """The broker tells of an order and a worker hears it."""
        self.stream.on_update(entry, 1)
        return self.deliver()

    def price(self, price: int, at: datetime | None = None) -> int:
        """A tick now, of now or of `at`; how many runs it latched."""
        tick = Tick(SYMBOL, price, at or self.clock.market)
        return len(self.live.store.on_tick(ACCOUNT.market, [tick], self.clock.real, "sl"))

    def breach(self, price: int) -> None:
        """A tick that latches the run."""
        assert self.price(price) == 1

    def buy(self, what: Run | None = None, quantity: int | None = None) -> Run:
        """Arm a run, buy at its time, and let the entry fill, whole or up to `quantity`."""
        armed = self.live.arm(what or run(), buying=False)
        assert self.serve(EventType.BUY, "buy", armed.id) == "submitted: accepted"
        if quantity != 0:
            self.push(self.broker.fill(f"B{len(self.broker.sent)}", quantity))
        return self.run()

    def run(self) -> Run:
        return self.live.run()

    def ended(self) -> dict[str, str]:
        """The tombstone, empty while the run lives."""
        stone: Any = self.live.redis.hgetall(keys.tombstone(RUN))
        return dict(stone)

    def sides(self) -> list[tuple[Side, int]]:
        """Every order that left, as (side, quantity)."""
        return [(request.side, request.quantity) for request in self.broker.sent]

    def alerts(self) -> list[str]:
        """The codes of every alert recorded."""
        return [alert["code"] for record in self.live.records() for alert in record.get("alerts", [])]

    def outcomes(self, event_id: str) -> list[str]:
        """What the ledger says became of an event; one, if all is well."""
        return [record["outcome"] for record in self.live.records() if record.get("event_id") == event_id]
