"""One account's order book at the paper broker: orders in, fills out, by the last price. Pure; `now` is market time.

Speaks the broker's own words. Knows no HTTP, no other account and no ticks but the prices it is told.
"""

import random
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

from broker_connector.paper.orders import (
    AFTER_MARKET,
    INTERIM,
    MODIFYING,
    STOPS,
    BookOrder,
    BookSettings,
    Change,
    Fill,
    Ticket,
)
from broker_connector.paper.symbols import Listing

#: Ticks between the last price and the limit a resting protected market order is left at.
REST_TICKS = 20
#: The varieties with rules of their own.
COVER, AFTER_HOURS = "co", "amo"


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
        #: Today's, by id; and those of days before, which the broker shows no more.
        self.orders: dict[str, BookOrder] = {}
        self.past: list[BookOrder] = []
        self._next_id, self._last_price, self._changed = next_id, last_price, changed
        self._random = random.Random(settings.seed)
        self._working: dict[int, list[BookOrder]] = {}

    def place(self, ticket: Ticket, now: datetime) -> BookOrder:
        """Take an order in; it may have traded when this returns."""
        order = self._receive(ticket, now, self._chunks(ticket))
        self._working.setdefault(ticket.token, []).append(order)
        if ticket.variety == AFTER_HOURS:
            order.due = self.settings.next_opening(now)
            self._announce(order, AFTER_MARKET, now)
            return order
        self._enter(order, now)
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
        order = self._receive(ticket, now, deque([ticket.quantity]))
        for status in INTERIM[:2]:
            order.move(status, now)
        self._end(order, "REJECTED", now, message)
        return order

    def cancel(self, order_id: str, now: datetime) -> BookOrder | None:
        """Cancel what is left of a live order, or exit at market where it covers another; None where it is not live."""
        order = self._live_order(order_id)
        if order is None:
            return None
        if order.ticket.parent_order_id is not None:
            return self.modify(order_id, Change(order_type="MARKET"), now)
        order.move("CANCEL PENDING", now)
        self._end(order, "CANCELLED", now)
        return order

    def modify(self, order_id: str, change: Change, now: datetime) -> BookOrder | None:
        """Change a live order, which may trade at once; None where it is not live or traded more than is asked."""
        order = self._live_order(order_id)
        if order is None or (change.quantity is not None and change.quantity <= order.filled_quantity):
            return None
        before = order.status
        for status in MODIFYING[:2]:
            order.move(status, now)
        _apply(change, order)
        order.expires = _expiry(order.ticket, now)
        order.move(MODIFYING[2], now)
        if before == AFTER_MARKET:
            self._announce(order, before, now)
            return order
        self._rest(order, now)
        self._work(order, now)
        return order

    def on_price(self, token: int, now: datetime) -> None:
        """Look at the orders of a symbol whose last price changed."""
        for order in list(self._working.get(token, ())):
            self._work(order, now)

    def advance(self, now: datetime) -> None:
        """Trade what was waiting for its moment, and cancel what has lived its time."""
        for order in list(self._live()):
            if order.expires is not None and order.expires <= now:
                self._end(order, "CANCELLED", now)
            elif order.due is not None and order.due <= now:
                self._work(order, now)

    def every(self) -> Iterator[BookOrder]:
        """Every order there ever was."""
        yield from self.past
        yield from self.orders.values()

    def close_day(self, now: datetime) -> None:
        """Cancel what still rests, but what waits for the next session."""
        while resting := [order for order in self._live() if order.status != AFTER_MARKET]:
            for order in resting:
                self._end(order, "CANCELLED", now)

    def forget_day(self) -> None:
        """Start a new day with what waits for it."""
        self.past += [order for order in self.orders.values() if not order.is_live]
        self.orders = {order.order_id: order for order in self.orders.values() if order.is_live}

    def restore(self, order: BookOrder, *, is_past: bool) -> None:
        """Take in an order as it was kept."""
        if is_past:
            self.past.append(order)
            return
        self.orders[order.order_id] = order
        if order.is_live:
            self._working.setdefault(order.ticket.token, []).append(order)

    def relist(self, token: int, listing: Listing) -> None:
        """Know orders of `token` as those of `listing` from now on."""
        for order in self.orders.values():
            if order.ticket.token == token:
                order.ticket = replace(order.ticket, token=listing.token, tradingsymbol=listing.name)
                self._changed(order)
        self._working[listing.token] = self._working.pop(token, [])

    def next_due(self, now: datetime) -> datetime | None:
        """The next moment at which an order may change without a new price."""
        moments = (moment for order in self._live() for moment in (order.due, order.expires))
        return min((moment for moment in moments if moment and moment > now), default=None)

    def _live(self) -> Iterator[BookOrder]:
        return (order for working in self._working.values() for order in working)

    def _live_order(self, order_id: str) -> BookOrder | None:
        order = self.orders.get(order_id)
        return order if order is not None and order.is_live else None

    def _receive(self, ticket: Ticket, now: datetime, chunks: deque[int]) -> BookOrder:
        order = BookOrder(self._next_id(), ticket, now, chunks, order_type=ticket.order_type, price=ticket.price)
        self.orders[order.order_id] = order
        return order

    def _enter(self, order: BookOrder, now: datetime) -> None:
        """Pass an order on to the exchange."""
        for status in INTERIM:
            order.move(status, now)
        self._maybe_rest(order)
        order.due = now + timedelta(seconds=self.settings.fill_delay)
        order.expires = _expiry(order.ticket, now)
        self._rest(order, now)
        self._work(order, now)
        if order.ticket.validity == "IOC" and order.is_live:
            self._end(order, "CANCELLED", now)

    def _rest(self, order: BookOrder, now: datetime) -> None:
        waits = order.order_type in STOPS and not order.is_triggered
        self._announce(order, "TRIGGER PENDING" if waits else "OPEN", now)

    def _chunks(self, ticket: Ticket) -> deque[int]:
        settings, quantity = self.settings, ticket.quantity
        if ticket.iceberg_legs > 1:
            whole, rest = divmod(quantity, ticket.iceberg_legs)
            return deque([whole + (leg < rest) for leg in range(ticket.iceberg_legs)])
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
        if order.status == AFTER_MARKET and order.due is not None and order.due <= now:
            self._enter(order, now)
            return
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
        order.is_triggered = True
        self._announce(order, "OPEN", now)
        return True

    def _trade_price(self, order: BookOrder, last: Decimal) -> Decimal | None:
        """What it would trade at now; None where its limit forbids it."""
        spread = order.ticket.tick_size * self.settings.spread_ticks
        market = last + spread if order.is_buy else last - spread
        if order.order_type in {"MARKET", "SL-M"}:
            return market
        allowed = market <= order.price if order.is_buy else market >= order.price
        return market if allowed else None

    def _end(self, order: BookOrder, status: str, now: datetime, message: str = "") -> None:
        working = self._working.get(order.ticket.token, [])
        if order in working:
            working.remove(order)
        order.due = order.expires = None
        self._announce(order, status, now, message)
        if order.ticket.variety == COVER and order.ticket.parent_order_id is None and order.fills:
            self.place(_stop_of(order), now)

    def _announce(self, order: BookOrder, status: str, now: datetime, message: str = "") -> None:
        order.move(status, now, message)
        self._changed(order)


def _apply(change: Change, order: BookOrder) -> None:
    ticket = order.ticket
    words = {
        name: value
        for name in ("quantity", "trigger_price", "validity", "validity_ttl", "disclosed_quantity")
        if (value := getattr(change, name)) is not None
    }
    order.ticket = replace(ticket, **words)
    if change.quantity is not None:
        order.chunks = deque([change.quantity - order.filled_quantity])
    if change.order_type is not None:
        order.order_type = change.order_type
    elif change.price is not None and order.order_type == "MARKET":
        order.order_type = "LIMIT"
    if change.price is not None:
        order.price = change.price
    order.modified = True


def _expiry(ticket: Ticket, now: datetime) -> datetime | None:
    return now + timedelta(minutes=ticket.validity_ttl) if ticket.validity == "TTL" else None


def _stop_of(order: BookOrder) -> Ticket:
    """The stop that covers what a cover order's entry traded."""
    return replace(
        order.ticket,
        transaction_type="SELL" if order.is_buy else "BUY",
        quantity=order.filled_quantity,
        order_type="SL-M",
        price=Decimal(0),
        validity="DAY",
        parent_order_id=order.order_id,
    )
