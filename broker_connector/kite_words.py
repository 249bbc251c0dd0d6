"""Kite Connect v3's words as tables, and its orders and positions as the engine's values. Pure.

Source: kite.trade/docs/connect/v3. Nothing outside the connector sees a word of it.
"""

import csv
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

from broker_connector.ticker import scale_of
from engine.domain.broker import (
    BookEntry,
    Instrument,
    NetPosition,
    OrderChange,
    OrderRequest,
    Quote,
)
from engine.domain.orders import Evidence, OrderStatus, OrderType, Product, Side

#: The broker writes naive times of this zone, which has no summer time.
IST = timezone(timedelta(hours=5, minutes=30))

SIDES: dict[Side, str] = {Side.BUY: "BUY", Side.SELL: "SELL"}
ORDER_TYPES: dict[OrderType, str] = {OrderType.MARKET: "MARKET", OrderType.LIMIT: "LIMIT"}
PRODUCTS: dict[Product, str] = {Product.INTRADAY: "MIS", Product.DELIVERY: "CNC", Product.MARGIN: "NRML"}
SIDE_OF = {told: side for side, told in SIDES.items()}
PRODUCT_OF = {told: product for product, told in PRODUCTS.items()}

#: Percent a market order may move the price; -1 lets the broker choose, 0 is refused since 2026-04-01.
MARKET_PROTECTION = "-1"

#: Status strings; one that is not here is no proof of an end, see `order_status`.
STATUSES: dict[str, OrderStatus] = {
    "OPEN": OrderStatus.ACCEPTED,
    "COMPLETE": OrderStatus.FILLED,
    "CANCELLED": OrderStatus.CANCELED,
    "REJECTED": OrderStatus.REJECTED,
    "PUT ORDER REQ RECEIVED": OrderStatus.ACCEPTED,
    "VALIDATION PENDING": OrderStatus.ACCEPTED,
    "OPEN PENDING": OrderStatus.ACCEPTED,
    "TRIGGER PENDING": OrderStatus.ACCEPTED,
    "MODIFY VALIDATION PENDING": OrderStatus.ACCEPTED,
    "MODIFY PENDING": OrderStatus.ACCEPTED,
    "MODIFIED": OrderStatus.ACCEPTED,
    "AMO REQ RECEIVED": OrderStatus.ACCEPTED,
    "CANCEL PENDING": OrderStatus.CANCEL_PENDING,
}


#: The most units an order or a position has, the most a price is, and the longest id, symbol or tag, characters.
MOST_UNITS, HIGHEST_PRICE, LONGEST_WORD = 2**31 - 1, Decimal(10) ** 12, 100
#: Characters of the broker's own explanation that are kept.
LONGEST_REASON = 500


class Unreadable(ValueError):
    """Raised when the broker's data lacks what a value of ours needs."""


#: What reading a foreign value raises. An endless number or a date before the first is an OverflowError.
UNREADABLE = (KeyError, TypeError, ValueError, AttributeError, ArithmeticError)


def order_form(request: OrderRequest) -> dict[str, str]:
    """The form that places `request`."""
    exchange, _, tradingsymbol = request.symbol.partition(":")
    form = {
        "exchange": exchange,
        "tradingsymbol": tradingsymbol,
        "transaction_type": SIDES[request.side],
        "quantity": str(request.quantity),
        "product": PRODUCTS[request.product],
        "order_type": ORDER_TYPES[request.order_type],
        "validity": "DAY",
        "tag": request.client_order_id,
    }
    if request.order_type is OrderType.MARKET:
        return form | {"market_protection": MARKET_PROTECTION}
    return form | {"price": str(request.limit_price)}


def change_form(change: OrderChange) -> dict[str, str]:
    """The form that changes a resting order; a protected market order that rests becomes a limit order by it."""
    form = {"order_type": ORDER_TYPES[OrderType.LIMIT], "price": str(change.limit_price), "validity": "DAY"}
    return form if change.quantity is None else form | {"quantity": str(change.quantity)}


def order_status(told: str, quantity: int, filled: int) -> OrderStatus:
    """The status `told` proves. What is unknown, or COMPLETE without its whole quantity, or of nothing, is no end."""
    status = STATUSES.get(told, OrderStatus.ACCEPTED)
    if status is OrderStatus.FILLED and filled < max(quantity, 1):
        status = OrderStatus.ACCEPTED
    if status is OrderStatus.ACCEPTED and filled > 0:
        return OrderStatus.PARTIALLY_FILLED
    return status


def book_entry(order: Mapping[str, Any]) -> BookEntry:
    """One order of the book or of a push; raises Unreadable."""
    try:
        quantity, filled = units(order["quantity"]), units(order["filled_quantity"])
        tag = str(order.get("tag") or "")[: LONGEST_WORD + 1]
        updated = order.get("exchange_update_timestamp") or order.get("exchange_timestamp")
        evidence = Evidence(
            client_order_id=tag,
            broker_order_id=word(order["order_id"]),
            status=order_status(word(order["status"]), quantity, filled),
            quantity=quantity,
            filled_quantity=filled,
            average_price=price(order["average_price"]),
            filled_at=instant(updated or order.get("order_timestamp")) if filled else None,
            reason=legible(str(order.get("status_message") or ""))[:LONGEST_REASON],
        )
        return BookEntry(
            evidence=evidence,
            symbol=f"{word(order['exchange'])}:{word(order['tradingsymbol'])}",
            side=SIDE_OF[order["transaction_type"]],
            tag=tag,
            received_at=instant(order.get("order_timestamp")),
        )
    except UNREADABLE as error:
        raise Unreadable(f"order: {type(error).__name__}: {error}") from error


def net_positions(data: Mapping[str, Any]) -> list[NetPosition]:
    """The net positions in products the engine trades; the others can cover no order of ours."""
    try:
        return [
            NetPosition(f"{row['exchange']}:{row['tradingsymbol']}", product, units(row["quantity"], -MOST_UNITS))
            for row in data["net"]
            if (product := PRODUCT_OF.get(row["product"])) is not None
        ]
    except UNREADABLE as error:
        raise Unreadable(f"positions: {type(error).__name__}: {error}") from error


#: Columns an instrument dump must have.
_DUMP_COLUMNS = frozenset({"instrument_token", "exchange", "tradingsymbol", "tick_size", "lot_size"})


def is_dump(lines: list[str]) -> bool:
    """Whether `lines` begin as a dump of instruments does, and not as a page in its place."""
    return bool(lines) and set(lines[0].split(",")) >= _DUMP_COLUMNS


def instruments_of(lines: Iterable[str]) -> Iterator[Instrument]:
    """The instruments of a CSV dump; raises Unreadable at a row it cannot read."""
    try:
        for row in csv.DictReader(lines):
            token = int(row["instrument_token"])
            yield Instrument(
                symbol=f"{row['exchange']}:{row['tradingsymbol']}",
                token=token,
                tick_size=amount(row["tick_size"]),
                lot_size=int(row["lot_size"]),
                scale=scale_of(token),
                # Not in the broker's own dump today; taken from one that has it.
                freeze_quantity=units(row["freeze_quantity"], 1) if row.get("freeze_quantity") else None,
            )
    except (*UNREADABLE, csv.Error) as error:
        raise Unreadable(f"instruments: {type(error).__name__}: {error}") from error


def quotes_of(rows: Mapping[str, Mapping[str, Any]]) -> list[Quote]:
    """The quotes of an answer by symbol; raises Unreadable."""
    return [quote_of(symbol, row) for symbol, row in rows.items()]


def quote_of(symbol: str, row: Mapping[str, Any]) -> Quote:
    """One symbol's quote; raises Unreadable."""
    try:
        # Its own time is that of the asking.
        at = instant(row.get("last_trade_time") or row.get("timestamp"))
        if at is None:
            raise ValueError("no last_trade_time")
        return Quote(
            symbol=symbol,
            last_price=amount(row["last_price"]),
            lower_band=amount(row["lower_circuit_limit"]),
            upper_band=amount(row["upper_circuit_limit"]),
            at=at,
        )
    except UNREADABLE as error:
        raise Unreadable(f"quote: {type(error).__name__}: {error}") from error


def instant(naive: Any) -> datetime | None:
    """Aware UTC for the broker's naive time; None where it tells none. Raises ValueError or TypeError."""
    if not naive:
        return None
    return datetime.fromisoformat(naive).replace(tzinfo=IST).astimezone(UTC)


def is_word(value: Any) -> bool:
    """Whether `value` may be an id or a symbol: it becomes part of keys, records and log lines."""
    return isinstance(value, str) and 0 < len(value) <= LONGEST_WORD and value.isprintable()


def word(value: Any) -> str:
    """`value` where it is a word; raises ValueError."""
    if not is_word(value):
        raise ValueError(f"expected a word, got {str(value)[:LONGEST_WORD]!r}")
    return str(value)


def legible(text: str) -> str:
    """`text` with half a surrogate pair, which no store holds, replaced."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def units(value: Any, least: int = 0) -> int:
    """`value` as a quantity of at least `least` units; raises ValueError or ArithmeticError."""
    number = amount(value)
    # Compared before it is converted: a number of three characters can have a billion digits.
    if not least <= number <= MOST_UNITS or number != number.to_integral_value():
        raise ValueError(f"not a quantity: {str(value)[:LONGEST_WORD]}")
    return int(number)


def price(value: Any) -> Decimal:
    """`value` as a price, money; raises ValueError or ArithmeticError."""
    number = amount(value)
    if not 0 <= number <= HIGHEST_PRICE:
        raise ValueError(f"not a price: {str(value)[:LONGEST_WORD]}")
    return number


def amount(value: Any) -> Decimal:
    """`value` as a finite number, money; raises ValueError or ArithmeticError."""
    number = Decimal(str(value))
    if not number.is_finite():
        raise ValueError(f"not a finite number: {value!r}")
    return number
