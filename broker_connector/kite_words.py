"""Kite Connect v3's words as tables, its fields as values, its instruments and quotes as the engine's. Pure.

Source: kite.trade/docs/connect/v3. Nothing outside the connector sees a word of it.
"""

import csv
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, TypeVar

from broker_connector.skipped import Skipped
from broker_connector.ticker import scale_of
from engine.domain.broker import Instrument, OrderChange, OrderRequest, Quote
from engine.domain.orders import OrderStatus, OrderType, Product, Side

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
    """Raised when the broker's data lacks what a value of ours needs; `field`: where it does."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


#: What reading a foreign value raises. An endless number or a date before the first is an OverflowError.
UNREADABLE = (KeyError, TypeError, ValueError, AttributeError, ArithmeticError)


class _Required:
    """The default of a field that must be there."""


_REQUIRED = _Required()
T = TypeVar("T")


def read_field(row: Any, name: str, read: Callable[[Any], T], of: str, *, default: T | _Required = _REQUIRED) -> T:
    """Field `name` of a row of `of`, as `read` makes it; the default where it is absent. Raises Unreadable."""
    if not isinstance(default, _Required) and isinstance(row, Mapping) and name not in row:
        return default
    try:
        return read(row[name])
    except UNREADABLE as error:
        why = "missing" if isinstance(error, KeyError) and name not in row else str(error)
        raise Unreadable(f"{of}: {name}: {why}"[:LONGEST_REASON], name) from error


def rows_of(told: Any, of: str) -> list[Any]:
    """`told` where it is a list; raises Unreadable: an empty object is not an empty list."""
    if not isinstance(told, list):
        raise Unreadable(f"{of}: not a list", of)
    return told


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


#: Columns an instrument dump must have.
_DUMP_COLUMNS = frozenset({"instrument_token", "exchange", "tradingsymbol", "tick_size", "lot_size"})


def is_dump(lines: list[str]) -> bool:
    """Whether `lines` begin as a dump of instruments does, and not as a page in its place."""
    return bool(lines) and set(lines[0].split(",")) >= _DUMP_COLUMNS


def instruments_of(lines: Iterable[str], skipped: Skipped) -> list[Instrument]:
    """The instruments of a CSV dump, but for rows it cannot read; raises Unreadable where it can read none."""
    listed, wrong = [], None
    try:
        for row in csv.DictReader(lines):
            try:
                listed.append(_instrument(row))
            except UNREADABLE as error:
                wrong = error
                skipped.count("instrument")
    except csv.Error as error:
        raise Unreadable(f"instruments: {error}") from error
    if wrong is not None and not listed:
        raise Unreadable(f"instruments: {type(wrong).__name__}: {wrong}") from wrong
    return listed


def _instrument(row: Mapping[str, str]) -> Instrument:
    token = int(row["instrument_token"])
    return Instrument(
        symbol=f"{word(row['exchange'])}:{word(row['tradingsymbol'])}",
        token=token,
        tick_size=amount(row["tick_size"]),
        lot_size=int(row["lot_size"]),
        scale=scale_of(token),
        # Not in the broker's own dump today; taken from one that has it.
        freeze_quantity=units(row["freeze_quantity"], 1) if row.get("freeze_quantity") else None,
    )


def quotes_of(rows: Mapping[str, Mapping[str, Any]], skipped: Skipped) -> list[Quote]:
    """The quotes of an answer by symbol, but for those it cannot read."""
    quotes = []
    for symbol, row in rows.items():
        try:
            quotes.append(quote_of(symbol, row))
        except Unreadable:
            skipped.count("quote")
    return quotes


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
            low=amount((row.get("ohlc") or {}).get("low") or 0),
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
