"""What an account has of one symbol and product: a pool that every run of the account sells from.

Pure. `lua/_prelude.lua` keeps the pool; this module says what a run adds to it and what a reading of the broker says.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from engine.domain.broker import ANY_SYMBOL, BookEntry, NetPosition
from engine.domain.orders import TERMINAL, Leg, Order, OrderStatus, Product
from engine.domain.run import Run

#: How long after a session its broker may still tell that day's orders and positions.
SETTLES_WITHIN = timedelta(hours=6)
#: For how long all readings must lack an intraday position of an earlier session before its run ends.
SQUARED_OFF_AFTER = timedelta(minutes=1)


def pool_key(symbol: str, product: Product) -> str:
    """The pool's name within its account."""
    return f"{symbol} {product}"


@dataclass(frozen=True, slots=True)
class Share:
    """What one run adds to its pool, in units."""

    #: Bought less sold, by fills the run has learned of.
    net: int = 0
    #: The same while the run lives.
    held: int = 0
    #: What its exits may still fill.
    out: int = 0


@dataclass(frozen=True, slots=True)
class PoolChange:
    """How a transition of one run changes its pool; `fills` are the orders whose fills or end it learned of."""

    key: str
    net: int
    held: int
    out: int
    fills: tuple[Order, ...] = ()
    #: Of `net`, what filled in an earlier session and is learned of only now: any reading of today contains it.
    past: int = 0
    #: What entries filled, and when the last of them was learned of, real time: positions may lag behind it.
    bought: int = 0
    bought_at: datetime | None = None

    @property
    def is_nothing(self) -> bool:
        """Whether the pool stays as it is."""
        return not (self.net or self.held or self.out or self.fills)


def share_of(run: Run, *, finished: bool = False) -> Share:
    """What `run` adds to its pool. A run that has finished sells no more, whatever it still holds."""
    if finished:
        return Share(net=run.proven)
    # One that was called refused or canceled keeps its share until the book has said so: it may rest, or have filled.
    open_exits = [
        order.may_fill
        for order in run.orders
        if order.leg is Leg.EXIT and (order.is_live or order.is_unsettled or order.has_appeared)
    ]
    # What a human stated to be closed still counts: its sale is in the positions, not in our orders. What one run sold
    # too much hides nothing of what the others hold.
    return Share(run.proven, max(0, run.proven), sum(open_exits))


def pool_change(
    before: Run | None, after: Run, *, finished: bool = False, market_time: datetime | None = None
) -> PoolChange:
    """What changes in the pool as `before` becomes `after`; `before` is None for a run that is new to it.

    `market_time`: when, where that is known.
    """
    old = share_of(before) if before else Share()
    new = share_of(after, finished=finished)
    known = {order.client_order_id: _told_of(order) for order in before.orders} if before else {}
    changed = tuple(order for order in after.orders if known.get(order.client_order_id) != _told_of(order))
    past = sum(
        (1 if order.leg is Leg.ENTRY else -1) * (order.filled_quantity - known.get(order.client_order_id, (0,))[0])
        for order in changed
        if order.session_ends and market_time and market_time > order.session_ends + SETTLES_WITHIN
    )
    entries = [order for order in changed if order.leg is Leg.ENTRY and order.filled_quantity]
    return PoolChange(
        key=pool_key(after.strategy.symbol, after.strategy.product),
        net=new.net - old.net,
        held=new.held - old.held,
        out=new.out - old.out,
        fills=changed,
        past=past,
        bought=sum(order.filled_quantity - known.get(order.client_order_id, (0,))[0] for order in entries),
        bought_at=max((order.updated_at for order in entries if order.updated_at), default=None),
    )


def _told_of(order: Order) -> tuple[int, bool]:
    """What the pool is told of an order."""
    return order.filled_quantity, order.has_ended


def with_own_fills(before: Run, after: Run, market_time: datetime) -> Run:
    """`after`, whose view of the pool is as `before` was read, with what it learned of its own orders since."""
    if after.net is None:
        return after
    change = pool_change(before, after, market_time=market_time)
    return replace(after, net=replace(after.net, quantity=after.net.quantity + change.net - change.past - change.out))


def is_squared_off(run: Run) -> bool:
    """Whether a run is left with an intraday position of an earlier session, of which its account has nothing.

    No such position outlives its day: its broker has closed it, or made it delivery.
    """
    if run.net is None or run.uncovered_since is None or run.strategy.product is not Product.INTRADAY:
        return False
    ends = [order.session_ends for order in run.orders if order.leg is Leg.ENTRY and order.filled_quantity]
    is_of_before = all(end is not None and end.date() < run.closes_at.date() for end in ends)
    has_nothing = run.net.missing >= run.held and run.net.quantity <= 0 and run.live(Leg.EXIT) is None
    return is_of_before and has_nothing and run.net.at - run.uncovered_since >= SQUARED_OFF_AFTER


@dataclass(frozen=True, slots=True)
class SeenOrder:
    """What the account's book said of one order of ours, read before its positions and after them."""

    client_order_id: str
    #: Units filled by then.
    before: int
    after: int
    is_over: bool
    #: Units it may have filled where it is called over and its fills may be told later; None: no more than `after`.
    at_most: int | None = None


@dataclass(frozen=True, slots=True)
class AccountReading:
    """What a broker said of one account, asked at real time `at`.

    `orders` is None where the book was not read. `positions` may name a symbol twice; those `unread` keep their older
    reading. `begun`: the account's pool as it was before it was asked (`Store.pool_mark`), None where that is so still.
    """

    at: datetime
    positions: Sequence[NetPosition]
    orders: Sequence[SeenOrder] | None = None
    begun: str | None = None

    def unread(self, symbol: str, product: Product) -> str:
        """Why it does not say what the account has of `symbol`, "" where it does."""
        rows = (row for row in self.positions if row.product is product and row.symbol in (symbol, ANY_SYMBOL))
        field = next((each.unread for each in rows if each.unread), "")
        return f"the position of {symbol} has no readable {field}" if field else ""


def seen_orders(before: Iterable[BookEntry], after: Iterable[BookEntry]) -> list[SeenOrder]:
    """What two readings of the book, one on each side of the positions, say of each order: what these may contain.

    One that the earlier book lacks was placed since, and had filled nothing by then.
    """
    first, last = _by_tag(before), _by_tag(after)
    return [
        SeenOrder(tag, first[tag].filled if tag in first else 0, seen.filled, seen.is_over, seen.at_most)
        for tag, seen in last.items()
        if tag
    ]


@dataclass(frozen=True, slots=True)
class _Seen:
    """All orders of a book under one tag."""

    filled: int
    is_over: bool
    at_most: int


def _by_tag(book: Iterable[BookEntry]) -> Mapping[str, _Seen]:
    found: dict[str, _Seen] = {}
    for entry in book:
        told, known = entry.evidence, found.get(entry.tag, _Seen(0, True, 0))
        is_over = told.status in TERMINAL
        is_refused = told.status is OrderStatus.REJECTED
        at_most = told.quantity if is_over and not is_refused else told.filled_quantity
        found[entry.tag] = _Seen(
            known.filled + told.filled_quantity, known.is_over and is_over, known.at_most + at_most
        )
    return found
