"""A simulated broker: an honest book behind a dishonest line. Its ledger alone judges the engine.

Faults are chances the world's random numbers decide; everything heals when the world says so.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
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
    TokenInvalid,
    Trade,
)
from engine.domain.orders import TERMINAL, Evidence, OrderStatus, OrderType, Product, Side
from engine.simulation.hardships import Hardships

#: Longest an accepted order may stay out of the book while its answer was lost.
LATEST = timedelta(seconds=8)
#: How long an answer takes that takes its time: longer than any lease.
HANGS_FOR = timedelta(seconds=10)
#: How long a pause is that it asks for, seconds.
ASKS_FOR = (1.0, 12.0)
#: How late an order appears that appears beyond its grace, seconds.
BEYOND_GRACE = (15.0, 60.0)
#: How long an order's fills may be told after its status, seconds.
BEHIND_FOR = (0.2, 3.0)
#: How long the answer to a reading is under way where it is slow.
ANSWERS_IN_MS = (100, 4000)
#: How often nobody trades once all is well again, at most.
THIN_AT_LAST = 0.95
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

    @property
    def fail_no_call(self) -> bool:
        """Whether they let no call fail; what the exchange does to an order is no failure of its line."""
        return not any(getattr(self, name) for name in _OF_CALLS)


_OF_CALLS = [field.name for field in fields(Chances) if field.name != "cancel_order"]


@dataclass
class Placed:
    """One order as the broker has it."""

    broker_order_id: str
    request: OrderRequest
    #: When the book shows it first.
    visible_at: datetime
    status: OrderStatus = OrderStatus.ACCEPTED
    filled: int = 0
    filled_at: datetime | None = None
    first_filled_at: datetime | None = None
    #: When it reached the broker, and when it last changed.
    placed_at: datetime | None = None
    changed_at: datetime | None = None
    #: Somebody else's: by hand, or of another engine.
    is_foreign: bool = False
    #: Of an earlier day: in no book any more.
    is_past: bool = False
    #: Until when its fills are not told, though its status is, and how many were told before.
    behind_until: datetime | None = None
    told_before: int = 0

    def entry(self, now: datetime) -> BookEntry:
        """The order as its book tells it at `now`."""
        is_behind = self.behind_until is not None and now < self.behind_until
        filled = self.told_before if is_behind else self.filled
        evidence = Evidence(
            client_order_id=self.request.client_order_id,
            broker_order_id=self.broker_order_id,
            status=self.status,
            quantity=self.request.quantity,
            filled_quantity=filled,
            average_price=Decimal(100) if filled and not is_behind else Decimal(0),
            filled_at=self.filled_at,
            limit_price=self.request.limit_price,
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
    hard: Hardships = field(default_factory=Hardships)
    #: Called with each order of ours that reaches it, before it is placed, and with what it was answered.
    reached: Callable[[OrderRequest], None] = lambda _request: None
    placing: Callable[[OrderRequest], None] = lambda _request: None
    answered: Callable[[OrderRequest, Reply], None] = lambda _request, _reply: None
    #: Called with each order that is to be taken back or changed, before it is.
    canceling: Callable[[Placed], None] = lambda _placed: None
    changing: Callable[[Placed], None] = lambda _placed: None
    #: What the account holds since yesterday, by symbol.
    holdings: dict[str, int] = field(default_factory=dict)
    #: Until when book and positions cannot be read, and positions are those of a moment ago.
    blind_book: datetime | None = None
    blind_positions: datetime | None = None
    lies_until: datetime | None = None
    token_dead: bool = False
    #: Until when a row of the positions cannot be read.
    blind_row: datetime | None = None
    #: The exchange is closed: nothing trades, and every order is refused.
    is_closed: bool = False
    #: The least price of a limit today; 0 where no quote names it.
    lower_band: Decimal = Decimal(0)
    #: Nothing can be sold.
    at_lower_circuit: bool = False
    #: When an exit of ours was last asked for, whatever became of it.
    exit_asked_at: datetime | None = None
    #: How many quotes were asked for and not told.
    quotes_refused: int = 0
    #: When positions were last told as they are, and not asked for since.
    told_at: datetime | None = None
    #: When the book and the positions were last told as they are.
    book_told_at: datetime | None = None
    positions_told_at: datetime | None = None
    #: When books, quotes and positions were asked for, as long as somebody counts.
    asked: dict[str, list[datetime]] = field(default_factory=dict)
    #: When positions were last told as they are not.
    lied_at: datetime | None = None
    _told: list[NetPosition] = field(default_factory=list)
    _ids: int = 0

    @property
    def profile(self) -> BrokerProfile:
        return BrokerProfile("simulated", idempotent=False, grace=10.0, tag_length=20)

    def place(self, request: OrderRequest, may_send: Callable[[], bool]) -> Reply:
        self.boundary("broker.place")
        reply = self._asked(request, may_send)
        self.answered(request, reply)
        return reply

    def _asked(self, request: OrderRequest, may_send: Callable[[], bool]) -> Reply:
        if self._happens(self.chances.refuse) or not may_send():
            return Reply(Outcome.SERVER_DOWN, message="refused")
        self.reached(request)
        if request.side is Side.SELL:
            self.exit_asked_at = self.now()
        if self.is_closed:
            return Reply(Outcome.REJECTED, cause=RejectCause.OTHER, message="the exchange is closed")
        return self._never_placed() or self._placed(request)

    def _never_placed(self) -> Reply | None:
        """What is answered where no order follows."""
        if refused := self._not_heard():
            return refused
        if self._happens(self.hard.vanish):
            self._ids += 1
            return Reply(Outcome.ACCEPTED, f"V{self._ids:05d}")
        return None

    def _not_heard(self) -> Reply | None:
        """What is answered where a call that changes something never came to its order."""
        if self.token_dead:
            return Reply(Outcome.TOKEN_INVALID, message="dead token")
        if self._happens(self.hard.slips):
            return Reply(Outcome.TOKEN_INVALID, message="a slip: the token lives")
        if self._happens(self.chances.lose_request) or self._happens(self.hard.silent):
            return Reply(Outcome.TIMEOUT, message="lost")
        if self._happens(self.hard.limited):
            asked = self.rng.uniform(*ASKS_FOR)
            return Reply(Outcome.REJECTED, cause=RejectCause.RATE_LIMITED, message="too many", retry_after=asked)
        return None

    def _placed(self, request: OrderRequest) -> Reply:
        self.placing(request)
        lost = self._happens(self.chances.lose_answer)
        late = LATEST * self.rng.random() if lost and self._happens(LATE) else timedelta(0)
        if self._happens(self.hard.beyond_grace):
            lost, late = True, timedelta(seconds=self.rng.uniform(*BEYOND_GRACE))
        placed = Placed(f"{len(self.book) + 1:06d}", request, self.now() + late, placed_at=self.now())
        self.book.append(placed)
        if self._happens(self.hard.refused_rests):
            placed.visible_at = self.now()
            self.changed()
            self.boundary("broker.placed")
            return Reply(Outcome.REJECTED, cause=RejectCause.OTHER, message="refused, and rests all the same")
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
        if asked := self._live(broker_order_id):
            self.canceling(asked)
        if refused := self._not_heard():
            return refused
        placed = self._live(broker_order_id)
        if placed is None or self.is_closed:
            return Reply(Outcome.REJECTED, broker_order_id, RejectCause.OTHER, "not cancelable")
        if self._happens(self.hard.stubborn):
            return Reply(Outcome.ACCEPTED, placed.broker_order_id, message="and it stands all the same")
        placed.status = OrderStatus.CANCELED
        return self._changed(placed, "broker.canceled")

    def modify(self, broker_order_id: str, change: OrderChange) -> Reply:
        self.boundary("broker.modify")
        if asked := self._live(broker_order_id):
            self.changing(asked)
        if refused := self._not_heard():
            return refused
        placed = self._live(broker_order_id)
        if placed is None or self.is_closed or change.limit_price < self.lower_band:
            return Reply(Outcome.REJECTED, broker_order_id, RejectCause.OTHER, "not to be changed so")
        if self._happens(self.hard.stubborn):
            return Reply(Outcome.ACCEPTED, placed.broker_order_id, message="and it is priced as before")
        placed.request = replace(placed.request, limit_price=change.limit_price)
        return self._changed(placed, "broker.modified")

    def _live(self, broker_order_id: str) -> Placed | None:
        found = (each for each in self.book if each.broker_order_id == broker_order_id)
        return next((each for each in found if each.status not in TERMINAL), None)

    def _changed(self, placed: Placed, boundary: str) -> Reply:
        """An order was changed, whether that is answered or not."""
        placed.changed_at = self.now()
        self.changed()
        self.push(placed.entry(self.now()))
        self.boundary(boundary)
        if self._happens(self.chances.lose_answer):
            return Reply(Outcome.TIMEOUT, message="answer lost")
        return Reply(Outcome.ACCEPTED, placed.broker_order_id)

    def orders(self) -> Sequence[BookEntry]:
        self.boundary("broker.orders")
        self._ask("orders")
        self._read(self.blind_book)
        self.book_told_at = now = self.now()
        shown = [placed.entry(now) for placed in self.book if placed.visible_at <= now and not placed.is_past]
        self._arrives("broker.orders read")
        return shown

    def orders_by_client_id(self, client_order_id: str) -> Sequence[BookEntry]:
        return [entry for entry in self.orders() if entry.tag == client_order_id]

    def trades_of(self, broker_order_id: str) -> Sequence[Trade]:
        self.boundary("broker.trades_of")
        self._read(self.blind_book)
        found = [each.trades() for each in self.book if each.broker_order_id == broker_order_id]
        return found[0] if found else []

    def positions(self) -> Sequence[NetPosition]:
        self.boundary("broker.positions")
        self._ask("positions")
        self._read(self.blind_positions)
        if self.blind_row is not None and self.now() < self.blind_row:
            return [NetPosition(each.symbol, each.product, 0, unread="quantity") for each in self._positions()]
        if self.lies_until is not None and self.now() < self.lies_until:
            self.lied_at, shown = self.now(), self._told
        else:
            self.told_at, shown = self.now(), self._positions()
            self.positions_told_at = self.told_at
        self._arrives("broker.positions read")
        return shown

    def _arrives(self, boundary: str) -> None:
        """An answer is under way for a while: what it tells was so when it was made."""
        if self._happens(self.hard.slow):
            self.hang(timedelta(milliseconds=self.rng.randint(*ANSWERS_IN_MS)))
            self.boundary(boundary)

    def _positions(self) -> list[NetPosition]:
        """What the account can sell: what was traded today, net, and what it holds since yesterday."""
        held = {(symbol, Product.DELIVERY): quantity for symbol, quantity in self.holdings.items()}
        for placed in self.book:
            if not placed.is_past:
                sign = 1 if placed.request.side is Side.BUY else -1
                key = (placed.request.symbol, placed.request.product)
                held[key] = held.get(key, 0) + sign * placed.filled
        return [NetPosition(symbol, product, quantity) for (symbol, product), quantity in held.items()]

    def net(self, symbol: str, product: Product) -> int:
        """What the account has to sell, in truth: today's position and yesterday's holding."""
        held = self.holdings.get(symbol, 0) if product is Product.DELIVERY else 0
        for placed in self.book:
            if not placed.is_past and placed.request.symbol == symbol and placed.request.product is product:
                held += placed.filled if placed.request.side is Side.BUY else -placed.filled
        return held

    def promised(self, symbol: str, product: Product) -> int:
        """What our resting exits will sell of it."""
        return sum(
            each.request.quantity - each.filled
            for each in self.book
            if each.request.side is Side.SELL
            and each.status not in TERMINAL
            and (each.request.symbol, each.request.product) == (symbol, product)
            and not each.is_foreign
        )

    def lie(self, until: datetime, *, is_empty: bool) -> None:
        """Tell nothing, or what is so now, until then."""
        self.lies_until, self._told = until, [] if is_empty else self._positions()

    def by_hand(self, symbol: str, product: Product, side: Side, quantity: int, tag: str = "") -> None:
        """Somebody else's order, which fills at once."""
        request = OrderRequest(tag, symbol, side, quantity, OrderType.MARKET, product)
        now = self.now()
        placed = Placed(
            f"{len(self.book) + 1:06d}", request, now, OrderStatus.FILLED, quantity, now, now, is_foreign=True
        )
        self.book.append(placed)
        self.changed()
        self.push(placed.entry(now))

    def close_session(self, *, expires: bool) -> None:
        """The exchange closes; what rests expires there, or is shown as resting until the next day."""
        self.is_closed = True
        for placed in self.book if expires else ():
            if placed.status not in TERMINAL:
                placed.status, placed.changed_at = OrderStatus.EXPIRED, self.now()
                self.push(placed.entry(self.now()))
        self.changed()

    def night(self) -> None:
        """Orders that rest expire, intraday positions are squared off, delivery settles, and a new book begins."""
        self.is_closed = False
        for placed in self.book:
            if placed.status not in TERMINAL:
                placed.status = OrderStatus.EXPIRED
        self.holdings = {each.symbol: each.quantity for each in self._positions() if each.product is Product.DELIVERY}
        for placed in self.book:
            placed.is_past = True
        self.changed()

    def can_be_read(self) -> bool:
        """Whether the account can be read, truly; its book may fail where nothing is in doubt."""
        now = self.now()
        is_in_doubt = self.hard.vanish or self.hard.refused_rests or self.hard.beyond_grace
        trouble = (self.blind_positions, self.blind_row, self.lies_until, self.blind_book if is_in_doubt else None)
        return not self.token_dead and all(until is None or until <= now for until in trouble)

    def is_honest(self) -> bool:
        """Whether its line never fails."""
        return self.chances.fail_no_call

    def _ask(self, what: str) -> None:
        self.asked.setdefault(what, []).append(self.now())

    def _read(self, blind_until: datetime | None) -> None:
        if self.token_dead:
            raise TokenInvalid("dead token")
        if self._happens(self.chances.unreadable) or (blind_until is not None and self.now() < blind_until):
            raise BrokerUnreachable("unreadable")

    def instruments(self, exchange: str) -> Iterable[Instrument]:
        self.boundary("broker.instruments")
        self._read(self.blind_book)
        if self._happens(self.hard.unlisted):
            return []
        return [Instrument(f"{exchange}:SIM", 1, Decimal("0.05"), 1)]

    def quote(self, symbols: Sequence[str]) -> Sequence[Quote]:
        self.boundary("broker.quote")
        self._ask("quote")
        self.quotes_refused += 1
        self._read(None)
        self.quotes_refused -= 1
        last = self.lower_band if self.at_lower_circuit and self.lower_band else Decimal(100)
        return [Quote(each, last, self.lower_band, Decimal(120), self.now()) for each in symbols]

    def account_id(self) -> str:
        self.boundary("broker.account_id")
        self._read(None)
        return "simulated"

    def warm(self, _connections: int) -> int:
        return 0

    def close(self) -> None:
        return None

    def trade(self) -> bool:
        """Let one live order fill, in whole or in part, or be canceled by the exchange; whether one was there."""
        live = [
            each
            for each in self.book
            if each.status not in TERMINAL
            and each.visible_at <= self.now()
            and not (self.at_lower_circuit and each.request.side is Side.SELL)
        ]
        if not live or self.is_closed or self._happens(self.hard.thin):
            return False
        placed = self.rng.choice(live)
        left = placed.request.quantity - placed.filled
        if self._happens(self.chances.cancel_order):
            placed.status = OrderStatus.CANCELED
        else:
            before = placed.filled
            placed.filled += left if self._happens(WHOLE) else self.rng.randint(1, left)
            placed.filled_at = self.now()
            placed.first_filled_at = placed.first_filled_at or placed.filled_at
            if self._happens(self.hard.behind):
                # Its price is told later, and its fills, too, or not.
                placed.behind_until = self.now() + timedelta(seconds=self.rng.uniform(*BEHIND_FOR))
                placed.told_before = self.rng.choice((before, placed.filled))
            done = placed.filled == placed.request.quantity
            placed.status = OrderStatus.FILLED if done else OrderStatus.PARTIALLY_FILLED
        placed.changed_at = self.now()
        self.changed()
        self.push(placed.entry(self.now()))
        return True

    def heal(self) -> None:
        """No fault from here on."""
        # Few trade on for a while: what rests by mistake must show.
        self.chances, self.hard = Chances(), Hardships(thin=min(self.hard.thin, THIN_AT_LAST))
        self.blind_book = self.blind_positions = self.blind_row = self.lies_until = None

    def _happens(self, chance: float) -> bool:
        return chance > 0 and self.rng.random() < chance
