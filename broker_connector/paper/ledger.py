"""The paper broker's own record of every order, in the engine's words: what invariants are checked against."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from broker_connector.kite_words import order_status
from broker_connector.paper.accounts import Account
from broker_connector.paper.orders import BookOrder


def ledger(accounts: Iterable[Account]) -> list[dict[str, Any]]:
    """Every order of every account, by the time it was received. Times are market time, to the microsecond."""
    rows = [_row(account.account_id, order) for account in accounts for order in account.book.every()]
    return sorted(rows, key=lambda row: (row["received_at"], row["order_id"]))


def _row(account_id: str, order: BookOrder) -> dict[str, Any]:
    ticket = order.ticket
    filled = order.filled_quantity
    return {
        "order_id": order.order_id,
        "account": account_id,
        "tag": ticket.tag,
        "symbol": f"{ticket.exchange}:{ticket.tradingsymbol}",
        "side": ticket.transaction_type.lower(),
        "product": ticket.product,
        "order_type": ticket.order_type.lower(),
        "quantity": order.quantity,
        "filled_quantity": filled,
        "average_price": str(order.average_price),
        "status": order_status(order.status, order.quantity, filled).value,
        "message": order.message,
        "received_at": _iso(order.received_at),
        "filled_at": _iso(order.fills[-1].at) if order.fills else None,
        "ended_at": None if order.is_live or order.updated_at is None else _iso(order.updated_at),
        "fills": [
            {"trade_id": fill.trade_id, "quantity": fill.quantity, "price": str(fill.price), "at": _iso(fill.at)}
            for fill in order.fills
        ],
    }


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")
