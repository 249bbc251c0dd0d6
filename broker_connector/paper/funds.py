"""Money at the paper broker: an account's funds, what orders bind, and what they cost. Pure; amounts in rupees.

The rates are those of an Indian discount broker for equity; a sandbox needs their shape more than their last digit.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from broker_connector.paper.portfolio import MARGIN_RATES, Holding, bound_margin, realised

#: What every account starts with in each segment.
OPENING_BALANCE = Decimal(10_000_000)
#: The segments that have funds of their own.
SEGMENTS = ("equity", "commodity")

#: Transaction tax as part of the turnover, by (whether it is delivery, whether it buys); stamp duty of a purchase.
_TAX: Mapping[tuple[bool, bool], Decimal] = {
    (True, True): Decimal("0.001"),
    (True, False): Decimal("0.001"),
    (False, True): Decimal(0),
    (False, False): Decimal("0.00025"),
}
_STAMP: Mapping[bool, Decimal] = {True: Decimal("0.00015"), False: Decimal("0.00003")}
_EXCHANGE_CHARGE, _REGULATOR_CHARGE, _GST = Decimal("0.0000297"), Decimal("0.000001"), Decimal("0.18")
#: An intraday order's brokerage: this part of its turnover, at most so much.
_BROKERAGE, _MOST_BROKERAGE = Decimal("0.0003"), Decimal(20)
_DELIVERY = frozenset({"CNC", "MTF"})


def funds_json(held: Sequence[Holding], segment: str, paid: Decimal = Decimal(0)) -> dict[str, Any]:
    """One segment of /user/margins; `paid` is what the holdings cost. No order is refused for want of funds."""
    is_traded = segment == "equity"
    bound = bound_margin(held) if is_traded else Decimal(0)
    earned = realised(held) if is_traded else Decimal(0)
    delivered = sum((h.quantity * h.average_price for h in held if h.first.product in _DELIVERY), Decimal(0))
    net = OPENING_BALANCE - bound + earned - (paid if is_traded else 0)
    return {
        "enabled": True,
        "net": float(net),
        "available": {
            "adhoc_margin": 0,
            "cash": float(OPENING_BALANCE),
            "opening_balance": float(OPENING_BALANCE),
            "live_balance": float(net),
            "collateral": 0,
            "intraday_payin": 0,
        },
        "utilised": {
            "debits": float(bound - earned),
            "exposure": 0,
            "m2m_realised": float(earned),
            "m2m_unrealised": 0,
            "option_premium": 0,
            "payout": 0,
            "span": 0,
            "holding_sales": 0,
            "turnover": 0,
            "liquid_collateral": 0,
            "stock_collateral": 0,
            "delivery": float(delivered) if is_traded else 0,
        },
    }


def margin_json(tradingsymbol: str, product: str, *, is_buy: bool, quantity: int, price: Decimal) -> dict[str, Any]:
    """What one order binds and costs, as /margins/orders tells."""
    rate = MARGIN_RATES[product]
    bound = float(price * quantity * rate)
    return _margin("equity", tradingsymbol, "NSE", bound, float(1 / rate)) | {
        "charges": charges_json(product, is_buy=is_buy, quantity=quantity, price=price)
    }


def basket_json(orders: Sequence[Mapping[str, Any]], *, is_compact: bool) -> dict[str, Any]:
    """What a basket binds, as /margins/basket tells: shares hedge nothing, so first and last are the same."""
    total = _margin("", "", "", sum(order["total"] for order in orders), 0)
    basket = {"initial": total, "final": total, "charges": _no_charges()}
    return basket | {"orders": [] if is_compact else list(orders)}


def charges_json(product: str, *, is_buy: bool, quantity: int, price: Decimal) -> dict[str, Any]:
    """What an order of equity costs besides its price."""
    turnover, is_delivery = price * quantity, product in _DELIVERY
    tax = turnover * _TAX[is_delivery, is_buy]
    exchange_charge, regulator_charge = turnover * _EXCHANGE_CHARGE, turnover * _REGULATOR_CHARGE
    brokerage = Decimal(0) if is_delivery else min(_MOST_BROKERAGE, turnover * _BROKERAGE)
    stamp = turnover * _STAMP[is_delivery] if is_buy else Decimal(0)
    gst = (brokerage + exchange_charge + regulator_charge) * _GST
    return {
        "transaction_tax": float(tax),
        "transaction_tax_type": "stt",
        "exchange_turnover_charge": float(exchange_charge),
        "sebi_turnover_charge": float(regulator_charge),
        "brokerage": float(brokerage),
        "stamp_duty": float(stamp),
        "gst": {"igst": float(gst), "cgst": 0, "sgst": 0, "total": float(gst)},
        "total": float(tax + exchange_charge + regulator_charge + brokerage + stamp + gst),
    }


def _no_charges() -> dict[str, Any]:
    return charges_json("CNC", is_buy=True, quantity=0, price=Decimal(0)) | {"transaction_tax_type": ""}


def _margin(kind: str, tradingsymbol: str, exchange: str, bound: float, leverage: float) -> dict[str, Any]:
    return {
        "type": kind,
        "tradingsymbol": tradingsymbol,
        "exchange": exchange,
        "span": 0,
        "exposure": 0,
        "option_premium": 0,
        "additional": 0,
        "bo": 0,
        "cash": 0,
        "var": bound,
        "pnl": {"realised": 0, "unrealised": 0},
        "leverage": leverage,
        "charges": _no_charges(),
        "total": bound,
    }
