"""`python -m broker_connector.paper`: the paper broker as a process. See --help for its options."""

import argparse
import asyncio
import os
from datetime import datetime, time
from functools import partial
from pathlib import Path
from typing import Any

from broker_connector.paper.book import BookSettings
from broker_connector.paper.clock import MarketClock, utc_now
from broker_connector.paper.recorded import RecordedMarket
from broker_connector.paper.server import Config
from broker_connector.paper.serving import serve
from broker_connector.paper.symbols import OPENING_UNITS
from broker_connector.paper.synthetic import ManualMarket, SyntheticMarket
from broker_connector.paper.tape import Market

#: The account there is when none is named.
DEFAULT_ACCOUNT = "PAPER1:paper-key:paper-secret:paper-token"


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(prog="python -m broker_connector.paper", description=__doc__)
    add = options.add_argument
    add("--host", default="127.0.0.1")
    add("--port", type=int, default=8300, help="0 for any free one; the line printed when ready names it")
    add("--market", choices=("synthetic", "recorded", "manual"), default="synthetic")
    add("--recorded-dir", type=Path, metavar="DIR", help="DIR/SYMBOL.csv.gz; its name is the market date")
    add("--symbols", default=",".join(OPENING_UNITS), help="of a synthetic or manual market")
    add("--seed", type=int, default=0, help="of prices and of partial fills")
    add("--step", type=float, default=1.0, help="market seconds between synthetic ticks")
    add("--account", action="append", metavar="ID:API_KEY:API_SECRET:ACCESS_TOKEN", help="may be repeated")
    add("--unlimited", action="store_true", help="no rate limits for these accounts")
    add("--real-anchor", type=_instant, metavar="ISO", help="real time at which market time starts to run")
    add("--market-anchor", type=_instant, metavar="ISO", help="market time until then")
    add("--speed", type=float, default=1.0, help="market seconds in a real second")
    add("--spread-ticks", type=int, default=0)
    add("--fill-delay", type=float, default=0.0, help="market seconds")
    add("--partial-probability", type=float, default=0.0)
    add("--max-chunks", type=int, default=4)
    add("--rest-probability", type=float, default=0.0, help="share of market orders that rest as limit orders")
    add("--always-open", action="store_true", help="take orders and invent prices around the clock")
    return options


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
    )
    return Config(_market(arguments), settings, _clock(arguments), os.environ.get("PAPER_CONTROL_TOKEN", ""))


def accounts_of(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The accounts the options name; raises ValueError."""
    limits: dict[str, Any] = {"limits": {}} if arguments.unlimited else {}
    names = ("account_id", "api_key", "api_secret", "access_token")
    texts = arguments.account or [DEFAULT_ACCOUNT]
    return [dict(zip(names, text.split(":"), strict=True)) | limits for text in texts]


def _market(arguments: argparse.Namespace) -> Market:
    symbols = [name.strip() for name in arguments.symbols.split(",") if name.strip()]
    match arguments.market:
        case "recorded":
            if arguments.recorded_dir is None:
                raise ValueError("a recorded market needs --recorded-dir")
            return RecordedMarket(arguments.recorded_dir)
        case "manual":
            return ManualMarket(symbols, arguments.seed)
        case _:
            hours = (time.min, time(23, 59, 59)) if arguments.always_open else (time(9, 15), time(15, 30))
            return SyntheticMarket(arguments.seed, symbols, *hours, step=arguments.step)


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


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    options = parser()
    arguments = options.parse_args()
    try:
        config, accounts = config_of(arguments), accounts_of(arguments)
    except (ValueError, FileNotFoundError) as error:
        options.error(str(error))
    asyncio.run(serve(config, arguments.host, arguments.port, accounts, partial(print, flush=True)))


if __name__ == "__main__":
    main()
