"""What the engine says to a broker and what it can hear back: requests, the five outcomes, a broker's profile.

Knows nothing of HTTP or of any broker's own words; connectors translate into these values.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum

from engine.domain.orders import Evidence, OrderType, Product, Side


class Outcome(StrEnum):
    """The five ways a call to a broker can end."""

    ACCEPTED = "accepted"
    #: Proven: in the book as rejected, or an error on the connector's definite list.
    REJECTED = "rejected"
    #: In doubt: bytes may have been sent and no definite answer came.
    TIMEOUT = "timeout"
    TOKEN_INVALID = "token_invalid"  # noqa: S105 - an outcome, not a secret
    #: Nothing was sent.
    SERVER_DOWN = "server_down"


class RejectCause(StrEnum):
    """Why a request was refused, as far as it decides whether trying again can help."""

    MARGIN = "margin"
    INPUT = "input"
    RATE_LIMITED = "rate_limited"
    #: A person must authorise the sale of settled shares first.
    AUTHORISATION = "authorisation"
    OTHER = "other"


#: Causes that would refuse the same order again: no retry helps.
REPEATABLE: frozenset[RejectCause] = frozenset({RejectCause.MARGIN, RejectCause.INPUT})


@dataclass(frozen=True, slots=True)
class OrderRequest:
    """An order to place. `symbol` is "EXCHANGE:TRADINGSYMBOL"; `limit_price` only for limit orders."""

    client_order_id: str
    symbol: str
    side: Side
    quantity: int
    order_type: OrderType
    product: Product
    limit_price: Decimal | None = None


@dataclass(frozen=True, slots=True)
class OrderChange:
    """What a resting order is changed to: a limit price, money, and its whole quantity where that changes too."""

    limit_price: Decimal
    quantity: int | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """How one call to place or cancel ended. `broker_order_id` only where accepted; `message` for people."""

    outcome: Outcome
    broker_order_id: str = ""
    cause: RejectCause | None = None
    message: str = ""
    #: Seconds the broker asked us to wait, where it said so (HTTP 429).
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class BookEntry:
    """One order of the account's book: the evidence, and whose order it is."""

    evidence: Evidence
    symbol: str
    side: Side
    #: The broker's tag: our client order id, or somebody else's text, or "".
    tag: str
    #: Aware UTC, market time.
    received_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class SlicedReply:
    """How a call to place an order in slices ended: the reply to the whole, and one a slice the broker told of.

    ACCEPTED says that the broker cut it up; a slice may be refused all the same.
    """

    whole: Reply
    slices: tuple[Reply, ...] = ()


@dataclass(frozen=True, slots=True)
class Trade:
    """One fill, as the broker lists it: `quantity` units at `price` money a unit; `filled_at` market time, UTC."""

    trade_id: str
    broker_order_id: str
    symbol: str
    side: Side
    product: Product | None
    quantity: int
    price: Decimal
    filled_at: datetime


@dataclass(frozen=True, slots=True)
class Margin:
    """Money in one segment of an account: what new orders may use, what open ones and positions use already."""

    segment: str
    available: Decimal
    used: Decimal


#: The symbol of a position that stands for every symbol of its product.
ANY_SYMBOL = "*"


@dataclass(frozen=True, slots=True)
class NetPosition:
    """What the account can sell of one symbol in one product, net, in units; negative is short.

    `unread`: the broker's field that could not be read; then `quantity` is 0 and proves nothing. Where a whole list of
    the product could not be read, the symbol is `ANY_SYMBOL`.
    """

    symbol: str
    product: Product
    quantity: int
    unread: str = ""


@dataclass(frozen=True, slots=True)
class Instrument:
    """A tradable symbol as the broker lists it. `scale`: integer price units in 1 of money (NSE: 100)."""

    symbol: str
    token: int
    tick_size: Decimal
    lot_size: int
    scale: int = 100
    #: The most units the exchange takes in one order; None where the broker does not tell.
    freeze_quantity: int | None = None


@dataclass(frozen=True, slots=True)
class Quote:
    """A symbol's last price and its price band today, money a unit; `at`: when it traded last, exchange time.

    `low`: the day's, 0 where it is not told.
    """

    symbol: str
    last_price: Decimal
    lower_band: Decimal
    upper_band: Decimal
    at: datetime
    low: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class BrokerProfile:
    """What a broker promises, as data: decisions read this, never a broker's name."""

    name: str
    #: Whether sending the same client order id again is refused or answered with the first order.
    idempotent: bool
    #: Seconds after the answer's timeout within which a doubtful order may still appear in the book.
    grace: float
    #: Longest tag it keeps, characters.
    tag_length: int
    #: Seconds an order call waits for its answer.
    answer_timeout: float = 3.0
    #: Orders a calendar second, minute and day for one account; absent windows are unlimited.
    rates: Mapping[str, int] = field(default_factory=dict)
    #: The wall time, with its zone, at which every access token dies; None where they do not by themselves.
    token_dies: time | None = None

    def token_ends(self, issued_at: datetime | None) -> datetime | None:
        """When an access token issued then dies; None where it does not, or nobody knows."""
        if self.token_dies is None or issued_at is None:
            return None
        today = datetime.combine(issued_at.astimezone(self.token_dies.tzinfo).date(), self.token_dies)
        return today if today > issued_at else today + timedelta(days=1)

    @property
    def settles_after(self) -> timedelta:
        """How long after `send_by` a doubtful order that is absent from the book is not there."""
        return timedelta(seconds=self.answer_timeout + self.grace)


class BrokerUnreachable(Exception):
    """Raised when a read from the broker (book, positions, instruments) gave no answer after its retries."""


class TokenInvalid(Exception):
    """Raised when a read is refused because the account's access token is dead."""
