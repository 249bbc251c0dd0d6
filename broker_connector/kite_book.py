"""Kite Connect v3's orders as the engine's values: the book, a push, a postback. Pure.

A row that cannot be read and could be ours fails the whole book: an order left out would look absent and be sent
again. One that provably is somebody else's is left out and counted.
"""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from broker_connector.kite_words import (
    LONGEST_REASON,
    LONGEST_WORD,
    SIDE_OF,
    UNREADABLE,
    Unreadable,
    instant,
    legible,
    order_status,
    price,
    read_field,
    rows_of,
    units,
    word,
)
from broker_connector.skipped import Skipped
from engine.domain.broker import BookEntry
from engine.domain.orders import Evidence

#: Whether a tag could be one of our client order ids.
Ours = Callable[[str], bool]


def any_tag(_tag: str) -> bool:
    """Whoever does not know which tags are ours must take every tag for one."""
    return True


def book_of(rows: Any, ours: Ours, skipped: Skipped) -> list[BookEntry]:
    """The account's order book; raises Unreadable, naming the field, at a row that could be ours."""
    book = []
    for row in rows_of(rows, "orders"):
        try:
            book.append(book_entry(row, ours))
        except Unreadable as error:
            if _could_be_ours(row, ours):
                raise
            skipped.count(f"order: {error.field}")
    return book


def book_entry(order: Mapping[str, Any], ours: Ours | None = None) -> BookEntry:
    """One order of the book or of a push; raises Unreadable."""
    of = f"order {_name_of(order)}"
    main, *others = tags_of(order, of)
    # A broker that keeps several tags of one order may tell ours behind another.
    tag = main if ours is None or ours(main) else next(filter(ours, others), main)
    quantity = read_field(order, "quantity", units, of)
    filled = read_field(order, "filled_quantity", units, of)
    received_at = read_field(order, "order_timestamp", instant, of, default=None)
    updates = [
        read_field(order, name, instant, of, default=None)
        for name in ("exchange_update_timestamp", "exchange_timestamp")
    ]
    evidence = Evidence(
        client_order_id=tag,
        broker_order_id=read_field(order, "order_id", word, of),
        status=order_status(read_field(order, "status", word, of), quantity, filled),
        quantity=quantity,
        filled_quantity=filled,
        # For a moment it may be 0 at a filled order: not known yet.
        average_price=read_field(order, "average_price", price, of),
        filled_at=next(filter(None, [*updates, received_at]), None) if filled else None,
        reason=legible(str(order.get("status_message") or ""))[:LONGEST_REASON],
        limit_price=_limit_of(order),
    )
    exchange, name = (read_field(order, field, word, of) for field in ("exchange", "tradingsymbol"))
    side = read_field(order, "transaction_type", SIDE_OF.__getitem__, of)
    return BookEntry(evidence, f"{exchange}:{name}", side, tag, received_at)


def _limit_of(order: Mapping[str, Any]) -> Decimal | None:
    """An order's limit; None where it has none, or tells none that can be read: no fill is disbelieved for that."""
    try:
        return price(order["price"]) or None
    except UNREADABLE:
        return None


def tags_of(order: Mapping[str, Any], of: str) -> list[str]:
    """An order's tag, "" where it has none, and its further ones; raises Unreadable where that is not told."""
    further = read_field(order, "tags", _tags, of, default=list[str]())
    return [read_field(order, "tag", _tag, of), *further]


def _could_be_ours(order: Any, ours: Ours) -> bool:
    try:
        return any(tag and ours(tag) for tag in tags_of(order, "order"))
    except Unreadable:
        return True


def _tag(told: Any) -> str:
    """A tag, cut where it is longer than any of ours; "" where there is none."""
    if told is None:
        return ""
    # Text that looks like a number comes as one.
    if isinstance(told, bool) or not isinstance(told, str | int):
        raise TypeError("not a text")
    # No tag of ours is that long, nor a number.
    return told[: LONGEST_WORD + 1] if isinstance(told, str) else str(told % 10**LONGEST_WORD)


def _tags(told: Any) -> list[str]:
    if told is None:
        return []
    if not isinstance(told, list):
        raise TypeError("not a list")
    return [_tag(each) for each in told]


def _name_of(order: Any) -> str:
    """What to call an order in an error."""
    told = order.get("order_id") if isinstance(order, Mapping) else None
    return str(told)[:LONGEST_WORD] if isinstance(told, str) and told.isprintable() else "without an id"
