"""An order at the paper broker and what it is asked to be, in the broker's own words. Pure; times are market time.

Knows no prices, no book and no HTTP.
"""

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from decimal import Decimal

from broker_connector.kite_words import IST

LIVE_ENDS = frozenset({"COMPLETE", "CANCELLED", "REJECTED"})
#: What every order goes through before it can trade.
INTERIM = ("PUT ORDER REQ RECEIVED", "VALIDATION PENDING", "OPEN PENDING")
#: What an after-market order is until its session opens.
AFTER_MARKET = "AMO REQ RECEIVED"
#: What a changed order goes through before it rests again.
MODIFYING = ("MODIFY VALIDATION PENDING", "MODIFY PENDING", "MODIFIED")
#: Order types that wait for a trigger.
STOPS = frozenset({"SL", "SL-M"})


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
    #: Whether MARKET and SL-M orders without market protection are refused, as the broker does since 2026-04-01.
    market_protection: bool = True

    def is_open(self, now: datetime) -> bool:
        """Whether orders are taken at market time `now`."""
        return self.always_open or self.opens <= now.astimezone(IST).time() < self.closes

    def next_opening(self, now: datetime) -> datetime:
        """When the session after `now` opens."""
        opening = datetime.combine(now.astimezone(IST).date(), self.opens, IST)
        return opening if now < opening else opening + timedelta(days=1)


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
    #: Minutes a TTL order may rest.
    validity_ttl: int = 0
    disclosed_quantity: int = 0
    #: Parts an iceberg order trades in, one after the other.
    iceberg_legs: int = 1
    #: The cover order whose stop this is.
    parent_order_id: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What a modification asks for; None where it says nothing."""

    quantity: int | None = None
    price: Decimal | None = None
    trigger_price: Decimal | None = None
    order_type: str | None = None
    validity: str | None = None
    validity_ttl: int | None = None
    disclosed_quantity: int | None = None


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
    quantity: int
    order_type: str
    price: Decimal
    trigger_price: Decimal


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
    #: When a TTL order is canceled.
    expires: datetime | None = None
    #: Whether a stop order met its trigger.
    is_triggered: bool = False
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
        self.history.append(
            State(
                status, self.filled_quantity, self.average_price, now,
                self.quantity, self.order_type, self.price, self.ticket.trigger_price,
            )
        )  # fmt: skip
