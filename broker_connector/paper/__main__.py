"""A paper broker that speaks Kite Connect v3 over HTTP and WebSocket, on invented or recorded prices.

One set of options for `engine paper`, `engine process paper` and `python -m broker_connector.paper`.
"""

import argparse
import asyncio
import os
from collections.abc import Callable, Sequence
from datetime import datetime, time
from functools import partial
from pathlib import Path
from typing import Any

from broker_connector.paper.arranged import WithIndex, played_today
from broker_connector.paper.clock import MarketClock, utc_now
from broker_connector.paper.keeper import UnreadableState
from broker_connector.paper.orders import BookSettings
from broker_connector.paper.recorded import RecordedMarket
from broker_connector.paper.server import Config
from broker_connector.paper.serving import serve
from broker_connector.paper.symbols import INDEX, OPENING_UNITS
from broker_connector.paper.synthetic import ManualMarket, SyntheticMarket
from broker_connector.paper.tape import Market

#: The account there is when none is named.
DEFAULT_ACCOUNT = "PAPER1:paper-key:paper-secret:paper-token"


def parser(program: str) -> argparse.ArgumentParser:
    """The options of every way to start the paper broker."""
    options = argparse.ArgumentParser(prog=program, description=__doc__.splitlines()[0])
    add = options.add_argument
    add("--host", default="127.0.0.1", help="default %(default)s")
    add("--port", type=int, default=8300, help="default %(default)s; 0 for any free one, named when it is ready")
    add("--state", type=Path, metavar="FILE", help="where accounts, orders and holdings are kept for the next start")
    _add_market(options.add_argument_group("prices").add_argument)
    _add_accounts(options.add_argument_group("accounts").add_argument)
    _add_exchange(options.add_argument_group("the exchange").add_argument)
    return options


def _add_market(add: Callable[..., object]) -> None:
    add("--market", choices=("synthetic", "recorded", "manual"), help="synthetic unless --ticks is given")
    add(
        "--ticks", "--recorded-dir", dest="ticks", type=Path, metavar="DIR",
        help="DIR/SYMBOL.csv.gz with timestamp,ltp,volume; DIR's name is the date",
    )  # fmt: skip
    add("--symbols", default=",".join(OPENING_UNITS), help="of a synthetic or manual market")
    add("--index", action="store_true", help=f"list {INDEX} too, the mean of the symbols")
    add("--seed", type=int, default=0, help="of prices, of partial fills, and of the invented past")
    add("--step", type=float, default=1.0, help="market seconds between synthetic ticks")
    add("--real-anchor", type=_instant, metavar="ISO", help="real time at which market time starts to run")
    add("--market-anchor", type=_instant, metavar="ISO", help="market time until then")
    add("--speed", type=float, default=1.0, help="market seconds in a real second")


def _add_accounts(add: Callable[..., object]) -> None:
    user, key, secret, token = DEFAULT_ACCOUNT.split(":")
    add("--api-key", default=key, help="default %(default)s")
    add("--api-secret", default=secret, help="for logins and postbacks; default %(default)s")
    add("--access-token", default=token, help="default %(default)s")
    add("--user-id", default=user, help="default %(default)s")
    add(
        "--account", action="append", metavar="ID:API_KEY:API_SECRET:ACCESS_TOKEN",
        help="one of several accounts, instead of the four above",
    )  # fmt: skip
    add("--rate-limits", choices=("kite", "none"), default="kite", help="of requests; default %(default)s")
    add("--unlimited", action="store_const", dest="rate_limits", const="none", help="the same as --rate-limits none")


def _add_exchange(add: Callable[..., object]) -> None:
    add("--always-open", action="store_true", help="trade around the clock; a recorded session plays as today's")
    add(
        "--market-protection", choices=("required", "optional"), default="required",
        help="of MARKET and SL-M orders; default %(default)s, as at the broker since 2026-04-01",
    )  # fmt: skip
    add("--spread-ticks", type=int, default=0, help="from the last price to where a side trades")
    add("--fill-delay", type=float, default=0.0, help="market seconds")
    add("--partial-probability", type=float, default=0.0, help="share of orders that trade in parts")
    add("--max-chunks", type=int, default=4, help="parts at most")
    add("--rest-probability", type=float, default=0.0, help="share of market orders that rest as limit orders")
    add("--fault-rate", type=float, default=0.0, help="share of order requests that meet a fault, drawn by the seed")


def config_of(arguments: argparse.Namespace) -> Config:
    """The paper broker the options describe; raises ValueError."""
    settings = BookSettings(
        spread_ticks=arguments.spread_ticks,
        fill_delay=arguments.fill_delay,
        partial_probability=arguments.partial_probability,
        max_chunks=arguments.max_chunks,
        rest_probability=arguments.rest_probability,
        seed=arguments.seed,
        always_open=arguments.always_open,
        market_protection=arguments.market_protection == "required",
    )
    token = os.environ.get("PAPER_CONTROL_TOKEN", "")
    return Config(_market(arguments), settings, _clock(arguments), token, arguments.fault_rate, arguments.state)


def accounts_of(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The accounts the options name; raises ValueError."""
    limits: dict[str, Any] = {"limits": {}} if arguments.rate_limits == "none" else {}
    names = ("account_id", "api_key", "api_secret", "access_token")
    own = (arguments.user_id, arguments.api_key, arguments.api_secret, arguments.access_token)
    texts = [text.split(":") for text in arguments.account or ()]
    if any(len(words) != len(names) for words in texts):
        raise ValueError("--account takes ID:API_KEY:API_SECRET:ACCESS_TOKEN")
    return [dict(zip(names, words, strict=True)) | limits for words in texts or [own]]


def _market(arguments: argparse.Namespace) -> Market:
    kind = arguments.market or ("recorded" if arguments.ticks else "synthetic")
    if kind == "recorded":
        return _recorded(arguments)
    symbols = [name.strip() for name in arguments.symbols.split(",") if name.strip()]
    if kind == "manual":
        market: Market = ManualMarket(symbols, arguments.seed)
    else:
        hours = (time.min, time(23, 59, 59)) if arguments.always_open else (time(9, 15), time(15, 30))
        market = SyntheticMarket(arguments.seed, symbols, *hours, step=arguments.step)
    return WithIndex(market) if arguments.index else market


def _recorded(arguments: argparse.Namespace) -> Market:
    if arguments.ticks is None:
        raise ValueError("a recorded market needs --ticks DIR")
    directory = arguments.ticks.resolve()
    try:
        market = RecordedMarket(directory)
    except ValueError as error:
        raise ValueError(f"--ticks {directory}: its name must be the date it was recorded, as 2021-04-12") from error
    if arguments.always_open:
        return played_today(market, with_index=arguments.index)
    return WithIndex(market) if arguments.index else market


def _clock(arguments: argparse.Namespace) -> MarketClock | None:
    if arguments.real_anchor is None and arguments.market_anchor is None and arguments.speed == 1:
        return None
    real = arguments.real_anchor or utc_now()
    return MarketClock(real, arguments.market_anchor or real, arguments.speed)


def _instant(text: str) -> datetime:
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise argparse.ArgumentTypeError("a time needs its zone, as 2021-04-12T09:15:00+05:30")
    return instant


def main(words: Sequence[str] | None = None, program: str = "python -m broker_connector.paper") -> None:
    """Serve until SIGTERM or SIGINT; `words` are the options, those of the command line where absent."""
    options = parser(program)
    arguments = options.parse_args(words)
    try:
        config, accounts = config_of(arguments), accounts_of(arguments)
    except (ValueError, OSError) as error:
        options.error(str(error))
    try:
        asyncio.run(serve(config, arguments.host, arguments.port, accounts, partial(print, flush=True)))
    except UnreadableState as error:
        options.error(f"--state {error}")


if __name__ == "__main__":
    main()
