"""A simulated broker: an honest book behind a dishonest line. Its ledger alone judges the engine.

Faults are chances the world's random numbers decide; everything heals when the world says so.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
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
    Trade,
)
from engine.domain.orders import TERMINAL, Evidence, OrderStatus, Product, Side

#: Longest an accepted order may stay out of the book while its answer was lost.
LATEST = timedelta(seconds=8)
#: How long an answer takes that takes its time: longer than any lease.
HANGS_FOR = timedelta(seconds=10)
#: How often an order whose answer is lost appears late, and how often a fill is a whole one.
LATE, WHOLE = 0.5, 0.6


@dataclass(frozen=True, slots=True)
class Chances:
    """How often the line fails, each a probability a call; all 0 once healed."""

    reject: float = 0.0
    refuse: float = 0.0
    #: The answer is lost: the order was placed, at once or late.
    lose_answer: float = 0.0
    #: The answer is lost, and so was the request.
    lose_request: float = 0.0
    unreadable: float = 0.0
    cancel_order: float = 0.0
    #: The answer takes its time.
    hang: float = 0.0


@dataclass
class Placed:
    """One order as the broker has it."""

    broker_order_id: str
    request: OrderRequest
    visible_at: datetime
    status: OrderStatus = OrderStatus.ACCEPTED
    filled: int = 0
    filled_at: datetime | None = None
    first_filled_at: datetime | None = None

    def entry(self) -> BookEntry:
        """The order as its book tells it."""
        evidence = Evidence(
            client_order_id=self.request.client_order_id,
            broker_order_id=self.broker_order_id,
            status=self.status,
            quantity=self.request.quantity,
            filled_quantity=self.filled,
            average_price=Decimal(100) if self.filled else Decimal(0),
            filled_at=self.filled_at,
        )
        return BookEntry(evidence, self.request.symbol, self.request.side, self.request.client_order_id)

    def trades(self) -> list[Trade]:
        """What filled of it, as one fill at the time of the first."""
        if self.first_filled_at is None:
            return []
        of = (self.broker_order_id, self.request.symbol, self.request.side, self.request.product)
        return [Trade(f"T{self.broker_order_id}", *of, self.filled, Decimal(100), self.first_filled_at)]


@dataclass
class SimulatedBroker:
    """The `Broker` port over a book in memory."""

    rng: random.Random
    now: Callable[[], datetime]
    #: Called at each boundary with its name; the world interleaves and crashes there.
    boundary: Callable[[str], None]
    #: Called where an answer takes so long.
    hang: Callable[[timedelta], None]
    #: Called at each change of the book.
    changed: Callable[[], None]
    #: Called with each change a push tells of.
    push: Callable[[BookEntry], None]
    chances: Chances = field(default_factory=Chances)
    book: list[Placed] = field(default_factory=list)

    @property
    def profile(self) -> BrokerProfile:
        return BrokerProfile("simulated", idempotent=False, grace=10.0, tag_length=20)

    def place(self, request: OrderRequest, may_send: Callable[[], bool]) -> Reply:
        self.boundary("broker.place")
        if self._happens(self.chances.refuse) or not may_send():
            return Reply(Outcome.SERVER_DOWN, message="refused")
        if self._happens(self.chances.lose_request):
            return Reply(Outcome.TIMEOUT, message="lost")
        lost = self._happens(self.chances.lose_answer)
        late = LATEST * self.rng.random() if lost and self._happens(LATE) else timedelta(0)
        placed = Placed(f"{len(self.book) + 1:06d}", request, self.now() + late)
        self.book.append(placed)
        self.changed()
        if self._happens(self.chances.reject):
            placed.status = OrderStatus.REJECTED
        if self._happens(self.chances.hang):
            self.hang(HANGS_FOR)
        self.boundary("broker.placed")
        if lost:
            return Reply(Outcome.TIMEOUT, message="answer lost")
        if placed.status is OrderStatus.REJECTED:
            return Reply(Outcome.REJECTED, placed.broker_order_id, RejectCause.OTHER, "rejected")
        return Reply(Outcome.ACCEPTED, placed.broker_order_id)

    def cancel(self, broker_order_id: str) -> Reply:
        self.boundary("broker.cancel")
        placed = next(each for each in self.book if each.broker_order_id == broker_order_id)
        if placed.status in TERMINAL:
            return Reply(Outcome.REJECTED, broker_order_id, RejectCause.OTHER, "not cancelable")
        placed.status = OrderStatus.CANCELED
        self.changed()
        self.push(placed.entry())
        return Reply(Outcome.ACCEPTED, broker_order_id)

    def orders(self) -> Sequence[BookEntry]:
        self.boundary("broker.orders")
        if self._happens(self.chances.unreadable):
            raise BrokerUnreachable("unreadable")
        return [placed.entry() for placed in self.book if placed.visible_at <= self.now()]

    def orders_by_client_id(self, client_order_id: str) -> Sequence[BookEntry]:
        return [entry for entry in self.orders() if entry.tag == client_order_id]

    def trades_of(self, broker_order_id: str) -> Sequence[Trade]:
        self.boundary("broker.trades_of")
        if self._happens(self.chances.unreadable):
            raise BrokerUnreachable("unreadable")
        return next(each.trades() for each in self.book if each.broker_order_id == broker_order_id)

    def modify(self, broker_order_id: str, _change: OrderChange) -> Reply:
        self.boundary("broker.modify")
        return Reply(Outcome.ACCEPTED, broker_order_id)

    def positions(self) -> Sequence[NetPosition]:
        self.boundary("broker.positions")
        if self._happens(self.chances.unreadable):
            raise BrokerUnreachable("unreadable")
        held: dict[str, int] = {}
        for placed in self.book:
            sign = 1 if placed.request.side is Side.BUY else -1
            held[placed.request.symbol] = held.get(placed.request.symbol, 0) + sign * placed.filled
        return [NetPosition(symbol, Product.INTRADAY, quantity) for symbol, quantity in held.items()]

    def instruments(self, _exchange: str) -> Iterable[Instrument]:
        return []

    def quote(self, _symbols: Sequence[str]) -> Sequence[Quote]:
        return []

    def account_id(self) -> str:
        return "simulated"

    def warm(self, _connections: int) -> int:
        return 0

    def close(self) -> None:
        return None

    def trade(self) -> bool:
        """Let one live order fill, in whole or in part, or be canceled by the exchange; whether one was there."""
        live = [each for each in self.book if each.status not in TERMINAL and each.visible_at <= self.now()]
        if not live:
            return False
        placed = self.rng.choice(live)
        left = placed.request.quantity - placed.filled
        if self._happens(self.chances.cancel_order):
            placed.status = OrderStatus.CANCELED
        else:
            placed.filled += left if self._happens(WHOLE) else self.rng.randint(1, left)
            placed.filled_at = self.now()
            placed.first_filled_at = placed.first_filled_at or placed.filled_at
            done = placed.filled == placed.request.quantity
            placed.status = OrderStatus.FILLED if done else OrderStatus.PARTIALLY_FILLED
        self.changed()
        self.push(placed.entry())
        return True

    def heal(self) -> None:
        """No fault from here on."""
        self.chances = Chances()

    def _happens(self, chance: float) -> bool:
        return chance > 0 and self.rng.random() < chance
