"""The paper broker's market data over HTTP: the instruments dump and quotes, in the broker's shapes."""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from broker_connector.kite_words import IST
from broker_connector.paper.clock import naive_ist
from broker_connector.paper.exchange import Exchange
from broker_connector.paper.symbols import EXCHANGE, TICK_UNITS, Listing, money
from broker_connector.ticker import DepthRow, decode, pack_frame

#: How far from the close of the day before a price may go, fraction.
BAND = 0.2

_HEADER = (
    "instrument_token,exchange_token,tradingsymbol,name,last_price,expiry,strike,tick_size,lot_size,"
    "instrument_type,segment,exchange"
)
#: How far from the last price a cover order's stop may be, fraction.
_COVER_RANGE = 0.1


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
    """Quotes of "EXCHANGE:SYMBOL" names or tokens in the given shape; the unknown and never traded are left out."""
    build = _SHAPES.get(shape, _full)
    return {name: build(exchange, listing, now) for name, listing in _traded(exchange, names)}


def ranges_json(exchange: Exchange, names: Sequence[str], *, is_buy: bool) -> dict[str, Any]:
    """Where the stop of a cover order may be: below the market for one that buys, above it for one that sells."""
    return {name: _range(listing, exchange.last[listing.token], is_buy) for name, listing in _traded(exchange, names)}


def _traded(exchange: Exchange, names: Sequence[str]) -> Iterator[tuple[str, Listing]]:
    for name in names:
        listing = exchange.by_token.get(int(name)) if name.isdecimal() else exchange.by_name.get(name.partition(":")[2])
        if listing is not None and listing.token in exchange.last and name in {listing.key, str(listing.token)}:
            yield name, listing


def _range(listing: Listing, last: Decimal, is_buy: bool) -> dict[str, Any]:
    away = round(float(last) * (1 - _COVER_RANGE if is_buy else 1 + _COVER_RANGE), 2)
    lower, upper = sorted((away, float(last)))
    return {"instrument_token": listing.token, "lower": lower, "upper": upper}


def _instrument(listing: Listing) -> tuple[Any, ...]:
    words = (listing.token, listing.token >> 8, listing.name, listing.name, "0.0", "", "0.0")
    if listing.is_index:
        return (*words, "0.0", 0, "EQ", "INDICES", EXCHANGE)
    return (*words, listing.tick_size, 1, "EQ", EXCHANGE, EXCHANGE)


def _ltp(exchange: Exchange, listing: Listing, _now: datetime) -> dict[str, Any]:
    return {"instrument_token": listing.token, "last_price": float(exchange.last[listing.token])}


def _ohlc(exchange: Exchange, listing: Listing, now: datetime) -> dict[str, Any]:
    day = exchange.encoder(listing.token).day
    units = {"open": day.open, "high": day.high, "low": day.low, "close": day.close}
    return _ltp(exchange, listing, now) | {"ohlc": {name: float(money(price)) for name, price in units.items()}}


def _full(exchange: Exchange, listing: Listing, now: datetime) -> dict[str, Any]:
    """What the last packet of full mode told, which is where a quote and a tick cannot disagree."""
    body = exchange.snapshot(listing.token)
    (packet,) = decode(pack_frame([body or b""])).packets
    close = packet.ohlc.close
    told = _ohlc(exchange, listing, now) | {
        "timestamp": naive_ist(now),
        "net_change": 0,
        "lower_circuit_limit": _circuit(close, 1 - BAND),
        "upper_circuit_limit": _circuit(close, 1 + BAND),
    }
    if listing.is_index:
        return told
    return told | {
        "last_trade_time": naive_ist(datetime.fromtimestamp(packet.last_trade_time, IST)),
        "last_quantity": packet.last_quantity,
        "buy_quantity": packet.buy_quantity,
        "sell_quantity": packet.sell_quantity,
        "volume": packet.volume,
        "average_price": float(money(packet.average_price)),
        "oi": 0,
        "oi_day_high": 0,
        "oi_day_low": 0,
        "depth": {"buy": [*map(_level, packet.bids)], "sell": [*map(_level, packet.asks)]},
    }


def _level(row: DepthRow) -> dict[str, Any]:
    return {"price": float(money(row.price)), "quantity": row.quantity, "orders": row.orders}


def _circuit(close: int, factor: float) -> float:
    return float(money(round(close * factor / TICK_UNITS) * TICK_UNITS))


_SHAPES: dict[str, Callable[[Exchange, Listing, datetime], dict[str, Any]]] = {"ltp": _ltp, "ohlc": _ohlc}
