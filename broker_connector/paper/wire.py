"""Orders, trades and users of the paper broker in the broker's own JSON shapes. Pure."""

import hashlib
from typing import Any

from broker_connector.paper.accounts import Account
from broker_connector.paper.clock import naive_ist
from broker_connector.paper.forms import CHOICES
from broker_connector.paper.orders import AFTER_MARKET, INTERIM, BookOrder, Fill, State
from broker_connector.paper.symbols import EXCHANGE

#: Statuses of an order the exchange has not seen yet.
_NOT_YET = frozenset({*INTERIM, AFTER_MARKET})


def order_json(account_id: str, order: BookOrder, state: State | None = None) -> dict[str, Any]:
    """An order as the book, its history (`state`) or a push shows it."""
    ticket, told = order.ticket, state or order.history[-1]
    status, filled = told.status, told.filled_quantity
    updated, left = naive_ist(told.at), told.quantity - told.filled_quantity
    at_exchange = status not in _NOT_YET
    return {
        "placed_by": account_id,
        "order_id": order.order_id,
        "exchange_order_id": f"1{order.order_id}" if at_exchange else None,
        "parent_order_id": ticket.parent_order_id,
        "status": status,
        "status_message": order.message or None,
        "status_message_raw": order.message or None,
        "order_timestamp": naive_ist(order.received_at),
        "exchange_update_timestamp": updated,
        "exchange_timestamp": updated if at_exchange else None,
        "variety": ticket.variety,
        "modified": order.modified,
        "exchange": ticket.exchange,
        "tradingsymbol": ticket.tradingsymbol,
        "instrument_token": ticket.token,
        "order_type": told.order_type,
        "transaction_type": ticket.transaction_type,
        "validity": ticket.validity,
        "validity_ttl": ticket.validity_ttl,
        "product": ticket.product,
        "quantity": told.quantity,
        "disclosed_quantity": ticket.disclosed_quantity,
        "price": float(told.price),
        "trigger_price": float(told.trigger_price),
        "average_price": float(told.average_price),
        "filled_quantity": filled,
        "pending_quantity": left if status not in {"CANCELLED", "REJECTED"} else 0,
        "cancelled_quantity": left if status == "CANCELLED" else 0,
        "market_protection": float(ticket.market_protection),
        "meta": _meta(order),
        "tag": ticket.tag or None,
        "guid": f"{account_id}X{order.order_id}",
    }


def _meta(order: BookOrder) -> dict[str, Any]:
    legs = order.ticket.iceberg_legs
    if legs == 1:
        return {}
    return {
        "iceberg": {
            "leg": min(len(order.fills) + 1, legs),
            "legs": legs,
            "leg_quantity": order.quantity // legs,
            "total_quantity": order.quantity,
            "remaining_quantity": order.quantity - order.filled_quantity,
        }
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
        "products": sorted({*CHOICES["product"], "CO"}),
        "order_types": sorted(CHOICES["order_type"]),
        "avatar_url": None,
        "meta": {"demat_consent": "physical"},
    }


def full_profile_json(account_id: str) -> dict[str, Any]:
    """The same with what only the user may know."""
    return profile_json(account_id) | {
        "twofa_type": "totp",
        "phone": "*0000",
        "bank_accounts": [{"name": "PAPER BANK", "branch": "", "account": "*0000"}],
        "dp_ids": ["0000000000000000"],
        "pan": "*000P",
        "tags": [],
        "password_timestamp": "1970-01-01 00:00:00",
        "twofa_timestamp": "1970-01-01 00:00:00",
        "meta": {"poa": "physical", "silo": "", "account_blocks": []},
    }


def session_json(account: Account, access_token: str, refresh_token: str, login_time: str) -> dict[str, Any]:
    """What a login answers."""
    return profile_json(account.account_id) | {
        "api_key": account.api_key,
        "access_token": access_token,
        "public_token": "",
        "enctoken": "",
        "refresh_token": refresh_token,
        "silo": "",
        "login_time": login_time,
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
