"""What an account at Kite Connect v3 says of itself, as the engine's values: trades, margins, slices. Pure.

Source: kite.trade/docs/connect/v3, orders and user.
"""

from collections.abc import Mapping
from typing import Any

from broker_connector.kite_errors import error_reply
from broker_connector.kite_words import (
    PRODUCT_OF,
    SIDE_OF,
    UNREADABLE,
    Unreadable,
    amount,
    instant,
    is_word,
    price,
    rows_of,
    units,
    word,
)
from engine.domain.broker import Margin, Outcome, Reply, Trade


def trades_of(rows: Any) -> list[Trade]:
    """The trades of an order, or the account's of the day, in the broker's order; raises Unreadable."""
    try:
        return [_trade(row) for row in rows_of(rows, "trades")]
    except UNREADABLE as error:
        raise Unreadable(f"trade: {type(error).__name__}: {error}") from error


def _trade(row: Mapping[str, Any]) -> Trade:
    filled_at = instant(row["fill_timestamp"])
    if filled_at is None:
        raise ValueError("no fill_timestamp")
    return Trade(
        trade_id=word(row["trade_id"]),
        broker_order_id=word(row["order_id"]),
        symbol=f"{word(row['exchange'])}:{word(row['tradingsymbol'])}",
        side=SIDE_OF[row["transaction_type"]],
        product=PRODUCT_OF.get(str(row.get("product"))),
        quantity=units(row["quantity"]),
        price=price(row["average_price"]),
        filled_at=filled_at,
    )


def margins_of(data: Mapping[str, Any]) -> list[Margin]:
    """The segments the account may trade in; raises Unreadable."""
    try:
        return [
            Margin(segment=word(segment), available=amount(row["net"]), used=amount(row["utilised"]["debits"]))
            for segment, row in data.items()
            if row["enabled"]
        ]
    except UNREADABLE as error:
        raise Unreadable(f"margins: {type(error).__name__}: {error}") from error


def slices_of(data: Mapping[str, Any]) -> tuple[Reply, ...]:
    """The reply of each slice an answer tells of; one that is neither an id nor a known error is in doubt."""
    children = data.get("children")
    return tuple(map(_slice, children)) if isinstance(children, list) else ()


def _slice(child: Any) -> Reply:
    fields = child if isinstance(child, dict) else {}
    order_id: Any = fields.get("order_id")
    if is_word(order_id):
        return Reply(Outcome.ACCEPTED, broker_order_id=order_id)
    error = fields.get("error")
    if not isinstance(error, dict) or not isinstance(status := error.get("code"), int):
        return Reply(Outcome.TIMEOUT, message="a slice without an order id or an error")
    return error_reply(status, error, None)
