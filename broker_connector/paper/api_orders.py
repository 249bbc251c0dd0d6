"""Orders and trades over HTTP."""

from typing import Any

from broker_connector.paper import wire
from broker_connector.paper.accounts import ORDER_BUDGETS
from broker_connector.paper.book import AFTER_HOURS
from broker_connector.paper.errors import BrokerError
from broker_connector.paper.forms import change_of, ticket_of
from broker_connector.paper.operations import Asked, Operation
from broker_connector.paper.orders import BookOrder, Ticket


def ticket(asked: Asked) -> Ticket:
    """The order a request asks for; raises the broker's InputException."""
    listed = asked.exchange.by_name
    listing = listed.get(asked.form.get("tradingsymbol", ""))
    last = asked.exchange.last.get(listing.token) if listing else None
    protected = asked.account.book.settings.market_protection
    return ticket_of(asked.path["variety"], asked.form, listed, protected=protected, last=last)


def place(asked: Asked) -> Any:
    """POST /orders/{variety}."""
    wanted = ticket(asked)
    if wanted.variety != AFTER_HOURS and not asked.account.book.settings.is_open(asked.now):
        raise BrokerError("OrderException", "Markets are closed right now.")
    order = asked.account.book.place(wanted, asked.now)
    # Nothing here is above an exchange's freeze quantity, so no order is ever sliced.
    sliced: dict[str, Any] = {"children": []} if asked.form.get("autoslice") == "true" else {}
    return {"order_id": order.order_id, **sliced}


def modify(asked: Asked) -> Any:
    """PUT /orders/{variety}/{order_id}."""
    order = _order(asked)
    change = change_of(asked.form, asked.exchange.by_token[order.ticket.token])
    if asked.account.book.modify(order.order_id, change, asked.now) is None:
        raise BrokerError("OrderException", "Order cannot be modified as it is not open, or has traded more.")
    return {"order_id": order.order_id}


def cancel(asked: Asked) -> Any:
    """DELETE /orders/{variety}/{order_id}; the stop of a cover order is exited at market."""
    order = _order(asked)
    if asked.account.book.cancel(order.order_id, asked.now) is None:
        raise BrokerError("OrderException", f"Order cannot be cancelled as it is {order.status}.")
    return {"order_id": order.order_id}


def orders(asked: Asked) -> Any:
    """GET /orders."""
    return [wire.order_json(asked.account.account_id, order) for order in asked.account.book.orders.values()]


def history(asked: Asked) -> Any:
    """GET /orders/{order_id}."""
    order = _order(asked)
    return [wire.order_json(asked.account.account_id, order, state) for state in order.history]


def order_trades(asked: Asked) -> Any:
    """GET /orders/{order_id}/trades."""
    order = _order(asked)
    return [wire.trade_json(order, fill) for fill in order.fills]


def trades(asked: Asked) -> Any:
    """GET /trades."""
    return [wire.trade_json(order, fill) for order in asked.account.book.orders.values() for fill in order.fills]


def _order(asked: Asked) -> BookOrder:
    order = asked.account.book.orders.get(asked.path["order_id"])
    if order is None:
        raise BrokerError("OrderException", "Couldn't find that `order_id`.")
    return order


OPERATIONS = (
    Operation("place", "POST", "/orders/{variety}", place, ORDER_BUDGETS),
    Operation("modify", "PUT", "/orders/{variety}/{order_id}", modify),
    Operation("cancel", "DELETE", "/orders/{variety}/{order_id}", cancel),
    Operation("orders", "GET", "/orders", orders),
    Operation("history", "GET", "/orders/{order_id}", history),
    Operation("order_trades", "GET", "/orders/{order_id}/trades", order_trades),
    Operation("trades", "GET", "/trades", trades),
)
