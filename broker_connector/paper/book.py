"""One account's order book at the paper broker: orders in, fills out, by the last price. Pure; `now` is market time.

Speaks the broker's own words. Knows no HTTP, no other account and no ticks but the prices it is told.
"""

import random
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, time, timedelta
from decimal import Decimal

from broker_connector.kite_words import IST

#: Ticks between the last price and the limit a resting protected market order is left at.
REST_TICKS = 20

LIVE_ENDS = frozenset({"COMPLETE", "CANCELLED", "REJECTED"})
#: What every order goes through before it can trade.
INTERIM = ("PUT ORDER REQ RECEIVED", "VALIDATION PENDING", "OPEN PENDING")


@dataclass(frozen=True, slots=True)
class BookSettings:
    """How kind the exchange is. Times are market seconds: a replay's speed scales them."""

    #: Ticks from the last price to the bid and to the ask.
    spread_ticks: int = 0
    #: Seconds from acceptance, and between the parts of a partial fill, to a fill.
    fill_delay: float = 0.0
    #: Share of orders that fill in parts, and the most parts.
    partial_probability: float = 0.0
    max_chunks: int = 4
    #: Share of market orders that the market runs away from: they rest as LIMIT orders.
    rest_probability: float = 0.0
    seed: int = 0
    #: The session, exchange time.
    opens: time = time(9, 15)
    closes: time = time(15, 30)
    always_open: bool = False

    def is_open(self, now: datetime) -> bool:
        """Whether orders are taken at market time `now`."""
        return self.always_open or self.opens <= now.astimezone(IST).time() < self.closes


@dataclass(frozen=True, slots=True)
class Ticket:
    """A checked order form, in the broker's words; prices in money, 0 where the order type has none."""

    exchange: str
    tradingsymbol: str
    token: int
    tick_size: Decimal
    transaction_type: str
    quantity: int
    product: str
    order_type: str
    price: Decimal = Decimal(0)
    trigger_price: Decimal = Decimal(0)
    validity: str = "DAY"
    variety: str = "regular"
    market_protection: Decimal = Decimal(0)
    tag: str = ""


@dataclass(frozen=True, slots=True)
class Fill:
    """Part of an order that traded."""

    trade_id: str
    quantity: int
    price: Decimal
    at: datetime


@dataclass(frozen=True, slots=True)
class State:
    """One line of an order's history."""

    status: str
    filled_quantity: int
    average_price: Decimal
    at: datetime


@dataclass(slots=True)
class BookOrder:
    """An order and all that happened to it."""

    order_id: str
    ticket: Ticket
    received_at: datetime
    #: Quantities still to trade, one fill each.
    chunks: deque[int]
    status: str = ""
    message: str = ""
    order_type: str = ""
    price: Decimal = Decimal(0)
    #: Not before this may the next chunk trade.
    due: datetime | None = None
    updated_at: datetime | None = None
    modified: bool = False
    fills: list[Fill] = field(default_factory=list)
    history: list[State] = field(default_factory=list)

    @property
    def is_live(self) -> bool:
        """Whether it may still trade."""
        return self.status not in LIVE_ENDS

    @property
    def is_buy(self) -> bool:
        """Its side."""
        return self.ticket.transaction_type == "BUY"

    @property
    def quantity(self) -> int:
        """Ordered units: what traded and what is still to trade, or was given up."""
        return self.ticket.quantity

    @property
    def filled_quantity(self) -> int:
        """Units that traded."""
        return sum(fill.quantity for fill in self.fills)

    @property
    def average_price(self) -> Decimal:
        """Money a unit over all fills, 0 while there is none; to a hundredth of the smallest price step."""
        if not self.fills:
            return Decimal(0)
        value = sum((fill.price * fill.quantity for fill in self.fills), Decimal(0))
        exact = value / self.filled_quantity
        rounded = exact.quantize(Decimal("0.01"))
        return rounded if rounded == exact else exact.quantize(Decimal("0.0001"))

    def move(self, status: str, now: datetime, message: str = "") -> None:
        """Enter `status` and write it down."""
        self.status, self.updated_at = status, now
        self.message = message or self.message
        self.history.append(State(status, self.filled_quantity, self.average_price, now))


class Book:
    """The orders of one account. Every change is told to `changed` at the moment it happens."""

    def __init__(
        self,
        settings: BookSettings,
        next_id: Callable[[], str],
        last_price: Callable[[int], Decimal | None],
        changed: Callable[[BookOrder], None],
    ) -> None:
        """`next_id`: fresh ids of orders and trades. `last_price`: of a token, None before its first tick."""
        self.settings = settings
        self.orders: dict[str, BookOrder] = {}
        self._next_id, self._last_price, self._changed = next_id, last_price, changed
        self._random = random.Random(settings.seed)
        self._working: dict[int, list[BookOrder]] = {}

    def place(self, ticket: Ticket, now: datetime) -> BookOrder:
        """Take an order in; it may have traded when this returns."""
        order = BookOrder(
            self._next_id(), ticket, now, self._chunks(ticket.quantity),
            order_type=ticket.order_type, price=ticket.price,
        )  # fmt: skip
        self.orders[order.order_id] = order
        for status in INTERIM:
            order.move(status, now)
        self._maybe_rest(order)
        self._working.setdefault(ticket.token, []).append(order)
        order.due = now + timedelta(seconds=self.settings.fill_delay)
        self._announce(order, "TRIGGER PENDING" if ticket.trigger_price else "OPEN", now)
        self._work(order, now)
        if ticket.validity == "IOC" and order.is_live:
            self._end(order, "CANCELLED", now)
        return order

    @contextmanager
    def filling_after(self, seconds: float) -> Iterator[None]:
        """While it lasts, what is placed trades only after so many market seconds."""
        kept = self.settings
        self.settings = replace(kept, fill_delay=seconds)
        try:
            yield
        finally:
            self.settings = kept

    def reject(self, ticket: Ticket, message: str, now: datetime) -> BookOrder:
        """Take an order in and refuse it afterwards, as a risk check behind the order interface does."""
        order = BookOrder(
            self._next_id(), ticket, now, deque([ticket.quantity]), order_type=ticket.order_type, price=ticket.price
        )
        self.orders[order.order_id] = order
        for status in INTERIM[:2]:
            order.move(status, now)
        self._end(order, "REJECTED", now, message)
        return order

    def cancel(self, order_id: str, now: datetime) -> BookOrder | None:
        """Cancel what is left of a live order; None where there is nothing to cancel."""
        order = self.orders.get(order_id)
        if order is None or not order.is_live:
            return None
        order.move("CANCEL PENDING", now)
        self._end(order, "CANCELLED", now)
        return order

    def modify(self, order_id: str, price: Decimal, now: datetime) -> BookOrder | None:
        """Move a live order to a new limit; None where it is not live."""
        order = self.orders.get(order_id)
        if order is None or not order.is_live:
            return None
        order.order_type, order.price, order.modified = "LIMIT", price, True
        self._announce(order, "OPEN", now)
        self._work(order, now)
        return order

    def on_price(self, token: int, now: datetime) -> None:
        """Look at the orders of a symbol whose last price changed."""
        for order in list(self._working.get(token, ())):
            self._work(order, now)

    def advance(self, now: datetime) -> None:
        """Trade what was waiting for its moment."""
        for order in list(self._live()):
            if order.due is not None and order.due <= now:
                self._work(order, now)

    def next_due(self, now: datetime) -> datetime | None:
        """The next moment at which an order may trade without a new price."""
        return min((order.due for order in self._live() if order.due and order.due > now), default=None)

    def _live(self) -> Iterator[BookOrder]:
        return (order for working in self._working.values() for order in working)

    def _chunks(self, quantity: int) -> deque[int]:
        settings = self.settings
        if quantity == 1 or self._random.random() >= settings.partial_probability:
            return deque([quantity])
        pieces = self._random.randint(2, max(2, min(settings.max_chunks, quantity)))
        cuts = sorted(self._random.sample(range(1, quantity), pieces - 1))
        return deque(end - start for start, end in zip([0, *cuts], [*cuts, quantity], strict=True))

    def _maybe_rest(self, order: BookOrder) -> None:
        if order.order_type != "MARKET" or self._random.random() >= self.settings.rest_probability:
            return
        last = self._last_price(order.ticket.token)
        if last is not None:
            away = order.ticket.tick_size * REST_TICKS
            order.order_type, order.price = "LIMIT", last - away if order.is_buy else last + away

    def _work(self, order: BookOrder, now: datetime) -> None:
        """Trade as much of `order` as its price, its trigger and its moment allow."""
        while order.is_live and order.chunks and order.due is not None and order.due <= now:
            last = self._last_price(order.ticket.token)
            if last is None or not self._triggered(order, last, now):
                return
            price = self._trade_price(order, last)
            if price is None:
                return
            order.fills.append(Fill(self._next_id(), order.chunks.popleft(), price, now))
            if not order.chunks:
                self._end(order, "COMPLETE", now)
                return
            order.due = now + timedelta(seconds=self.settings.fill_delay)
            self._announce(order, "OPEN", now)

    def _triggered(self, order: BookOrder, last: Decimal, now: datetime) -> bool:
        if order.status != "TRIGGER PENDING":
            return True
        trigger = order.ticket.trigger_price
        if (last < trigger) if order.is_buy else (last > trigger):
            return False
        order.order_type = {"SL": "LIMIT", "SL-M": "MARKET"}.get(order.order_type, order.order_type)
        self._announce(order, "OPEN", now)
        return True

    def _trade_price(self, order: BookOrder, last: Decimal) -> Decimal | None:
        """What it would trade at now; None where its limit forbids it."""
        spread = order.ticket.tick_size * self.settings.spread_ticks
        market = last + spread if order.is_buy else last - spread
        if order.order_type == "MARKET":
            return market
        allowed = market <= order.price if order.is_buy else market >= order.price
        return market if allowed else None

    def _end(self, order: BookOrder, status: str, now: datetime, message: str = "") -> None:
        working = self._working.get(order.ticket.token, [])
        if order in working:
            working.remove(order)
        order.due = None
        self._announce(order, status, now, message)

    def _announce(self, order: BookOrder, status: str, now: datetime, message: str = "") -> None:
        order.move(status, now, message)
        self._changed(order)
