"""The demo's live picture: strategies with what they hold, and how far the day is. Knows how to look, no more."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from types import TracebackType
from typing import Self

from redis.client import Redis
from redis.exceptions import RedisError
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from engine.calendar import ZONES
from engine.demo import Plan, at
from engine.domain.run import Position, Run, RunStatus
from engine.domain.ticks import from_units
from engine.replay import CLOSES, EXCHANGE, OPENS
from engine.runtime import keys

#: Integer price units in 1 of money at this exchange.
SCALE = 100
#: Lines of the terminal the table cannot have: its frame, the title, the progress.
OTHER_LINES = 8
STYLES = {Position.BOUGHT: "cyan", Position.SOLD: "green", Position.EXITED_BY_SL: "yellow", Position.NONE: "dim"}


class Board:
    """`with Board(...) as board:` keeps the terminal until the block ends; `show` draws it anew."""

    def __init__(self, console: Console, redis: "Redis", planned: Plan, market: str) -> None:
        self._console = console
        self._redis = redis
        self._market = market
        self._count = len(planned.drafts)
        self._symbols = sorted({draft.symbol for draft in planned.drafts})
        self._opens, self._closes = at(OPENS), at(CLOSES)
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, now: datetime, runs: Sequence[Run]) -> None:
        """Draw the runs as they stand at market time `now`."""
        prices = self._prices()
        table = Table(title=self._headline(now, runs), title_justify="left", header_style="bold", expand=True)
        for column in ("tenant", "strategy", "symbol", "stop", "last price", "position", "status"):
            table.add_column(column, justify="right" if column in ("stop", "last price") else "left", no_wrap=True)
        room = max(5, self._console.height - OTHER_LINES)
        for run in _most_telling(runs)[:room]:
            table.add_row(*_row(run, prices.get(run.strategy.symbol)), style=STYLES[run.position])
        left = len(runs) - room
        span = (self._closes - self._opens).total_seconds()
        bar = ProgressBar(total=span, completed=max(0.0, (now - self._opens).total_seconds()))
        self._live.update(Group(table, Text(f"and {left} more" if left > 0 else ""), bar), refresh=True)

    def _headline(self, now: datetime, runs: Sequence[Run]) -> str:
        held = sum(run.held > 0 for run in runs)
        out = sum(run.position is Position.EXITED_BY_SL for run in runs)
        sold = sum(run.position is Position.SOLD for run in runs)
        told = f"{held} held, {out} stopped out, {sold} sold, of {self._count}"
        return f"market time {now.astimezone(ZONES[EXCHANGE]):%Y-%m-%d %H:%M:%S}: {told}"

    def _prices(self) -> dict[str, Decimal]:
        try:
            with self._redis.pipeline(transaction=False) as pipe:
                for symbol in self._symbols:
                    pipe.hget(keys.price(self._market, symbol), "price")
                units = pipe.execute()
        except RedisError:
            # The picture can wait: whoever must act on a lost Redis does.
            return {}
        found = zip(self._symbols, units, strict=True)
        return {symbol: from_units(int(price), SCALE) for symbol, price in found if price is not None}


def _row(run: Run, price: Decimal | None) -> Iterable[str]:
    strategy = run.strategy
    yield strategy.tenant
    yield strategy.name
    yield strategy.symbol.partition(":")[2]
    yield f"{strategy.stop_loss:.2f}"
    yield f"{price:.2f}" if price is not None else ""
    yield f"{run.position} {run.held}" if run.held else run.position
    yield run.failure or run.status


def _most_telling(runs: Sequence[Run]) -> list[Run]:
    """What went wrong and what is held first, then what is to come, then what is over."""

    def rank(run: Run) -> tuple[int, int]:
        if run.status in (RunStatus.FAILED, RunStatus.MISSED):
            return 0, run.id.strategy_id
        order = {Position.BOUGHT: 1, Position.NONE: 2}.get(run.position, 3)
        return order, run.id.strategy_id

    return sorted(runs, key=rank)
