"""Replays as a user runs them: a recorded day written to files, the `engine replay` command, and what must hold."""

import gzip
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from engine.reports import ReplayReport, StrategyReport

ROOT = Path(__file__).parents[1]
#: Recorded days kept beside the project, where there are any.
DATA = ROOT.parent / "shared" / "data"
IST = timezone(timedelta(hours=5, minutes=30))
DAY = date(2021, 4, 12)
#: How many real seconds after its cause an exit may be filled.
EXIT_WITHIN = 1.0
#: Seconds the command may take besides the market's own time: servers, processes, settling.
OVERHEAD = 90.0


@dataclass(frozen=True)
class Ending:
    """How a strategy must end: its position, and the market time of what causes its exit."""

    position: str
    at: datetime


def moment(text: str) -> datetime:
    """A wall time of the day at the exchange, as 09:40:07."""
    return datetime.combine(DAY, datetime.strptime(text, "%H:%M:%S").time(), IST)  # noqa: DTZ007 - the zone is IST


def seconds(first: str, last: str) -> list[datetime]:
    """Every second from `first` to `last`, both included."""
    start, end = moment(first), moment(last)
    return [start + timedelta(seconds=n) for n in range(int((end - start).total_seconds()) + 1)]


def row(at: datetime, price: float, volume: int = 100) -> str:
    """One healthy row."""
    return f"{at:%Y-%m-%d %H:%M:%S},{price:.2f},{volume}"


def write_day(root: Path, files: Mapping[str, Iterable[str]]) -> Path:
    """A folder of `DAY` with SYMBOL.csv.gz for each of `files`."""
    folder = root / DAY.isoformat()
    folder.mkdir()
    for symbol, rows in files.items():
        with gzip.open(folder / f"{symbol}.csv.gz", "wt", encoding="utf-8") as file:
            file.write("\n".join(["timestamp,ltp,volume", *rows, ""]))
    return folder


def strategy(
    name: str, symbol: str, stop: str, buy: str, sell: str, tenant: str = "acme", **more: Any
) -> dict[str, Any]:
    """One strategy as its file has it."""
    times = {"buy_time": buy, "sell_time": sell}
    return {"name": name, "tenant": tenant, "symbol": symbol, "quantity": 10, "stop_loss": stop, **times, **more}


def write_strategies(root: Path, strategies: Sequence[Mapping[str, Any]]) -> Path:
    """A strategies file."""
    path = root / "strategies.json"
    path.write_text(json.dumps(strategies), encoding="utf-8")
    return path


def command(ticks: Path, strategies: Path, report: Path, speed: float) -> list[str]:
    """`engine replay` of this environment."""
    engine = Path(sys.executable).parent / "engine"
    files = ["--ticks", str(ticks), "--strategies", str(strategies), "--report", str(report)]
    return [str(engine), "replay", *files, "--speed", str(speed)]


def environment(scratch: Path) -> dict[str, str]:
    """The command's environment: its temporary files under `scratch`, no server given."""
    return {name: value for name, value in os.environ.items() if name not in {"REDIS_URL", "DATABASE_URL"}} | {
        "TMPDIR": str(scratch)
    }


def replay(ticks: Path, strategies: Path, scratch: Path, report: Path, *, speed: float, market: float) -> ReplayReport:
    """Replay `market` market seconds at most, and read the report it wrote."""
    ended = subprocess.run(
        command(ticks, strategies, report, speed),
        env=environment(scratch),
        capture_output=True,
        text=True,
        timeout=market / speed + OVERHEAD,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert list(scratch.iterdir()) == []
    return ReplayReport.model_validate_json(report.read_bytes())


def assert_endings(report: ReplayReport, expected: Mapping[str, Ending], within: float = EXIT_WITHIN) -> None:
    """Every strategy ended as it must, its exit filled within so many real seconds of its cause and not before it."""
    assert report.complete
    assert {told.name: told.position.value for told in report.strategies} == {
        name: ending.position for name, ending in expected.items()
    }
    assert {told.name for told in report.strategies if told.status != "stopped"} == set()
    # Fills are stamped in whole seconds.
    late = {
        told.name: (exited_at(told) - expected[told.name].at).total_seconds() / report.speed
        for told in report.strategies
    }
    assert {name: by for name, by in late.items() if not -1 / report.speed < by <= within} == {}


def exited_at(told: StrategyReport) -> datetime:
    """Market time of a strategy's exit."""
    (at,) = [order.market_time for order in told.orders if order.leg == "exit" and order.filled_quantity]
    assert at is not None
    return at


def assert_one_buy_and_one_sell(report: ReplayReport) -> None:
    """The broker's own book: each strategy bought once and sold once, whole, and no order besides."""
    filled: defaultdict[str, list[tuple[str, int, str]]] = defaultdict(list)
    tag_of = {order.client_order_id: told for told in report.strategies for order in told.orders}
    for order in report.broker_orders:
        told = tag_of[order.tag]
        assert (order.account, order.symbol) == (told.tenant, told.symbol)
        filled[told.name].append((order.side.value, order.filled_quantity, order.status.value))
    quantity = {told.name: told.orders[0].quantity for told in report.strategies}
    assert filled == {name: [("buy", q, "filled"), ("sell", q, "filled")] for name, q in quantity.items()}


def assert_history_is_the_brokers(report: ReplayReport) -> None:
    """Our history and the broker's book tell the same of every order."""
    ours = {
        order.client_order_id: (
            told.symbol,
            order.side,
            order.quantity,
            order.filled_quantity,
            order.average_price,
            order.status,
        )
        for told in report.strategies
        for order in told.orders
    }
    book = {
        order.tag: (order.symbol, order.side, order.quantity, order.filled_quantity, order.average_price, order.status)
        for order in report.broker_orders
    }
    assert len(book) == len(report.broker_orders)
    assert ours == book
