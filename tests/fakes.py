"""The ports of the engine as small honest fakes: a broker with a book, a clock set by hand, recorders."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from engine.domain.broker import (
    BookEntry,
    BrokerProfile,
    BrokerUnreachable,
    Instrument,
    NetPosition,
    OrderChange,
    OrderRequest,
    Outcome,
    Quote,
    RejectCause,
    Reply,
    TokenInvalid,
    Trade,
)
from engine.domain.events import Event, EventType
from engine.domain.moment import Moment
from engine.domain.orders import TERMINAL, Evidence, OrderStatus, Product, Side
from engine.domain.run import Run, RunId
from engine.ports import StoreClosed
from tests.builders import BUY_AT, SYMBOL

PROFILE = BrokerProfile("fake", idempotent=False, grace=10.0, tag_length=20)
OK = Reply(Outcome.ACCEPTED)
REFUSED = Reply(Outcome.REJECTED, cause=RejectCause.OTHER, message="refused")
NO_MARGIN = Reply(Outcome.REJECTED, cause=RejectCause.MARGIN, message="no margin")
DOUBT = Reply(Outcome.TIMEOUT, message="timed out")
DEAD_TOKEN = Reply(Outcome.TOKEN_INVALID, message="token")
DOWN = Reply(Outcome.SERVER_DOWN, message="down")


class Crash(Exception):
    """Raised where a test lets the worker die."""


@dataclass
class HandClock:
    """Both clocks, moved by hand only. Real time begins now, for leases run on the server's own clock."""

    market: datetime = BUY_AT
    real: datetime = field(default_factory=lambda: datetime.now(UTC))
    speed: float = 1.0

    def now(self) -> Moment:
        return Moment(self.market, self.real, self.speed)

    def sleep_until(self, real: datetime) -> None:
        self.advance(max(real - self.real, timedelta(0)).total_seconds())

    def jump(self, market: datetime) -> None:
        """Let time pass until market time `market`."""
        self.advance((market - self.market).total_seconds() / self.speed)

    def advance(self, seconds: float) -> None:
        """Let real seconds pass."""
        self.real += timedelta(seconds=seconds)
        self.market += timedelta(seconds=seconds * self.speed)


@dataclass(frozen=True)
class Answer:
    """How the next call ends: whether the order reaches the book, what is replied, and whether the worker dies."""

    reply: Reply = OK
    reaches_book: bool = True
    crash: bool = False


@dataclass
class FakeBroker:
    """One account. Orders rest until a test fills or ends them; `answers` are used up one a call, then it accepts."""

    clock: HandClock
    book: dict[str, BookEntry] = field(default_factory=dict)
    first_fills: dict[str, datetime] = field(default_factory=dict)
    #: Units that trades tell of an order, where its book is behind them.
    traded: dict[str, int] = field(default_factory=dict)
    modified: list[tuple[str, OrderChange]] = field(default_factory=list)
    modify_answers: deque[Reply] = field(default_factory=deque)
    #: Whether its book tells limits, and a change that is accepted has its effect.
    tells_limits: bool = False
    quotes: Sequence[Quote] = ()
    answers: deque[Answer] = field(default_factory=deque)
    cancel_answers: deque[Answer] = field(default_factory=deque)
    #: Every order whose bytes left, and every cancellation asked for by broker order id.
    sent: list[OrderRequest] = field(default_factory=list)
    canceled: list[str] = field(default_factory=list)
    #: Called as an order reaches the book, before the answer: the world moves on while a worker waits.
    on_placed: Callable[[BookEntry], None] | None = None
    #: Whether an order that is refused on the wire rests in the book all the same.
    refused_rests: bool = False
    unreachable: bool = False
    #: Real seconds until an unreachable broker is found to be so.
    hangs: float = 0.0
    token_dead: bool = False
    #: Real seconds until a read is answered.
    takes: float = 0.0
    #: Called before a read is answered: the world moves on while it is under way.
    on_read: Callable[[], None] | None = None
    reads: int = 0
    listed: Sequence[Instrument] = (Instrument(SYMBOL, 1, Decimal("0.05"), 1),)
    profile: BrokerProfile = PROFILE

    def place(self, request: OrderRequest, may_send: Callable[[], bool]) -> Reply:
        if not may_send():
            return DOWN
        answer = self.answers.popleft() if self.answers else Answer()
        self.sent.append(request)
        broker_id = f"B{len(self.sent)}"
        if answer.reaches_book and answer.reply.outcome in (Outcome.ACCEPTED, Outcome.TIMEOUT):
            self.book[broker_id] = BookEntry(
                Evidence(request.client_order_id, broker_id, OrderStatus.ACCEPTED, request.quantity, 0, Decimal(0)),
                request.symbol,
                request.side,
                request.client_order_id,
            )
            if self.on_placed:
                self.on_placed(self.book[broker_id])
        elif self.refused_rests:
            told = Evidence(request.client_order_id, broker_id, OrderStatus.ACCEPTED, request.quantity, 0, Decimal(0))
            self.book[broker_id] = BookEntry(told, request.symbol, request.side, request.client_order_id)
        if answer.crash:
            raise Crash
        return (
            replace(answer.reply, broker_order_id=broker_id)
            if answer.reply.outcome is Outcome.ACCEPTED
            else answer.reply
        )

    def cancel(self, broker_order_id: str) -> Reply:
        self.canceled.append(broker_order_id)
        if broker_order_id not in self.book:
            return REFUSED
        answer = self.cancel_answers.popleft() if self.cancel_answers else Answer()
        if answer.reply.outcome is Outcome.ACCEPTED and answer.reaches_book:
            self.end(broker_order_id, OrderStatus.CANCELED)
        return answer.reply

    def fill(self, broker_id: str, quantity: int | None = None) -> BookEntry:
        """Fill an order up to `quantity` units in all, or whole."""
        told = self.book[broker_id].evidence
        self.first_fills.setdefault(broker_id, self.clock.market)
        filled = told.quantity if quantity is None else quantity
        status = OrderStatus.FILLED if filled >= told.quantity else OrderStatus.PARTIALLY_FILLED
        return self._set(
            broker_id, status=status, filled_quantity=filled, average_price=Decimal(100), filled_at=self.clock.market
        )

    def trade_by_hand(self, side: Side, quantity: int, symbol: str = SYMBOL) -> None:
        """The account's owner trades beside the engine: an order of no tag, filled at once."""
        broker_id = f"H{len(self.book) + 1}"
        told = Evidence("", broker_id, OrderStatus.FILLED, quantity, quantity, Decimal(100))
        self.book[broker_id] = BookEntry(told, symbol, side, "")

    def end(self, broker_id: str, status: OrderStatus, reason: str = "") -> BookEntry:
        """End an order that still lives."""
        if self.book[broker_id].evidence.status not in TERMINAL:
            self._set(broker_id, status=status, reason=reason)
        return self.book[broker_id]

    def _set(self, broker_id: str, **changes: object) -> BookEntry:
        entry = self.book[broker_id]
        told = replace(entry.evidence, **changes)  # type: ignore[arg-type]
        self.book[broker_id] = replace(entry, evidence=told)
        return self.book[broker_id]

    def orders(self) -> Sequence[BookEntry]:
        self._read()
        return list(self.book.values())

    def orders_by_client_id(self, client_order_id: str) -> Sequence[BookEntry]:
        return [entry for entry in self.orders() if entry.tag == client_order_id]

    def trades_of(self, broker_order_id: str) -> Sequence[Trade]:
        """What filled, as one fill at the time of the first."""
        self._read()
        at, entry = self.first_fills.get(broker_order_id), self.book.get(broker_order_id)
        if at is None:
            return []
        symbol, side = (entry.symbol, entry.side) if entry else (SYMBOL, Side.BUY)
        filled = self.traded.get(broker_order_id, entry.evidence.filled_quantity if entry else 1)
        return [Trade("T1", broker_order_id, symbol, side, Product.INTRADAY, filled, Decimal(100), at)]

    def modify(self, broker_order_id: str, change: OrderChange) -> Reply:
        self.modified.append((broker_order_id, change))
        reply = self.modify_answers.popleft() if self.modify_answers else replace(OK, broker_order_id=broker_order_id)
        if self.tells_limits and reply.outcome is Outcome.ACCEPTED:
            self._set(broker_order_id, limit_price=change.limit_price)
        return reply

    def positions(self) -> Sequence[NetPosition]:
        self._read()
        return self.held()

    def held(self) -> list[NetPosition]:
        """What the account holds, by its book."""
        held = {(Product.INTRADAY, entry.symbol): 0 for entry in self.book.values()}
        for entry in self.book.values():
            sign = 1 if entry.side is Side.BUY else -1
            held[Product.INTRADAY, entry.symbol] += sign * entry.evidence.filled_quantity
        return [NetPosition(symbol, product, quantity) for (product, symbol), quantity in held.items()]

    def instruments(self, exchange: str) -> Iterable[Instrument]:
        self._read()
        return [each for each in self.listed if each.symbol.startswith(f"{exchange}:")]

    def quote(self, symbols: Sequence[str]) -> Sequence[Quote]:
        self._read()
        return [each for each in self.quotes if each.symbol in symbols]

    def account_id(self) -> str:
        self._read()
        return "FAKE"

    def warm(self, connections: int) -> int:
        return 0 if self.unreachable else connections

    def close(self) -> None:
        """Nothing is kept open."""

    def _read(self) -> None:
        self.reads += 1
        if self.unreachable:
            self.clock.advance(self.hangs)
            raise BrokerUnreachable("no answer")
        if self.token_dead:
            raise TokenInvalid("token")
        self.clock.advance(self.takes)
        if self.on_read:
            self.on_read()


@dataclass
class FakeBrokers:
    """The `Brokers` port: each account's broker."""

    by_account: dict[int, FakeBroker]

    def of(self, account_id: int, version: str) -> FakeBroker:
        if account_id not in self.by_account:
            raise StoreClosed(f"account {account_id} is not in the live state")
        return self.by_account[account_id]


@dataclass
class RecordingPublisher:
    """Keeps what was published, oldest first."""

    waiting: list[tuple[Event, datetime | None]] = field(default_factory=list)
    published: list[Event] = field(default_factory=list)
    #: As the `Backlog` port tells it of every kind.
    ahead: int = 0

    def ahead_of(self, kind: EventType) -> int:
        del kind
        return self.ahead

    def publish(self, event: Event, at: datetime | None = None) -> None:
        self.published.append(event)
        self.waiting.append((event, at))


@dataclass
class RecordingTimers:
    """Keeps whose timers are set."""

    scheduled: list[RunId] = field(default_factory=list)
    canceled: list[RunId] = field(default_factory=list)

    def schedule(self, run: Run, now: Moment) -> None:
        self.scheduled.append(run.id)

    def cancel(self, run_id: RunId) -> None:
        self.canceled.append(run_id)


@dataclass
class RecordingLog:
    """Keeps the lines written."""

    lines: list[tuple[str, dict[str, object]]] = field(default_factory=list)

    def __call__(self, action: str, /, **facts: object) -> None:
        self.lines.append((action, facts))

    def actions(self) -> list[str]:
        return [action for action, _ in self.lines]
