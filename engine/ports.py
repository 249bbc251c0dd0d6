"""The ports: what the use cases need of the world, as protocols. Adapters implement them; fakes do too.

Knows no adapter. Values that cross a port are the domain's.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from typing import NamedTuple, Protocol

from engine.domain.account_positions import AccountReading
from engine.domain.broker import (
    BookEntry,
    BrokerProfile,
    Instrument,
    NetPosition,
    OrderChange,
    OrderRequest,
    Quote,
    Reply,
    Trade,
)
from engine.domain.events import Event, EventType
from engine.domain.health import Change, DeniedBy, Heard
from engine.domain.market import market_of
from engine.domain.moment import Moment
from engine.domain.orders import Evidence, Leg, Order
from engine.domain.routing import Alert
from engine.domain.run import NetSeen, Run, RunId
from engine.domain.strategy import Session
from engine.domain.ticks import Tick


class Broker(Protocol):
    """One account at one broker. Orders are posted once; only reads are retried.

    Reads raise BrokerUnreachable or TokenInvalid; place and cancel never raise, they reply.
    """

    @property
    def profile(self) -> BrokerProfile:
        """What this broker promises."""

    def place(self, request: OrderRequest, may_send: Callable[[], bool]) -> Reply:
        """Place an order; `may_send` is asked right before the bytes are written, False answers SERVER_DOWN."""

    def cancel(self, broker_order_id: str) -> Reply:
        """Ask for an order's cancellation; ACCEPTED means asked, not canceled."""

    def orders(self) -> Sequence[BookEntry]:
        """The account's whole order book of the day."""

    def orders_by_client_id(self, client_order_id: str) -> Sequence[BookEntry]:
        """Every order of the book under this client order id; two are a double."""

    def trades_of(self, broker_order_id: str) -> Sequence[Trade]:
        """Every fill of one order: the last word on what filled, when and at which price."""

    def modify(self, broker_order_id: str, change: OrderChange) -> Reply:
        """Ask for another limit of a resting order, which keeps its id; ACCEPTED means asked, not changed."""

    def positions(self) -> Sequence[NetPosition]:
        """What the account can sell, net, by symbol and product: today's trades and settled holdings together.

        Nothing is held of a symbol that is not named. One told as `unread` may be held all the same.
        """

    def instruments(self, exchange: str) -> Iterable[Instrument]:
        """What can be traded at `exchange`."""

    def quote(self, symbols: Sequence[str]) -> Sequence[Quote]:
        """Quotes of `symbols`; unknown ones are left out."""

    def account_id(self) -> str:
        """The broker's own name of the account: the cheapest proof that token and line work."""

    def warm(self, connections: int) -> int:
        """Open so many kept-alive connections ahead of orders, one cheap read each; how many stand. Never raises."""

    def close(self) -> None:
        """Close kept-alive connections."""


class Log(Protocol):
    """A structured log line: a stable action name, then its facts."""

    def __call__(self, action: str, /, **facts: object) -> None:
        """Write one line."""


class StoreClosed(Exception):
    """Raised when the live state may not be touched: Redis is away, was lost or swapped, or is being recovered."""


class StoreFault(StoreClosed):
    """Raised when a script of ours failed on what it found: the same call fails again, another one may well pass."""


class Slot(StrEnum):
    """Which in-flight slots of an account an event takes; exits have their own.

    An update takes none until it has to call the broker.
    """

    ENTRY = "entry"
    EXIT = "exit"
    UPDATE = "update"
    NONE = ""


@dataclass(frozen=True, slots=True)
class Holding:
    """A run held under its lock: what was read, and what a commit must prove it has seen."""

    token: str
    run: Run
    #: Evidence left in the run by signals, with the fields to drop once absorbed.
    evidence: tuple[Evidence, ...]
    consumed: tuple[str, ...]
    signal_seq: str
    account_version: str
    #: Whether anything is known against the account's line to its broker: then an answer is news.
    is_troubled: bool = False
    #: Where it was read without its lock: what it must still be for `intend` to lock it. "" where it is held.
    glanced_at: str = ""


class Refused(StrEnum):
    """Why a claim was not granted; each is a terminal outcome of the event."""

    BUSY = "busy"
    GONE = "gone"
    UNKNOWN = "unknown"
    PARKED = "parked"


@dataclass(frozen=True, slots=True)
class Denied:
    """An attempt the engine itself refuses, and when it is worth asking again."""

    by: DeniedBy
    retry_after: timedelta
    #: Where the account has less than the order would sell: the units it has.
    available: int = 0


class NoSlot(Exception):
    """Raised before a call to the broker where the account has no free slot: nothing was changed."""


class Glanced(Exception):
    """Raised where a run read without its lock must be claimed after all: nothing was changed."""


class CorruptState(Exception):
    """Raised when stored state cannot be read; the run needs recovery from the durable history."""


class LockLost(Exception):
    """Raised when the lease ran out under its holder: nothing was applied, whoever holds it now decides."""


@dataclass(frozen=True, slots=True)
class Note:
    """What a transition's record says beside the state itself."""

    kind: str
    event_id: str = ""
    event_type: str = ""
    outcome: str = ""
    market_time: datetime | None = None
    alerts: tuple[Alert, ...] = ()
    #: Stage timings of the order this transition is about, real ms from the event's cause.
    stages: Mapping[str, float] = field(default_factory=dict)

    def tells_only_of_its_event(self, before: Run, after: Run) -> bool:
        """Whether its record says no more than what became of its event: another one of the same event is none."""
        return before == after and not self.alerts


class Armed(StrEnum):
    """What became of arming a run."""

    CREATED = "created"
    EXISTS = "exists"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Ended:
    """What is left of a run that ended: whose it was, and its orders as far as they were known."""

    account_id: int
    tenant: str
    orders: tuple[Order, ...]


class WakeUp(NamedTuple):
    """A message ready for a queue, with {event}, {run} and {reading} where an event's id, its run and `glance`'s go."""

    queue: str
    text: str


class Way(NamedTuple):
    """Where messages of one kind wait."""

    queue: str
    #: 0 is the most urgent.
    priority: int
    #: The lists that are served before its own, and its own.
    lists: Sequence[str]


#: Nobody is woken.
NO_WAKE_UP = WakeUp("", "")


@dataclass(frozen=True, slots=True)
class Breach:
    """A run latched by a tick: what STOPLOSS is published for."""

    run_id: RunId
    price: int
    event_id: str
    #: What its message tells of the run, for `glance`; None where the store has sent that message itself.
    reading: object = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Holder:
    """A run that holds something, and until when it can be sold: the end of a session, market time."""

    run_id: RunId
    symbol: str
    closes_at: datetime


@dataclass(frozen=True, slots=True)
class Naked:
    """A run that holds something while no stop of it can fire."""

    run: str
    tenant: str
    symbol: str
    #: When the line of its symbol was last proven alive, real time; None where it never was.
    proven_at: datetime | None
    #: Whether that is why; else its account's broker refuses the access token.
    is_blind: bool


@dataclass(frozen=True, slots=True)
class AccountState:
    """What an order needs to know of its account. `secrets` is encrypted text."""

    id: int
    tenant: str
    name: str
    broker: str
    base_url: str
    ws_url: str
    secrets: str
    version: str
    limits: Mapping[str, int] = field(default_factory=dict)
    #: When its access token dies, real time; None where it never does.
    token_ends: datetime | None = None

    @property
    def market(self) -> str:
        """Whose prices its positions are judged by."""
        return market_of(self.broker, self.base_url, self.ws_url)


@dataclass(frozen=True, slots=True)
class BookTold:
    """What the account's order book says of a run, by a reading that was asked at real time `at`."""

    at: datetime
    entries: Sequence[BookEntry]


@dataclass(frozen=True, slots=True)
class BookWaits:
    """Another reads the account's order book now; whether the reading before that failed."""

    failed: bool


class Store(Protocol):
    """The live state. Every call raises StoreClosed where it may not be touched."""

    def claim(self, event: Event, token: str, slot: Slot) -> Holding | Refused:
        """Lock the event's run and load it."""

    def glance(self, event: Event, token: str, reading: object) -> Holding | None:
        """The event's run as its message tells it, not locked; None where that cannot be read. Asks nobody."""

    def extend(self, holding: Holding, lease: timedelta) -> None:
        """Keep the run for another `lease`, for an answer that takes its time. Raises LockLost, NoSlot."""

    def intend(
        self, holding: Holding, step: str, before: Run, after: Run, order: Order, due: datetime, note: Note
    ) -> Denied | None:
        """Grant `order`, an attempt of `after`; None: granted. Raises LockLost, also if it was before, and NoSlot.

        A run that was only glanced at is locked by it, or Glanced is raised: it changed, or is held, or has no slot.
        """

    def read_book(
        self, holding: Holding, now: datetime, since: datetime, never_before: datetime, part: str, kind: EventType
    ) -> BookTold | BookWaits | None:
        """What is known of the book by a reading asked at `since` or later; None: the caller reads, from `now` on.

        A run that waits for a reading since earlier is told one asked since then, but none from `never_before`.
        `part`: what the run's client order ids begin with; `kind`: what it is woken with where it has to wait.
        """

    def tell_book(
        self, holding: Holding, at: datetime | None, parts: Mapping[str, Sequence[BookEntry]]
    ) -> Sequence[Event]:
        """Keep what the caller read of the book when asked at `at`, None where it could not; whom that should wake."""

    def commit(
        self,
        holding: Holding,
        step: str,
        after: Run,
        due: datetime | None,
        note: Note | None,
        *,
        release: bool,
        first_fill: datetime | None = None,
        finished: bool = False,
        unsent: bool = False,
    ) -> Holding | None:
        """Turn the holding's run into `after`; None where the lock was released. Raises LockLost.

        `unsent`: the attempt that was granted provably never was taken by the broker and costs no rate.
        """

    def signal(self, run_id: RunId, fields: Mapping[str, str], due: datetime) -> str:
        """Write what must happen into a run; "ok", "full", "gone" or "unknown"."""

    def tell(self, run_id: RunId, evidence: Evidence, due: datetime) -> str:
        """Leave evidence in a run for its next holder; a repeat falls on the same place. Answers as `signal`."""

    def account_of(self, run_id: RunId) -> int | None:
        """The account a live run trades at; None where there is no such run."""

    def remains(self, run_id: RunId) -> Ended | None:
        """What is left of a run that ended within a day; None where nothing is."""

    def on_tick(self, market: str, ticks: Sequence[Tick], seen_at: datetime, prefix: str) -> Sequence[Breach]:
        """Write one frame's prices of `market`, latch what they breach and wake a worker for each, in one step."""

    def sweep(self, limit: int) -> Sequence[tuple[Run, int]]:
        """Runs that are due with their nudges so far, each moved ahead by its backoff.

        One that cannot be read is left out: it is a dead letter, and told as by `unreadable`.
        """

    def unreadable(self, run: str, reason: str) -> None:
        """Tell the tenant of a run whose state cannot be read of that, once, where it may hold something."""

    def arm(self, run: Run, due: datetime, *, buying: bool) -> Armed:
        """Create a run's live state where there is none; `buying` arms its stop at once.

        Of one that lives, only its strategy's instruction is kept, or written again where it is gone.
        """

    def prolong(self, run_id: RunId, closes_at: datetime, due: datetime) -> str:
        """Give a run that was left holding another session, to market time `closes_at`. Answers as `signal`."""

    def note(self, event: Event, outcome: str) -> None:
        """Record the outcome of an event that ended without a transition, unless it has one."""

    def pool_mark(self, account_id: int) -> str:
        """A mark of what an account's runs hold and sell, taken before its broker is asked for positions.

        What changed after that they may contain or not, whatever any clock says.
        """

    def cover(self, account_id: int, reading: AccountReading, of: Run | None = None) -> NetSeen | None:
        """Keep what an account has, for its runs to sell from; what that is for the run `of`, where one is given."""

    def alert(self, tenant: str, alert: Alert) -> None:
        """Record something a human should know that concerns no single run."""

    def alert_once(self, tenant: str, alert: Alert, name: str) -> bool:
        """As `alert`, unless that was done under this name within two days; whether it was recorded."""

    def dead_letter(self, source: str, reason: str, payload: str) -> None:
        """Record a message nothing could be done with."""

    def heard(
        self, account_id: int, version: str, heard: Heard, leg: Leg, retry_after: timedelta | None
    ) -> Sequence[Change]:
        """Keep what a call made under an account's details of `version` told of it; answers what changed."""

    def account(self, account_id: int) -> AccountState | None:
        """What an order needs to know of an account."""


class Publisher(Protocol):
    """Wakes workers. A message lost here costs time, never a trade."""

    def publish(self, event: Event, at: datetime | None = None) -> None:
        """Put the event on its queue, for a worker to start now or at real time `at`."""


class Backlog(Protocol):
    """What waits for workers."""

    def ahead_of(self, kind: EventType) -> int:
        """How many messages one of `kind` published now would wait for; 0 where that cannot be told."""


class Timers(Protocol):
    """The timed triggers of a run."""

    def schedule(self, run: Run, now: Moment) -> None:
        """Trigger BUY and SELL at their times."""

    def cancel(self, run_id: RunId) -> None:
        """Remove them; a repeat changes nothing."""


class Clock(Protocol):
    """The two clocks."""

    def now(self) -> Moment:
        """This instant on both."""

    def sleep_until(self, real: datetime) -> None:
        """Return at real time `real`, or at once where it has passed."""


class Calendar(Protocol):
    """Which sessions there are."""

    def session(self, place: str, day: date) -> Session | None:
        """The session of `day` at an exchange, or of a symbol of it; None where it is closed.

        Raises UnconfirmedYear.
        """

    def to_utc(self, exchange: str, day: date, wall: time) -> datetime:
        """The instant of an exchange's wall time."""

    def today(self, exchange: str, now: datetime) -> date:
        """The date at the exchange."""


class Brokers(Protocol):
    """The connection of each account."""

    def of(self, account_id: int, version: str) -> Broker:
        """The account's broker, warm; `version` tells when its details changed."""
