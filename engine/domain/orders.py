"""Orders: their vocabulary, identity, life (a transition table) and the ranking of evidence about them.

Knows nothing of brokers' own words, of Redis, or of the strategy an order belongs to.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum


class Side(StrEnum):
    """What an order does to the position."""

    BUY = "buy"
    SELL = "sell"


class Leg(StrEnum):
    """Which half of a run an order belongs to; every kind of exit shares one leg and one numbering."""

    ENTRY = "entry"
    EXIT = "exit"


class OrderType(StrEnum):
    """How an order is priced."""

    MARKET = "market"
    LIMIT = "limit"


class Product(StrEnum):
    """How a position is carried: within the day, delivered, or margined overnight."""

    INTRADAY = "intraday"
    DELIVERY = "delivery"
    MARGIN = "margin"


class OrderStatus(StrEnum):
    """Where an order is in its life, as far as it is proven to us."""

    #: Granted by `intend`; the request may or may not have left.
    SENDING = "sending"
    ACCEPTED = "accepted"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    REJECTED = "rejected"
    CANCEL_PENDING = "cancel_pending"
    CANCELED = "canceled"
    EXPIRED = "expired"
    #: The call ended in doubt; only the order book can tell.
    UNKNOWN = "unknown"


class OrderTrigger(StrEnum):
    """What can happen to an order; the second half of a transition table key."""

    ACCEPT = "accept"
    DOUBT = "doubt"
    REJECT = "reject"
    FILL_PART = "fill_part"
    FILL_ALL = "fill_all"
    REQUEST_CANCEL = "request_cancel"
    CANCEL = "cancel"
    EXPIRE = "expire"


TERMINAL: frozenset[OrderStatus] = frozenset(
    {OrderStatus.FILLED, OrderStatus.REJECTED, OrderStatus.CANCELED, OrderStatus.EXPIRED}
)


def _transitions() -> dict[tuple[OrderStatus, OrderTrigger], OrderStatus]:
    s, t = OrderStatus, OrderTrigger
    table: dict[tuple[OrderStatus, OrderTrigger], OrderStatus] = {}
    ends = {t.REJECT: s.REJECTED, t.CANCEL: s.CANCELED, t.EXPIRE: s.EXPIRED, t.FILL_ALL: s.FILLED}
    for live in (s.SENDING, s.UNKNOWN, s.ACCEPTED, s.PARTIALLY_FILLED, s.CANCEL_PENDING):
        table |= {(live, trigger): end for trigger, end in ends.items()}
    for unproven in (s.SENDING, s.UNKNOWN):
        table[unproven, t.ACCEPT] = s.ACCEPTED
        table[unproven, t.DOUBT] = s.UNKNOWN
        table[unproven, t.FILL_PART] = s.PARTIALLY_FILLED
    table |= {
        (s.ACCEPTED, t.ACCEPT): s.ACCEPTED,
        (s.ACCEPTED, t.FILL_PART): s.PARTIALLY_FILLED,
        (s.ACCEPTED, t.REQUEST_CANCEL): s.CANCEL_PENDING,
        (s.PARTIALLY_FILLED, t.ACCEPT): s.PARTIALLY_FILLED,
        (s.PARTIALLY_FILLED, t.FILL_PART): s.PARTIALLY_FILLED,
        (s.PARTIALLY_FILLED, t.REQUEST_CANCEL): s.CANCEL_PENDING,
        (s.CANCEL_PENDING, t.ACCEPT): s.CANCEL_PENDING,
        (s.CANCEL_PENDING, t.FILL_PART): s.CANCEL_PENDING,
        (s.CANCEL_PENDING, t.REQUEST_CANCEL): s.CANCEL_PENDING,
        # The book outranks our belief: an attempt we had given up, or were told was dead, may rest or have filled.
        (s.REJECTED, t.FILL_ALL): s.FILLED,
        (s.REJECTED, t.ACCEPT): s.ACCEPTED,
        (s.REJECTED, t.FILL_PART): s.PARTIALLY_FILLED,
        (s.CANCELED, t.FILL_ALL): s.FILLED,
        (s.EXPIRED, t.FILL_ALL): s.FILLED,
    }
    return table


#: (status, trigger) -> status. A pair that is absent is illegal: see `IllegalTransition`.
TRANSITIONS: dict[tuple[OrderStatus, OrderTrigger], OrderStatus] = _transitions()


class IllegalTransition(Exception):
    """Raised when an order is asked to do what its status forbids; always a bug or corrupt state."""

    def __init__(self, client_order_id: str, status: OrderStatus, trigger: OrderTrigger) -> None:
        super().__init__(f"order {client_order_id} is {status} and cannot {trigger}")
        self.status = status
        self.trigger = trigger


#: Real time from its grant within which an order's bytes must be written.
SEND_WITHIN = timedelta(seconds=2)
#: How long after its end was told the book and the trades of an order may still lack what it filled, or that it rests.
SHOWN_WITHIN = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Evidence:
    """One proven statement about an order at the broker, from its push, its book or its answer.

    `filled_at` is market time; `average_price` is money a unit, 0 while nothing filled.
    """

    client_order_id: str
    broker_order_id: str
    status: OrderStatus
    quantity: int
    filled_quantity: int
    average_price: Decimal
    filled_at: datetime | None = None
    reason: str = ""
    #: Its limit, money; None where it has none, or its broker does not tell.
    limit_price: Decimal | None = None
    #: Units that all the orders under its id may fill beyond what it lacks; only the whole book tells.
    beyond: int = 0


@dataclass(frozen=True, slots=True)
class Order:
    """One attempt of one leg. `quantity` in units; times real where nothing else is said."""

    client_order_id: str
    leg: Leg
    side: Side
    attempt: int
    quantity: int
    status: OrderStatus
    #: Its bytes leave by then, or never; and while in doubt, absent from the book at `settles_at` it is not there.
    send_by: datetime
    settles_at: datetime
    broker_order_id: str = ""
    filled_quantity: int = 0
    average_price: Decimal = Decimal(0)
    #: When it filled last, market time.
    filled_at: datetime | None = None
    #: Real time of the last thing we learned about it.
    updated_at: datetime | None = None
    reason: str = ""
    #: An unknown attempt another one has replaced; watched to the end of the session all the same.
    given_up: bool = False
    #: The broker's book or a push has shown it; an answer alone proves nothing.
    seen: bool = False
    #: It is proven that the broker took no such order: nothing was sent, or its login was refused.
    unsent: bool = False
    #: It ended short of its quantity, and the book and its trades were read after that.
    settled: bool = False
    #: Since when book and positions agree on what it filled while its trades cannot be read.
    agreed_since: datetime | None = None
    #: When it last was, or needed not be, priced anew, real time, and the limit it then had, money.
    repriced_at: datetime | None = None
    limit_price: Decimal | None = None
    #: The limit it has by its broker's word, None where that does not tell; and how often another one was asked for.
    limit_shown: Decimal | None = None
    reprices: int = 0
    #: The quantity it has by its broker's word: its owner may change it there. None while nothing has shown it.
    quantity_shown: int | None = None
    #: Units that the orders under its id may fill beyond what it lacks, where there is more than one.
    beyond: int = 0
    #: How often it was asked to be canceled.
    cancels: int = 0
    #: Somebody was told that nobody takes it, that there are two of it, that nobody knows what became of it, and that
    #: it was refused.
    rest_alerted: bool = False
    double_alerted: bool = False
    doubt_alerted: bool = False
    refusal_alerted: bool = False
    #: Since when the book of its end says less than is known to have filled, and whether somebody was told.
    disputed_since: datetime | None = None
    dispute_alerted: bool = False
    #: Since when a book lacks it that showed it before.
    unseen_since: datetime | None = None
    #: The end of the session it was sent in, market time; a book that lacks it after that proves it expired.
    session_ends: datetime | None = None
    #: When it was granted, market time; None where only the book tells of it.
    granted_at: datetime | None = None

    @property
    def is_live(self) -> bool:
        """Whether it may still trade and nothing has replaced it."""
        return self.status not in TERMINAL and not self.given_up

    @property
    def is_watched(self) -> bool:
        """Whether another attempt has replaced it and it may appear at the broker all the same."""
        return self.given_up and self.status not in TERMINAL

    @property
    def has_appeared(self) -> bool:
        """Whether it was given up and stands at the broker all the same: until it is taken back none may join it."""
        return self.given_up and self.is_resting and self.seen

    @property
    def is_doubtful(self) -> bool:
        """Whether nobody knows if it reached the broker, and nothing has replaced it."""
        return self.status in (OrderStatus.SENDING, OrderStatus.UNKNOWN) and not self.given_up

    @property
    def is_unconfirmed(self) -> bool:
        """Whether the broker accepted it, has shown it nowhere, and nothing has replaced it."""
        return self.is_resting and not self.seen and not self.given_up

    @property
    def is_refused_unseen(self) -> bool:
        """Whether only an answer said that it was rejected: its book may show otherwise."""
        return self.status is OrderStatus.REJECTED and not self.seen and not self.unsent

    @property
    def is_unsettled(self) -> bool:
        """Whether it ended short of its quantity, and more of it may have filled than is known."""
        most = max(self.quantity, self.quantity_shown or 0)
        ended_short = self.status in TERMINAL and self.filled_quantity < most
        is_rejected = self.status is OrderStatus.REJECTED and not self.is_refused_unseen
        return ended_short and not (self.settled or self.unsent or is_rejected)

    @property
    def has_ended(self) -> bool:
        """Whether no more of it fills, and all that did is known: not so of one that only an answer called refused."""
        return self.status in TERMINAL and not self.is_unsettled

    @property
    def is_disputed(self) -> bool:
        """Whether its book says less than is known to have filled, and nobody was told of that."""
        return self.disputed_since is not None and not self.dispute_alerted

    @property
    def was_taken_back(self) -> bool:
        """Whether it was canceled because we asked: no failure of its broker."""
        return self.status is OrderStatus.CANCELED and self.cancels > 0 and not self.given_up

    @property
    def is_resting(self) -> bool:
        """Whether it is known to stand at the broker."""
        return self.status in (OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED, OrderStatus.CANCEL_PENDING)

    @property
    def may_fill(self) -> int:
        """Units it may still fill, by the quantity its broker shows."""
        shown = self.quantity if self.quantity_shown is None else self.quantity_shown
        return max(0, shown - self.filled_quantity)

    def on(self, trigger: OrderTrigger, at: datetime, reason: str = "") -> "Order":
        """This order after `trigger` at real time `at`; raises IllegalTransition."""
        try:
            status = TRANSITIONS[self.status, trigger]
        except KeyError:
            raise IllegalTransition(self.client_order_id, self.status, trigger) from None
        return replace(self, status=status, updated_at=at, reason=reason or self.reason)


#: How far along a status is, to rank two pieces of evidence with the same filled quantity.
_PROGRESS: dict[OrderStatus, int] = {
    OrderStatus.SENDING: 0,
    OrderStatus.UNKNOWN: 0,
    OrderStatus.ACCEPTED: 1,
    OrderStatus.PARTIALLY_FILLED: 2,
    OrderStatus.CANCEL_PENDING: 3,
    OrderStatus.REJECTED: 4,
    OrderStatus.CANCELED: 4,
    OrderStatus.EXPIRED: 4,
    OrderStatus.FILLED: 5,
}

_TRIGGER_OF: dict[OrderStatus, OrderTrigger] = {
    OrderStatus.SENDING: OrderTrigger.ACCEPT,
    OrderStatus.UNKNOWN: OrderTrigger.ACCEPT,
    OrderStatus.ACCEPTED: OrderTrigger.ACCEPT,
    OrderStatus.CANCEL_PENDING: OrderTrigger.ACCEPT,
    OrderStatus.PARTIALLY_FILLED: OrderTrigger.FILL_PART,
    OrderStatus.FILLED: OrderTrigger.FILL_ALL,
    OrderStatus.REJECTED: OrderTrigger.REJECT,
    OrderStatus.CANCELED: OrderTrigger.CANCEL,
    OrderStatus.EXPIRED: OrderTrigger.EXPIRE,
}


def outranks(evidence: Evidence, order: Order) -> bool:
    """Whether `evidence` tells more than `order` already knows: filled quantity first, then status."""
    if evidence.filled_quantity != order.filled_quantity:
        return evidence.filled_quantity > order.filled_quantity
    return _PROGRESS[evidence.status] > _PROGRESS[order.status]


def followed(order: Order, evidence: Evidence, at: datetime, *, is_replaced: bool) -> Order:
    """`order` as the one under its id that may still fill by the whole book: so a cancel reaches each of them in turn.

    `is_replaced`: the next attempt was sent already, so that this one must not fill beside it.
    """
    shown = replace(order, beyond=evidence.beyond)
    if evidence.status in TERMINAL or order.broker_order_id in ("", evidence.broker_order_id):
        return shown
    return replace(
        shown,
        broker_order_id=evidence.broker_order_id,
        status=OrderStatus.PARTIALLY_FILLED if evidence.filled_quantity else OrderStatus.ACCEPTED,
        given_up=order.given_up or is_replaced,
        settled=False,
        cancels=0,
        repriced_at=None,
        limit_price=None,
        limit_shown=None,
        reprices=0,
        updated_at=at,
    )


def absorb(order: Order, evidence: Evidence, at: datetime) -> Order:
    """`order` after `evidence`, learned at real time `at`; the same order where it tells nothing new.

    A better value is never replaced by a worse one: an average price of 0 is one the broker does not know yet.
    """
    if evidence.client_order_id != order.client_order_id:
        return order
    told = _as_filled(evidence)
    shown = told.limit_price if told.limit_price is not None else order.limit_shown
    # What tells of fewer fills is older, and so is the quantity it tells.
    quantity = told.quantity if told.filled_quantity >= order.filled_quantity else order.quantity_shown
    seen = replace(order, seen=True, limit_shown=shown, quantity_shown=quantity)
    if not (order.is_refused_unseen or outranks(told, order)):
        return _better_priced(seen, told)
    trigger = _TRIGGER_OF[told.status]
    known_end = order.status in TERMINAL and (order.status, trigger) not in TRANSITIONS
    # One that trades again may fill more than was ever read of it.
    moved = seen if known_end else replace(seen.on(trigger, at, told.reason), settled=False)
    return replace(
        moved,
        broker_order_id=told.broker_order_id or order.broker_order_id,
        filled_quantity=max(told.filled_quantity, order.filled_quantity),
        average_price=told.average_price or order.average_price,
        filled_at=told.filled_at or order.filled_at,
        updated_at=at,
    )


def _as_filled(evidence: Evidence) -> Evidence:
    """`evidence` with no more than its fills prove: an order called filled whose fills come later still trades."""
    if not is_behind(evidence):
        return evidence
    status = OrderStatus.PARTIALLY_FILLED if evidence.filled_quantity else OrderStatus.ACCEPTED
    return replace(evidence, status=status)


def is_behind(evidence: Evidence) -> bool:
    """Whether the broker calls the order filled and does not tell of all its fills yet."""
    return evidence.status is OrderStatus.FILLED and evidence.filled_quantity < evidence.quantity


def _better_priced(order: Order, evidence: Evidence) -> Order:
    same = evidence.filled_quantity == order.filled_quantity
    if order.average_price or not evidence.average_price or not same:
        return order
    return replace(order, average_price=evidence.average_price)
