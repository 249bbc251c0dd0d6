"""Good-till-triggered orders of one account: limit orders placed when a price is met. Pure; `now` is market time.

A single trigger waits for its value from the side of the price it was made at; of two legs, one fires.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from broker_connector.paper.clock import naive_ist
from broker_connector.paper.errors import BrokerError, bad_input
from broker_connector.paper.forms import Form, listing_of, price_of, ticket_of
from broker_connector.paper.orders import Ticket
from broker_connector.paper.symbols import Listing

#: How long a trigger waits.
LIFETIME = timedelta(days=365)
#: Type -> how many trigger values and orders it has.
TYPES: Mapping[str, int] = {"single": 1, "two-leg": 2}
ACTIVE = "active"


@dataclass(frozen=True, slots=True)
class Wish:
    """What a trigger asks for: `orders[n]` when the price meets `values[n]`."""

    kind: str
    listing: Listing
    values: tuple[Decimal, ...]
    last_price: Decimal
    orders: tuple[Ticket, ...]

    def met(self, price: Decimal) -> int | None:
        """Which value `price` meets; None for none."""
        low, high = self.values[0], self.values[-1]
        if self.kind == "single":
            rises = low > self.last_price
            return 0 if (price >= low if rises else price <= low) else None
        if price <= low:
            return 0
        return 1 if price >= high else None


@dataclass(slots=True)
class Trigger:
    """One trigger and what became of it."""

    trigger_id: int
    wish: Wish
    created_at: datetime
    updated_at: datetime
    status: str = ACTIVE
    #: By leg: the price it fired at and the id of its order.
    fired: dict[int, tuple[Decimal, str]] = field(default_factory=dict)


class Triggers:
    """The triggers of one account."""

    def __init__(self, next_id: Callable[[], str], place: Callable[[Ticket, datetime], str]) -> None:
        """`place`: put an order into the account's book and tell its id."""
        self.by_id: dict[int, Trigger] = {}
        self._next_id, self._place = next_id, place

    def add(self, wish: Wish, now: datetime) -> Trigger:
        """Wait for `wish`."""
        trigger = Trigger(int(self._next_id()), wish, now, now)
        self.by_id[trigger.trigger_id] = trigger
        return trigger

    def find(self, trigger_id: str) -> Trigger:
        """The trigger of an id; raises the broker's error."""
        trigger = self.by_id.get(int(trigger_id)) if trigger_id.isdecimal() else None
        if trigger is None:
            raise BrokerError("GeneralException", "Trigger not found.", 404)
        return trigger

    def change(self, trigger_id: str, wish: Wish, now: datetime) -> Trigger:
        """Wait for `wish` instead; raises the broker's error."""
        trigger = self.find(trigger_id)
        if trigger.status != ACTIVE:
            raise bad_input(f"The trigger cannot be modified as it is {trigger.status}.")
        trigger.wish, trigger.updated_at = wish, now
        return trigger

    def remove(self, trigger_id: str) -> Trigger:
        """Forget a trigger; raises the broker's error."""
        return self.by_id.pop(self.find(trigger_id).trigger_id)

    def on_price(self, token: int, price: Decimal, now: datetime) -> None:
        """Fire what the price of a symbol meets; end what waited too long."""
        for trigger in list(self.by_id.values()):
            if trigger.status != ACTIVE or trigger.wish.listing.token != token:
                continue
            if now >= trigger.created_at + LIFETIME:
                trigger.status, trigger.updated_at = "expired", now
            elif (leg := trigger.wish.met(price)) is not None:
                trigger.status, trigger.updated_at = "triggered", now
                trigger.fired[leg] = price, self._place(trigger.wish.orders[leg], now)


def wish_of(form: Form, listed: Mapping[str, Listing]) -> Wish:
    """What a form asks to wait for; raises the broker's InputException."""
    kind = form.get("type", "")
    condition, orders = _read(form, "condition", dict), _read(form, "orders", list)
    values = condition.get("trigger_values")
    if kind not in TYPES or not isinstance(values, list) or not len(values) == len(orders) == TYPES[kind]:
        raise bad_input("Invalid `type`: single with one trigger value and order, or two-leg with two of each.")
    words = _words(condition)
    listing = listing_of(words, listed)
    prices = tuple(price_of({"trigger_values": str(value)}, "trigger_values", listing) for value in values)
    last_price = price_of(words, "last_price", listing)
    if kind == "two-leg" and not prices[0] < last_price < prices[1]:
        raise bad_input("Invalid `trigger_values`: the last price must be between them.")
    return Wish(kind, listing, prices, last_price, tuple(_ticket(order, words, listed) for order in orders))


def trigger_json(account_id: str, trigger: Trigger) -> dict[str, Any]:
    """A trigger as /gtt/triggers shows it."""
    wish = trigger.wish
    return {
        "id": trigger.trigger_id,
        "user_id": account_id,
        "parent_trigger": None,
        "type": wish.kind,
        "created_at": naive_ist(trigger.created_at),
        "updated_at": naive_ist(trigger.updated_at),
        "expires_at": naive_ist(trigger.created_at + LIFETIME),
        "status": trigger.status,
        "condition": {
            "exchange": wish.orders[0].exchange,
            "last_price": float(wish.last_price),
            "tradingsymbol": wish.listing.name,
            "trigger_values": [float(value) for value in wish.values],
            "instrument_token": wish.listing.token,
        },
        "orders": [_order(account_id, trigger, leg) for leg in range(len(wish.orders))],
        "meta": {},
    }


def _order(account_id: str, trigger: Trigger, leg: int) -> dict[str, Any]:
    ticket = trigger.wish.orders[leg]
    order = {
        "exchange": ticket.exchange,
        "tradingsymbol": ticket.tradingsymbol,
        "product": ticket.product,
        "order_type": ticket.order_type,
        "transaction_type": ticket.transaction_type,
        "quantity": ticket.quantity,
        "price": float(ticket.price),
    }
    if leg not in trigger.fired:
        return order | {"result": None}
    price, order_id = trigger.fired[leg]
    result = order | {
        "account_id": account_id,
        "validity": ticket.validity,
        "meta": json.dumps({"gtt": trigger.trigger_id}),
        "timestamp": naive_ist(trigger.updated_at),
        "triggered_at": float(price),
        "order_result": {"status": "success", "order_id": order_id, "rejection_reason": ""},
    }
    return order | {"result": result}


def _ticket(order: Any, condition: Form, listed: Mapping[str, Listing]) -> Ticket:
    if not isinstance(order, dict):
        raise bad_input("Invalid `orders`.")
    symbol = {name: condition.get(name, "") for name in ("exchange", "tradingsymbol")}
    ticket = ticket_of("regular", _words(order) | symbol, listed)
    if ticket.order_type != "LIMIT":
        raise bad_input("Invalid `order_type`: a trigger places LIMIT orders.")
    return ticket


def _read(form: Form, name: str, kind: type) -> Any:
    try:
        value = json.loads(form.get(name, ""))
    except ValueError:
        value = None
    if not isinstance(value, kind):
        raise bad_input(f"Invalid `{name}`: not JSON of its kind.")
    return value


def _words(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in values.items() if not isinstance(value, list | dict)}
