"""The world's ill will, once a second: owners, other engines, lying brokers, dead tokens, a server that refuses."""

import random
from datetime import datetime, timedelta
from typing import Protocol

from engine.domain.events import Event, EventType
from engine.domain.orders import Side
from engine.domain.run import Run, RunId, RunStatus
from engine.domain.strategy import StopMode
from engine.simulation.broker import SimulatedBroker
from engine.simulation.durable import SimulatedDurable
from engine.simulation.judges import Judges
from engine.simulation.livestate import LiveState
from engine.simulation.market import Market
from engine.simulation.scenario import QUANTITY, SYMBOL, Seed

#: How long, seconds: a reading that lies, one that fails, a dead token, a server that refuses, a feed that is down.
LIES_FOR, BLIND_FOR, DEAD_FOR, REFUSES_FOR, SILENT_FOR = (1, 8), (2, 20), (3, 25), (1, 6), (2, 15)
#: The same: a row that cannot be read, and a clock that is doubted.
ROW_FOR, DOUBTED_FOR = (1, 10), (2, 15)
#: How often an owner who trades sells, and one who could says what is to become of a run; and a coin.
SELLS, SPEAKS, HALF = 0.7, 0.3, 0.5
#: How often an owner who sells looks at what our orders sell.
SEES = 0.6
#: Tags of others: none, another program's, one that looks like ours, another deployment's.
TAGS = ("", "algo-7", "SM0000000000000000", "ZZ000000195M01E001")
#: What a server answers that is there and does not do it.
REFUSALS = (
    "OOM command not allowed when used memory > 'maxmemory'.",
    "READONLY You can't write against a read only replica.",
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
    "LOADING Redis is loading the dataset in memory",
    "BUSY Redis is busy running a script.",
)


class Around(Protocol):
    """What trouble needs of its world."""

    now: datetime
    rng: random.Random
    seed: Seed
    brokers: dict[int, SimulatedBroker]
    store: LiveState
    outside: LiveState
    durable: SimulatedDurable
    judges: Judges
    market: Market
    misled: set[RunId]

    def publish(self, event: Event, at: datetime | None = None, reading: object = None) -> None:
        """Wake a worker."""

    def doubt_clock(self, until: datetime) -> None:
        """Others disagree on the time until then."""

    def tell(self, what: str) -> None:
        """A line of the trace."""


class Troubles:
    """Makes them."""

    def __init__(self, world: "Around") -> None:
        self._world = world
        self._logins: dict[int, datetime] = {}
        self._refuses_until: datetime | None = None

    def every_second(self) -> None:
        """Whatever this seed's hardships bring in this second."""
        world, hard = self._world, self._world.seed.hard
        self._end_what_ends()
        for account, broker in world.brokers.items():
            self._trouble(account, broker)
        if self._happens(hard.refuses) and not world.store.server.refuses:
            world.store.server.refuses, self._refuses_until = world.rng.choice(REFUSALS), self._until(REFUSES_FOR)
            self._tell(world.store.server.refuses)
        if self._happens(hard.feed) and world.market.is_fed:
            self._tell("the feed dies")
            world.market.silent_until = self._until(SILENT_FOR)
        if self._happens(hard.doubted):
            self._tell("the clock is doubted")
            world.doubt_clock(self._until(DOUBTED_FOR))
        if self._happens(hard.policies):
            self._resolve()

    def _trouble(self, account: int, broker: SimulatedBroker) -> None:
        """What is one account's own."""
        hard = self._world.seed.hard
        if self._happens(hard.manual):
            self._by_hand(account, broker)
        if self._happens(hard.foreign):
            self._foreign(account, broker)
        if self._happens(hard.lies):
            self._tell(f"positions of {account} lie")
            broker.lie(self._until(LIES_FOR), is_empty=self._world.rng.random() < HALF)
        if self._happens(hard.blind):
            self._blind(account, broker)
        if self._happens(hard.rows):
            self._tell(f"a row of the positions of {account} cannot be read")
            broker.blind_row = self._until(ROW_FOR)
        if self._happens(hard.token) and not broker.token_dead:
            self._tell(f"the token of {account} dies")
            broker.token_dead, self._logins[account] = True, self._until(DEAD_FOR)

    def heal(self) -> None:
        """The last of them ends."""
        self._logins = dict.fromkeys(self._logins, self._world.now)
        self._refuses_until = self._world.market.silent_until = self._world.now
        self._end_what_ends()

    def _end_what_ends(self) -> None:
        now = self._world.now
        for account in [account for account, at in self._logins.items() if at <= now]:
            del self._logins[account]
            self._world.brokers[account].token_dead = False
            self._world.durable.login(account)
            self._world.judges.conduct.logged_in(account)
            self._tell(f"somebody logs in to {account}")
        if self._refuses_until is not None and self._refuses_until <= now:
            self._world.store.server.refuses, self._refuses_until = "", None

    def _by_hand(self, account: int, broker: SimulatedBroker) -> None:
        """The owner buys, or sells what is there."""
        world, product = self._world, self._world.seed.hard.product
        free = broker.net(SYMBOL, product)
        if world.rng.random() < SEES:
            # He sees our orders, and leaves them what they sell.
            free -= broker.promised(SYMBOL, product)
        if free > 0 and world.rng.random() < SELLS:
            quantity = world.rng.choice((1, free, world.rng.randint(1, free)))
            self._tell(f"the owner of {account} sells {quantity} by hand")
            world.judges.oversight.sold_by_hand(account, quantity, world.now)
            broker.by_hand(SYMBOL, product, Side.SELL, quantity)
        else:
            self._tell(f"the owner of {account} buys by hand")
            world.judges.oversight.bought_by_hand(account, world.now)
            broker.by_hand(SYMBOL, product, Side.BUY, world.rng.randint(1, QUANTITY))

    def _foreign(self, account: int, broker: SimulatedBroker) -> None:
        """Another engine buys, and sells what it bought."""
        world, product = self._world, self._world.seed.hard.product
        quantity, tag = world.rng.randint(1, QUANTITY), world.rng.choice(TAGS)
        world.judges.oversight.bought_by_hand(account, world.now)
        broker.by_hand(SYMBOL, product, Side.BUY, quantity, tag)
        if world.rng.random() < HALF:
            broker.by_hand(SYMBOL, product, Side.SELL, quantity, tag)

    def _blind(self, account: int, broker: SimulatedBroker) -> None:
        what = self._world.rng.choice(("book", "positions", "both"))
        self._tell(f"{what} of {account} cannot be read")
        if what != "positions":
            broker.blind_book = self._until(BLIND_FOR)
        if what != "book":
            broker.blind_positions = self._until(BLIND_FOR)

    def _resolve(self) -> None:
        """An owner leaves a position, or says of a run that waits for a human what is to become of it."""
        world = self._world
        runs = world.durable.runs()
        if not runs:
            return
        run = world.rng.choice(runs)
        doubtful = next((order for order in run.orders if order.is_doubtful), None)
        if run.status is RunStatus.FAILED and run.held > 0:
            way = world.rng.choice(("sell", "leave", "closed"))
        elif doubtful is not None and world.rng.random() < SPEAKS:
            way = "absent"
        elif run.held > 0 and world.rng.random() < SPEAKS:
            way = "leave"
        else:
            return
        self._tell(f"the owner says of {run.id}: {way}")
        self._ask(run, way, doubtful.client_order_id if doubtful else "")

    def _ask(self, run: Run, way: str, doubtful: str) -> None:
        world = self._world
        fields = {
            "sell": {"stop_requested": StopMode.CLOSE.value},
            "leave": {"stop_requested": StopMode.LEAVE.value},
            "closed": {"closed_elsewhere": "1"},
            "absent": {"absent": doubtful},
        }[way]
        if way == "absent":
            world.misled.add(run.id)
            world.judges.oversight.said_absent(run.strategy.account_id)
        if way == "closed":
            world.judges.oversight.said_closed(run.id)
            broker = world.brokers[run.strategy.account_id]
            free = broker.net(SYMBOL, run.strategy.product) - broker.promised(SYMBOL, run.strategy.product)
            if free >= run.held:
                world.judges.oversight.sold_by_hand(run.strategy.account_id, run.held, world.now)
                broker.by_hand(SYMBOL, run.strategy.product, Side.SELL, run.held)
        if not world.outside.is_ready():
            return
        if "stop_requested" in fields:
            world.durable.request_stop(run.id, StopMode(fields["stop_requested"]))
        if world.outside.signal(run.id, fields, world.now) == "ok":
            world.judges.news.told(str(run.id), world.now)
            if "stop_requested" in fields:
                world.judges.conduct.asked(run.id, StopMode(fields["stop_requested"]))
            world.publish(Event(f"user:{world.now:%M%S%f}", EventType.FORCE_STOP, run.id))

    def _until(self, span: tuple[float, float]) -> datetime:
        return self._world.now + timedelta(seconds=self._world.rng.uniform(*span))

    def _happens(self, chance: float) -> bool:
        return chance > 0 and self._world.rng.random() < chance

    def _tell(self, what: str) -> None:
        self._world.tell(what.upper())
