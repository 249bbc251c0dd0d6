"""Instruments, quotes, trigger ranges and candles over HTTP."""

from datetime import datetime
from itertools import chain
from typing import Any

from broker_connector.kite_words import IST
from broker_connector.paper import candles, quotes
from broker_connector.paper.errors import bad_input
from broker_connector.paper.operations import HISTORICAL, QUOTE, Asked, Csv, Operation


def instruments(asked: Asked) -> Any:
    """GET /instruments and /instruments/{exchange}."""
    return Csv(quotes.instruments_csv(asked.exchange, asked.path.get("exchange", "")))


def quote(asked: Asked) -> Any:
    """GET /quote, /quote/ohlc and /quote/ltp; unknown symbols are left out."""
    shape = asked.path.get("shape", "full")
    return quotes.quote_json(asked.exchange, asked.query.get("i", ()), shape, asked.now)


def trigger_range(asked: Asked) -> Any:
    """GET /instruments/trigger_range/{side}: where a cover order's stop may be."""
    side = asked.path["side"]
    if side not in {"buy", "sell"}:
        raise bad_input("Invalid `transaction_type`: buy or sell.")
    return quotes.ranges_json(asked.exchange, asked.query.get("i", ()), is_buy=side == "buy")


def historical(asked: Asked) -> Any:
    """GET /instruments/historical/{token}/{interval}."""
    minutes, most_days = candles.INTERVALS.get(asked.path["interval"], (0, 0))
    if not minutes:
        raise bad_input("Invalid `interval`.")
    token = asked.path["token"]
    listing = asked.exchange.by_token.get(int(token)) if token.isdecimal() else None
    if listing is None:
        raise bad_input("Invalid `instrument_token`.")
    first, last = _moment(asked.first("from")), _moment(asked.first("to"))
    if first > last:
        raise bad_input("`from` date cannot be after `to` date.")
    if (last.date() - first.date()).days > most_days:
        raise bad_input(f"Interval exceeds max limit: {most_days} days.")
    exchange, today = asked.exchange, asked.exchange.day
    until = min(last, asked.now.astimezone(IST))
    old = candles.past(listing.name, exchange.settings.seed, exchange.close(listing.token), first.date(), today)
    trades = chain(old, exchange.trades(listing.token) if until.date() >= today else ())
    span = first.timestamp(), until.timestamp()
    found = candles.fold((trade for trade in trades if span[0] <= trade.at <= span[1]), minutes)
    return {"candles": [candles.candle_json(each, with_interest=asked.first("oi") == "1") for each in found]}


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise bad_input("Invalid `from` or `to` date: yyyy-mm-dd HH:MM:SS.") from None
    return moment.replace(tzinfo=IST) if moment.tzinfo is None else moment.astimezone(IST)


OPERATIONS = (
    Operation("instruments", "GET", "/instruments", instruments),
    Operation("instruments", "GET", "/instruments/{exchange}", instruments),
    Operation("trigger_range", "GET", "/instruments/trigger_range/{side}", trigger_range),
    Operation("historical", "GET", "/instruments/historical/{token}/{interval}", historical, HISTORICAL),
    Operation("quote", "GET", "/quote", quote, QUOTE),
    Operation("quote", "GET", "/quote/{shape}", quote, QUOTE),
)
