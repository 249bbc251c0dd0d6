"""The paper broker's market data over HTTP: the instruments dump and quotes, in the broker's shapes."""

import csv
import io
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from broker_connector.paper.clock import naive_ist
from broker_connector.paper.exchange import Exchange
from broker_connector.paper.symbols import EXCHANGE, TICK_UNITS, Listing, money

#: How far from the close of the day before a price may go, fraction.
BAND = 0.2

_HEADER = (
    "instrument_token,exchange_token,tradingsymbol,name,last_price,expiry,strike,tick_size,lot_size,"
    "instrument_type,segment,exchange"
)
_NO_DEPTH = {"price": 0, "quantity": 0, "orders": 0}


def instruments_csv(exchange: Exchange, wanted: str) -> str:
    """The dump of one stock exchange, or of all for ""."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_HEADER.split(","))
    for listing in exchange.by_token.values():
        if wanted in {"", EXCHANGE}:
            writer.writerow(_instrument(listing))
    return out.getvalue()


def quote_json(exchange: Exchange, names: Sequence[str], shape: str, now: datetime) -> dict[str, Any]:
    """Quotes of "EXCHANGE:SYMBOL" names in the given shape; unknown and never traded symbols are left out."""
    build = _SHAPES.get(shape, _full)
    listed = {listing.key: listing for listing in exchange.by_token.values()}
    known = [(name, listed[name]) for name in names if name in listed]
    return {name: build(exchange, listing, now) for name, listing in known if listing.token in exchange.last}


def _instrument(listing: Listing) -> tuple[Any, ...]:
    return (
        listing.token, listing.token >> 8, listing.name, listing.name, "0.0", "", "0.0", listing.tick_size, 1,
        "EQ", EXCHANGE, EXCHANGE,
    )  # fmt: skip


def _ltp(exchange: Exchange, listing: Listing, _now: datetime) -> dict[str, Any]:
    return {"instrument_token": listing.token, "last_price": float(exchange.last[listing.token])}


def _ohlc(exchange: Exchange, listing: Listing, now: datetime) -> dict[str, Any]:
    day = exchange.encoder(listing.token).day
    units = {"open": day.open, "high": day.high, "low": day.low, "close": day.close}
    return _ltp(exchange, listing, now) | {"ohlc": {name: float(money(price)) for name, price in units.items()}}


def _full(exchange: Exchange, listing: Listing, now: datetime) -> dict[str, Any]:
    close = exchange.encoder(listing.token).day.close
    at = naive_ist(now)
    return _ohlc(exchange, listing, now) | {
        "timestamp": at,
        "last_trade_time": at,
        "last_quantity": 1,
        "buy_quantity": 0,
        "sell_quantity": 0,
        "volume": 0,
        "average_price": float(exchange.last[listing.token]),
        "oi": 0,
        "oi_day_high": 0,
        "oi_day_low": 0,
        "net_change": 0,
        "lower_circuit_limit": _circuit(close, 1 - BAND),
        "upper_circuit_limit": _circuit(close, 1 + BAND),
        "depth": {"buy": [_NO_DEPTH] * 5, "sell": [_NO_DEPTH] * 5},
    }


def _circuit(close: int, factor: float) -> float:
    return float(money(round(close * factor / TICK_UNITS) * TICK_UNITS))


_SHAPES: dict[str, Callable[[Exchange, Listing, datetime], dict[str, Any]]] = {"ltp": _ltp, "ohlc": _ohlc}
