"""What the paper broker's endpoints do, and the table of them: a request of a known account in, JSON data out.

Refusals are raised as the broker's errors. Knows no tokens, rates or faults: the gate has dealt with them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse

from broker_connector.paper import wire
from broker_connector.paper.accounts import ORDER_BUDGETS, Account, Budget
from broker_connector.paper.book import BookOrder
from broker_connector.paper.clock import utc_now
from broker_connector.paper.errors import BrokerError
from broker_connector.paper.exchange import Exchange
from broker_connector.paper.quotes import instruments_csv, quote_json

Form = Mapping[str, str]


def place(exchange: Exchange, account: Account, request: Request, form: Form) -> Any:
    """POST /orders/{variety}."""
    ticket = wire.ticket_of(request.path_params["variety"], form, exchange.by_name)
    now = exchange.now(utc_now())
    if not account.book.settings.is_open(now):
        raise BrokerError("OrderException", "Markets are closed right now.")
    order = account.book.place(ticket, now)
    return {"order_id": order.order_id}


def modify(exchange: Exchange, account: Account, request: Request, form: Form) -> Any:
    """PUT /orders/{variety}/{order_id}: a new limit price."""
    order = _order(account, request)
    listing = exchange.by_token[order.ticket.token]
    price = wire.price_of(form, "price", listing)
    if account.book.modify(order.order_id, price, exchange.now(utc_now())) is None:
        raise BrokerError("OrderException", "Order cannot be modified as it is not open.")
    return {"order_id": order.order_id}


def cancel(exchange: Exchange, account: Account, request: Request, _form: Form) -> Any:
    """DELETE /orders/{variety}/{order_id}."""
    order = _order(account, request)
    if account.book.cancel(order.order_id, exchange.now(utc_now())) is None:
        raise BrokerError("OrderException", f"Order cannot be cancelled as it is {order.status}.")
    return {"order_id": order.order_id}


def orders(_exchange: Exchange, account: Account, _request: Request, _form: Form) -> Any:
    """GET /orders."""
    return [wire.order_json(account.account_id, order) for order in account.book.orders.values()]


def history(_exchange: Exchange, account: Account, request: Request, _form: Form) -> Any:
    """GET /orders/{order_id}."""
    order = _order(account, request)
    return [wire.order_json(account.account_id, order, state) for state in order.history]


def order_trades(_exchange: Exchange, account: Account, request: Request, _form: Form) -> Any:
    """GET /orders/{order_id}/trades."""
    order = _order(account, request)
    return [wire.trade_json(order, fill) for fill in order.fills]


def trades(_exchange: Exchange, account: Account, _request: Request, _form: Form) -> Any:
    """GET /trades."""
    return [wire.trade_json(order, fill) for order in account.book.orders.values() for fill in order.fills]


def positions(exchange: Exchange, account: Account, _request: Request, _form: Form) -> Any:
    """GET /portfolio/positions."""
    return wire.positions_json(account.book.orders.values(), exchange.last)


def profile(_exchange: Exchange, account: Account, _request: Request, _form: Form) -> Any:
    """GET /user/profile."""
    return wire.profile_json(account.account_id)


def instruments(exchange: Exchange, _account: Account, request: Request, _form: Form) -> Any:
    """GET /instruments and /instruments/{exchange}."""
    wanted = request.path_params.get("exchange", "")
    return PlainTextResponse(instruments_csv(exchange, wanted), media_type="text/csv")


def quote(exchange: Exchange, _account: Account, request: Request, _form: Form) -> Any:
    """GET /quote, /quote/ohlc and /quote/ltp; unknown symbols are left out."""
    shape = request.path_params.get("shape", "full")
    names = request.query_params.getlist("i")
    return quote_json(exchange, names, shape, exchange.now(utc_now()))


def _order(account: Account, request: Request) -> BookOrder:
    order = account.book.orders.get(request.path_params["order_id"])
    if order is None:
        raise BrokerError("OrderException", "Couldn't find that `order_id`.")
    return order


@dataclass(frozen=True, slots=True)
class Operation:
    """One endpoint: its name in faults, where it is, what it counts against, and what answers it."""

    name: str
    method: str
    path: str
    budgets: tuple[Budget, ...]
    handler: Callable[[Exchange, Account, Request, Form], Any]


_OTHER, _QUOTE = (Budget.OTHER,), (Budget.QUOTE,)

OPERATIONS: tuple[Operation, ...] = (
    Operation("place", "POST", "/orders/{variety}", ORDER_BUDGETS, place),
    Operation("modify", "PUT", "/orders/{variety}/{order_id}", _OTHER, modify),
    Operation("cancel", "DELETE", "/orders/{variety}/{order_id}", _OTHER, cancel),
    Operation("orders", "GET", "/orders", _OTHER, orders),
    Operation("history", "GET", "/orders/{order_id}", _OTHER, history),
    Operation("order_trades", "GET", "/orders/{order_id}/trades", _OTHER, order_trades),
    Operation("trades", "GET", "/trades", _OTHER, trades),
    Operation("positions", "GET", "/portfolio/positions", _OTHER, positions),
    Operation("profile", "GET", "/user/profile", _OTHER, profile),
    Operation("instruments", "GET", "/instruments", _OTHER, instruments),
    Operation("instruments", "GET", "/instruments/{exchange}", _OTHER, instruments),
    Operation("quote", "GET", "/quote", _QUOTE, quote),
    Operation("quote", "GET", "/quote/{shape:str}", _QUOTE, quote),
)
