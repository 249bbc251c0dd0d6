"""Positions, holdings, funds and what orders would cost, over HTTP."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from broker_connector.paper import funds, portfolio, settlement
from broker_connector.paper.errors import bad_input
from broker_connector.paper.forms import Form, listing_of, number_of, whole_of, word_of
from broker_connector.paper.operations import Asked, Operation
from broker_connector.paper.symbols import Listing


def positions(asked: Asked) -> Any:
    """GET /portfolio/positions."""
    account = asked.account
    return portfolio.positions_json(account.held_before(asked.now), asked.exchange.last, account.overnight)


def convert(asked: Asked) -> Any:
    """PUT /portfolio/positions: move a position to another product."""
    account, form = asked.account, asked.form
    account.moved += portfolio.convert(
        account.held(),
        form.get("old_product", ""),
        word_of({"product": form.get("new_product", "")}, "product"),
        listing=listing_of(form, asked.exchange.by_name),
        is_buy=word_of(form, "transaction_type") == "BUY",
        quantity=whole_of(form, "quantity"),
    )
    return True


def holdings(asked: Asked) -> Any:
    """GET /portfolio/holdings."""
    account = asked.account
    closes = {share.token: asked.exchange.close(share.token) for share in account.shares}
    return settlement.holdings_json(account.shares, account.held(), asked.exchange.last, closes)


def margins(asked: Asked) -> Any:
    """GET /user/margins."""
    return {segment: _funds(asked, segment) for segment in funds.SEGMENTS}


def segment_margins(asked: Asked) -> Any:
    """GET /user/margins/{segment}."""
    segment = asked.path["segment"]
    if segment not in funds.SEGMENTS:
        raise bad_input(f"Invalid `segment`: {segment}.")
    return _funds(asked, segment)


def order_margins(asked: Asked) -> Any:
    """POST /margins/orders."""
    return [_margin(asked, form) for form in _forms(asked)]


def basket_margins(asked: Asked) -> Any:
    """POST /margins/basket."""
    return funds.basket_json(order_margins(asked), is_compact=asked.first("mode") == "compact")


def charges(asked: Asked) -> Any:
    """POST /charges/orders: the virtual contract note of orders that traded."""
    return [_charges(asked, form) for form in _forms(asked)]


def _funds(asked: Asked, segment: str) -> dict[str, Any]:
    return funds.funds_json(asked.account.held(), segment, settlement.value_of(asked.account.shares))


def _margin(asked: Asked, form: Form) -> dict[str, Any]:
    listing = listing_of(form, asked.exchange.by_name)
    return funds.margin_json(
        listing.name,
        word_of(form, "product"),
        is_buy=word_of(form, "transaction_type") == "BUY",
        quantity=whole_of(form, "quantity"),
        price=_price(asked, form, "price", listing),
    )


def _charges(asked: Asked, form: Form) -> dict[str, Any]:
    listing = listing_of(form, asked.exchange.by_name)
    product, side = word_of(form, "product"), word_of(form, "transaction_type")
    quantity, price = whole_of(form, "quantity"), _price(asked, form, "average_price", listing)
    return {
        "transaction_type": side,
        "tradingsymbol": listing.name,
        "exchange": form.get("exchange"),
        "variety": form.get("variety"),
        "product": product,
        "order_type": form.get("order_type"),
        "quantity": quantity,
        "price": float(price),
        "charges": funds.charges_json(product, is_buy=side == "BUY", quantity=quantity, price=price),
    }


def _price(asked: Asked, form: Form, name: str, listing: Listing) -> Decimal:
    """The price a form names, or the last one."""
    return number_of(form, name) or asked.exchange.last.get(listing.token, Decimal(0))


def _forms(asked: Asked) -> list[Form]:
    if not isinstance(asked.json, list) or not all(isinstance(order, Mapping) for order in asked.json):
        raise bad_input("Invalid JSON: expected an array of orders.")
    return [{name: str(value) for name, value in order.items() if value is not None} for order in asked.json]


OPERATIONS = (
    Operation("positions", "GET", "/portfolio/positions", positions),
    Operation("convert", "PUT", "/portfolio/positions", convert),
    Operation("holdings", "GET", "/portfolio/holdings", holdings),
    Operation("margins", "GET", "/user/margins", margins),
    Operation("margins", "GET", "/user/margins/{segment}", segment_margins),
    Operation("order_margins", "POST", "/margins/orders", order_margins),
    Operation("order_margins", "POST", "/margins/basket", basket_margins),
    Operation("charges", "POST", "/charges/orders", charges),
)
