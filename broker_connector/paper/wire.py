"""The paper broker's answers in the broker's own JSON shapes, and its forms as checked tickets. Pure."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from broker_connector.paper.accounts import Account
from broker_connector.paper.book import BookOrder, Fill, State, Ticket
from broker_connector.paper.clock import naive_ist
from broker_connector.paper.errors import bad_input
from broker_connector.paper.symbols import EXCHANGE, Listing

#: Words a form may use, by field.
CHOICES: Mapping[str, frozenset[str]] = {
    "transaction_type": frozenset({"BUY", "SELL"}),
    "product": frozenset({"CNC", "MIS", "NRML"}),
    "order_type": frozenset({"MARKET", "LIMIT", "SL", "SL-M"}),
    "validity": frozenset({"DAY", "IOC"}),
}
#: Varieties with rules of their own (cover, iceberg, auction, after market) are not traded here.
VARIETIES = frozenset({"regular"})
#: Longest tag, characters.
TAG_LENGTH = 20
_WITH_PRICE, _WITH_TRIGGER, _WITH_PROTECTION = {"LIMIT", "SL"}, {"SL", "SL-M"}, {"MARKET", "SL-M"}


def ticket_of(variety: str, form: Mapping[str, str], listed: Mapping[str, Listing]) -> Ticket:
    """The order a form asks for; raises the broker's InputException."""
    if variety not in VARIETIES:
        raise bad_input(f"Invalid `variety`: {variety}.")
    fields = {"validity": "DAY"} | dict(form)
    for name, words in CHOICES.items():
        if fields.get(name) not in words:
            raise bad_input(f"Missing or invalid `{name}`.")
    listing = listed.get(fields.get("tradingsymbol", ""))
    if listing is None or fields.get("exchange") != EXCHANGE:
        raise bad_input("The instrument you are placing an order for has either expired or does not exist.")
    tag = fields.get("tag", "")
    if len(tag) > TAG_LENGTH or not ((tag.isascii() and tag.isalnum()) or not tag):
        raise bad_input("Invalid `tag`: alphanumeric, at most 20 characters.")
    order_type = fields["order_type"]
    protection = number_of(fields, "market_protection")
    if order_type in _WITH_PROTECTION and protection == 0:
        raise bad_input("Market orders without market protection are not allowed via API.")
    return Ticket(
        exchange=EXCHANGE,
        tradingsymbol=listing.name,
        token=listing.token,
        tick_size=listing.tick_size,
        transaction_type=fields["transaction_type"],
        quantity=_quantity(fields),
        product=fields["product"],
        order_type=order_type,
        price=price_of(fields, "price", listing) if order_type in _WITH_PRICE else Decimal(0),
        trigger_price=price_of(fields, "trigger_price", listing) if order_type in _WITH_TRIGGER else Decimal(0),
        validity=fields["validity"],
        variety=variety,
        market_protection=protection,
        tag=tag,
    )


def number_of(form: Mapping[str, str], name: str) -> Decimal:
    """A number of the form, 0 where absent; raises the broker's InputException."""
    try:
        number = Decimal(form.get(name) or 0)
    except InvalidOperation:
        raise bad_input(f"Invalid `{name}`.") from None
    if not number.is_finite():
        raise bad_input(f"Invalid `{name}`.")
    return number


def price_of(form: Mapping[str, str], name: str, listing: Listing) -> Decimal:
    """A price of the form, positive and on the symbol's steps; raises the broker's InputException."""
    price = number_of(form, name)
    if price <= 0 or price % listing.tick_size:
        raise bad_input(f"Invalid `{name}`: not a positive multiple of the tick size {listing.tick_size}.")
    return price


def _quantity(form: Mapping[str, str]) -> int:
    quantity = number_of(form, "quantity")
    if quantity <= 0 or quantity != int(quantity):
        raise bad_input("Invalid `quantity`.")
    return int(quantity)


def order_json(account_id: str, order: BookOrder, state: State | None = None) -> dict[str, Any]:
    """An order as the book, its history (`state`) or a push shows it."""
    ticket = order.ticket
    status = state.status if state else order.status
    filled = state.filled_quantity if state else order.filled_quantity
    updated = naive_ist(state.at if state else order.updated_at or order.received_at)
    left = order.quantity - filled
    return {
        "placed_by": account_id,
        "order_id": order.order_id,
        "exchange_order_id": f"1{order.order_id}",
        "parent_order_id": None,
        "status": status,
        "status_message": order.message or None,
        "status_message_raw": order.message or None,
        "order_timestamp": naive_ist(order.received_at),
        "exchange_update_timestamp": updated,
        "exchange_timestamp": updated,
        "variety": ticket.variety,
        "modified": order.modified,
        "exchange": ticket.exchange,
        "tradingsymbol": ticket.tradingsymbol,
        "instrument_token": ticket.token,
        "order_type": order.order_type,
        "transaction_type": ticket.transaction_type,
        "validity": ticket.validity,
        "product": ticket.product,
        "quantity": order.quantity,
        "disclosed_quantity": 0,
        "price": float(order.price),
        "trigger_price": float(ticket.trigger_price),
        "average_price": float(state.average_price if state else order.average_price),
        "filled_quantity": filled,
        "pending_quantity": left if status not in {"CANCELLED", "REJECTED"} else 0,
        "cancelled_quantity": left if status == "CANCELLED" else 0,
        "market_protection": float(ticket.market_protection),
        "meta": {},
        "tag": ticket.tag or None,
        "guid": f"{account_id}X{order.order_id}",
    }


def update_json(account: Account, order: BookOrder) -> dict[str, Any]:
    """What is pushed when an order changes: a postback inside a WebSocket message."""
    data = order_json(account.account_id, order)
    proof = order.order_id + data["order_timestamp"] + account.api_secret
    data |= {
        "user_id": account.account_id,
        "app_id": 0,
        "unfilled_quantity": order.quantity - order.filled_quantity,
        "checksum": hashlib.sha256(proof.encode()).hexdigest(),
    }
    return {"type": "order", "data": data}


def profile_json(account_id: str) -> dict[str, Any]:
    """Who an account belongs to."""
    return {
        "user_id": account_id,
        "user_type": "individual",
        "email": f"{account_id.lower()}@paper.invalid",
        "user_name": account_id,
        "user_shortname": account_id,
        "broker": "PAPER",
        "exchanges": [EXCHANGE],
        "products": sorted(CHOICES["product"]),
        "order_types": sorted(CHOICES["order_type"]),
        "avatar_url": None,
        "meta": {"demat_consent": "physical"},
    }


def trade_json(order: BookOrder, fill: Fill) -> dict[str, Any]:
    """One fill as /trades shows it."""
    at = naive_ist(fill.at)
    return {
        "trade_id": fill.trade_id,
        "order_id": order.order_id,
        "exchange": order.ticket.exchange,
        "tradingsymbol": order.ticket.tradingsymbol,
        "instrument_token": order.ticket.token,
        "product": order.ticket.product,
        "average_price": float(fill.price),
        "quantity": fill.quantity,
        "exchange_order_id": f"1{order.order_id}",
        "transaction_type": order.ticket.transaction_type,
        "fill_timestamp": at,
        "order_timestamp": at.partition(" ")[2],
        "exchange_timestamp": at,
    }


def positions_json(orders: Iterable[BookOrder], last: Mapping[int, Decimal]) -> dict[str, Any]:
    """The account's positions; all were opened today, so net and day are the same."""
    filled: dict[tuple[int, str], list[BookOrder]] = defaultdict(list)
    for order in orders:
        if order.fills:
            filled[order.ticket.token, order.ticket.product].append(order)
    rows = [_position(group, last.get(token, Decimal(0))) for (token, _), group in filled.items()]
    return {"net": rows, "day": rows}


def _position(orders: list[BookOrder], last: Decimal) -> dict[str, Any]:
    ticket = orders[0].ticket
    bought = [fill for order in orders if order.is_buy for fill in order.fills]
    sold = [fill for order in orders if not order.is_buy for fill in order.fills]
    buy_quantity, buy_value = _totals(bought)
    sell_quantity, sell_value = _totals(sold)
    quantity = buy_quantity - sell_quantity
    buy_price, sell_price = _per_unit(buy_value, buy_quantity), _per_unit(sell_value, sell_quantity)
    pnl = float(sell_value - buy_value + quantity * last)
    sides = {
        "buy_quantity": buy_quantity,
        "buy_price": buy_price,
        "buy_value": float(buy_value),
        "sell_quantity": sell_quantity,
        "sell_price": sell_price,
        "sell_value": float(sell_value),
    }
    return {
        "tradingsymbol": ticket.tradingsymbol,
        "exchange": ticket.exchange,
        "instrument_token": ticket.token,
        "product": ticket.product,
        "quantity": quantity,
        "overnight_quantity": 0,
        "multiplier": 1,
        "average_price": (buy_price if quantity > 0 else sell_price) if quantity else 0,
        "close_price": 0,
        "last_price": float(last),
        "value": float(sell_value - buy_value),
        "pnl": pnl,
        "m2m": pnl,
        "unrealised": pnl,
        "realised": 0,
        "buy_m2m": float(buy_value),
        "sell_m2m": float(sell_value),
        **sides,
        **{f"day_{name}": value for name, value in sides.items()},
    }


def _totals(fills: list[Fill]) -> tuple[int, Decimal]:
    value = sum((fill.price * fill.quantity for fill in fills), Decimal(0))
    return sum(fill.quantity for fill in fills), value


def _per_unit(value: Decimal, quantity: int) -> float:
    return float(value / quantity) if quantity else 0.0
