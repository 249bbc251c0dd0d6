"""Kite Connect v3's words as tables, and its orders, positions and errors as the engine's values. Pure.

Source: kite.trade/docs/connect/v3. Nothing outside the connector sees a word of it.
"""

import csv
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from http import HTTPStatus
from typing import Any

from broker_connector.ticker import scale_of
from engine.domain.broker import (
    BookEntry,
    Instrument,
    NetPosition,
    OrderRequest,
    Outcome,
    Quote,
    RejectCause,
    Reply,
)
from engine.domain.orders import Evidence, OrderStatus, OrderType, Product, Side

#: The broker writes naive times of this zone, which has no summer time.
IST = timezone(timedelta(hours=5, minutes=30))

SIDES: dict[Side, str] = {Side.BUY: "BUY", Side.SELL: "SELL"}
ORDER_TYPES: dict[OrderType, str] = {OrderType.MARKET: "MARKET", OrderType.LIMIT: "LIMIT"}
PRODUCTS: dict[Product, str] = {Product.INTRADAY: "MIS", Product.DELIVERY: "CNC", Product.MARGIN: "NRML"}
_SIDE_OF = {word: side for side, word in SIDES.items()}
_PRODUCT_OF = {word: product for product, word in PRODUCTS.items()}

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


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an error of the broker proves about the request it answers."""

    outcome: Outcome
    cause: RejectCause | None = None


_DOUBT = Verdict(Outcome.TIMEOUT)

#: By the raw `error_type`; one that is not here proves nothing.
ERROR_TYPES: dict[str, Verdict] = {
    "TokenException": Verdict(Outcome.TOKEN_INVALID),
    "MarginException": Verdict(Outcome.REJECTED, RejectCause.MARGIN),
    "InputException": Verdict(Outcome.REJECTED, RejectCause.INPUT),
    "OrderException": Verdict(Outcome.REJECTED, RejectCause.OTHER),
    "UserException": Verdict(Outcome.REJECTED, RejectCause.OTHER),
    "HoldingException": Verdict(Outcome.REJECTED, RejectCause.OTHER),
    "NetworkException": _DOUBT,
    "DataException": _DOUBT,
    "GeneralException": _DOUBT,
}

#: HTTP statuses that decide whatever the body says; so does every 5xx, as doubt.
HTTP_STATUSES: dict[int, Verdict] = {
    HTTPStatus.FORBIDDEN: Verdict(Outcome.TOKEN_INVALID),
    HTTPStatus.TOO_MANY_REQUESTS: Verdict(Outcome.REJECTED, RejectCause.RATE_LIMITED),
}

#: The most units an order or a position has, the most a price is, and the longest id, symbol or tag, characters.
MOST_UNITS, HIGHEST_PRICE, LONGEST_WORD = 2**31 - 1, Decimal(10) ** 12, 100
#: The longest pause a broker's answer may ask for, seconds: an exit waits for it.
LONGEST_PAUSE = 30.0
#: Characters of the broker's own explanation that are kept.
LONGEST_REASON = 500

# Such a 400 was answered while the order went through seconds later.
_PERHAPS_PLACED = re.compile(r"tim(ed?|ing)[\s-]*out|check\s+the\s+order\s*book", re.IGNORECASE)


class Unreadable(ValueError):
    """Raised when the broker's data lacks what a value of ours needs."""


# What reading a foreign value raises. An endless number or a date before the first is an OverflowError.
_UNREADABLE = (KeyError, TypeError, ValueError, AttributeError, ArithmeticError)


def verdict_of(status: int, error_type: str, message: str) -> Verdict:
    """What an HTTP error answer proves; doubt wherever it does not clearly say no."""
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _DOUBT
    verdict = HTTP_STATUSES.get(status) or ERROR_TYPES.get(error_type, _DOUBT)
    if verdict.outcome is Outcome.REJECTED and _PERHAPS_PLACED.search(message):
        return _DOUBT
    return verdict


def error_reply(status: int, body: Mapping[str, Any] | None, retry_after: str | None) -> Reply:
    """The reply for an HTTP error; `body` is None where it could not be parsed."""
    fields = body or {}
    message = _legible(str(fields.get("message") or ""))[:LONGEST_REASON]
    verdict = verdict_of(status, str(fields.get("error_type") or ""), message)
    return Reply(
        verdict.outcome,
        cause=verdict.cause,
        message=f"HTTP {status}: {message}".rstrip(": "),
        retry_after=_seconds(retry_after),
    )


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


def order_status(word: str, quantity: int, filled: int) -> OrderStatus:
    """The status `word` proves. What is unknown, or COMPLETE without its whole quantity, or of nothing, is no end."""
    status = STATUSES.get(word, OrderStatus.ACCEPTED)
    if status is OrderStatus.FILLED and filled < max(quantity, 1):
        status = OrderStatus.ACCEPTED
    if status is OrderStatus.ACCEPTED and filled > 0:
        return OrderStatus.PARTIALLY_FILLED
    return status


def book_entry(order: Mapping[str, Any]) -> BookEntry:
    """One order of the book or of a push; raises Unreadable."""
    try:
        quantity, filled = _units(order["quantity"]), _units(order["filled_quantity"])
        tag = str(order.get("tag") or "")[: LONGEST_WORD + 1]
        updated = order.get("exchange_update_timestamp") or order.get("exchange_timestamp")
        evidence = Evidence(
            client_order_id=tag,
            broker_order_id=_word(order["order_id"]),
            status=order_status(_word(order["status"]), quantity, filled),
            quantity=quantity,
            filled_quantity=filled,
            average_price=_price(order["average_price"]),
            filled_at=instant(updated or order.get("order_timestamp")) if filled else None,
            reason=_legible(str(order.get("status_message") or ""))[:LONGEST_REASON],
        )
        return BookEntry(
            evidence=evidence,
            symbol=f"{_word(order['exchange'])}:{_word(order['tradingsymbol'])}",
            side=_SIDE_OF[order["transaction_type"]],
            tag=tag,
            received_at=instant(order.get("order_timestamp")),
        )
    except _UNREADABLE as error:
        raise Unreadable(f"order: {type(error).__name__}: {error}") from error


def first_fill(trades: Iterable[Mapping[str, Any]]) -> datetime | None:
    """The earliest fill of an order's trades; raises Unreadable."""
    try:
        times = [instant(trade["fill_timestamp"]) for trade in trades]
    except _UNREADABLE as error:
        raise Unreadable(f"trade: {type(error).__name__}: {error}") from error
    return min((at for at in times if at is not None), default=None)


def net_positions(data: Mapping[str, Any]) -> list[NetPosition]:
    """The net positions in products the engine trades; the others can cover no order of ours."""
    try:
        return [
            NetPosition(f"{row['exchange']}:{row['tradingsymbol']}", product, _units(row["quantity"], -MOST_UNITS))
            for row in data["net"]
            if (product := _PRODUCT_OF.get(row["product"])) is not None
        ]
    except _UNREADABLE as error:
        raise Unreadable(f"positions: {type(error).__name__}: {error}") from error


def instruments_of(lines: Iterable[str]) -> Iterator[Instrument]:
    """The instruments of a CSV dump; raises Unreadable at a row it cannot read."""
    try:
        for row in csv.DictReader(lines):
            token = int(row["instrument_token"])
            yield Instrument(
                symbol=f"{row['exchange']}:{row['tradingsymbol']}",
                token=token,
                tick_size=_decimal(row["tick_size"]),
                lot_size=int(row["lot_size"]),
                scale=scale_of(token),
            )
    except (*_UNREADABLE, csv.Error) as error:
        raise Unreadable(f"instruments: {type(error).__name__}: {error}") from error


def quotes_of(rows: Mapping[str, Mapping[str, Any]]) -> list[Quote]:
    """The quotes of an answer by symbol; raises Unreadable."""
    return [quote_of(symbol, row) for symbol, row in rows.items()]


def quote_of(symbol: str, row: Mapping[str, Any]) -> Quote:
    """One symbol's quote; raises Unreadable."""
    try:
        at = instant(row.get("timestamp"))
        if at is None:
            raise ValueError("no timestamp")
        return Quote(
            symbol=symbol,
            last_price=_decimal(row["last_price"]),
            lower_band=_decimal(row["lower_circuit_limit"]),
            upper_band=_decimal(row["upper_circuit_limit"]),
            at=at,
        )
    except _UNREADABLE as error:
        raise Unreadable(f"quote: {type(error).__name__}: {error}") from error


def instant(naive: Any) -> datetime | None:
    """Aware UTC for the broker's naive time; None where it tells none. Raises ValueError or TypeError."""
    if not naive:
        return None
    return datetime.fromisoformat(naive).replace(tzinfo=IST).astimezone(UTC)


def is_word(value: Any) -> bool:
    """Whether `value` may be an id or a symbol: it becomes part of keys, records and log lines."""
    return isinstance(value, str) and 0 < len(value) <= LONGEST_WORD and value.isprintable()


def _word(value: Any) -> str:
    if not is_word(value):
        raise ValueError(f"expected a word, got {str(value)[:LONGEST_WORD]!r}")
    return str(value)


def _legible(text: str) -> str:
    """`text` with half a surrogate pair, which no store holds, replaced."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _units(value: Any, least: int = 0) -> int:
    number = _decimal(value)
    # Compared before it is converted: a number of three characters can have a billion digits.
    if not least <= number <= MOST_UNITS or number != number.to_integral_value():
        raise ValueError(f"not a quantity: {str(value)[:LONGEST_WORD]}")
    return int(number)


def _price(value: Any) -> Decimal:
    number = _decimal(value)
    if not 0 <= number <= HIGHEST_PRICE:
        raise ValueError(f"not a price: {str(value)[:LONGEST_WORD]}")
    return number


def _decimal(value: Any) -> Decimal:
    number = Decimal(str(value))
    if not number.is_finite():
        raise ValueError(f"not a finite number: {value!r}")
    return number


def _seconds(text: str | None) -> float | None:
    try:
        seconds = float(text) if text else -1.0
    except ValueError:
        return None
    # What is no number of seconds, or endless, tells nothing.
    return min(seconds, LONGEST_PAUSE) if 0 <= seconds < math.inf else None
