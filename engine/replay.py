"""A replay: the whole real stack over one market day on a scaled clock, and the report of how it ended.

The day is a recorded one, read here, or one that was invented: the engine cannot tell.
"""

import shlex
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from datetime import time as wall_time
from pathlib import Path

from engine import bootstrap
from engine.calendar import Calendar, Override, OverrideKind
from engine.clock import RealTime, Scale
from engine.config import MarketClock
from engine.domain.broker import Instrument
from engine.domain.orders import Order
from engine.domain.run import Run
from engine.domain.strategy import UnconfirmedYear
from engine.measures import durations
from engine.reports import (
    BrokerOrderReport,
    Distribution,
    LatencyReport,
    OrderReport,
    ReplayReport,
    StrategyReport,
)
from engine.stack.problems import EnvironmentProblem
from engine.strategies import Draft, StrategyFileError, check, parse
from engine.trading import Market, TradingStack
from models.repositories.bookkeeping import CalendarTable
from models.repositories.runs import Runs
from models.repositories.strategies import Strategies

#: How long before the earliest buy_time the clock starts, market time.
HEAD_START = timedelta(minutes=1)
#: How long the start is announced ahead, real time, and for each strategy: timers are written before it.
ANNOUNCED_AHEAD, AHEAD_EACH = timedelta(seconds=4), timedelta(milliseconds=20)
#: Real time the last records may take to be drained once every run is terminal or the session closed.
SETTLE_WITHIN = 15.0
#: A replay's accounts declare limits of their own, orders a second: the day is squeezed, the broker's limits are not.
RATES: Mapping[str, int] = {"second": 100_000}
#: Real seconds between two looks at the runs.
LOOK_EVERY = 0.5
#: The session of a recorded day.
OPENS, CLOSES = wall_time(9, 15), wall_time(15, 30)

EXCHANGE = "NSE"


@dataclass(frozen=True, slots=True)
class Day:
    """What is replayed: the market's date and the strategies that trade on it."""

    date: date
    drafts: Sequence[Draft]


def day_of(ticks: Path, strategies: Path) -> Day:
    """The recorded day under `ticks` with the strategies of a file; raises EnvironmentProblem, StrategyFileError."""
    try:
        market_date = date.fromisoformat(ticks.resolve().name)
    except ValueError:
        raise EnvironmentProblem(f"{ticks}: the folder's name must be the market date, as 2021-04-12") from None
    recorded = {f"{EXCHANGE}:{path.name.removesuffix('.csv.gz')}" for path in ticks.glob("*.csv.gz")}
    if not recorded:
        raise EnvironmentProblem(f"{ticks}: no SYMBOL.csv.gz in it")
    try:
        text = strategies.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise EnvironmentProblem(f"cannot read {strategies}: {error}") from None
    drafts = parse(text, str(strategies))
    absent = [f"{draft.where}: symbol: {draft.symbol} has no ticks in {ticks}" for draft in drafts]
    if wrong := [line for line, draft in zip(absent, drafts, strict=True) if draft.symbol not in recorded]:
        raise StrategyFileError(str(strategies), wrong)
    return Day(market_date, drafts)


def recorded_market(ticks: Path, day: Day) -> Market:
    """The market recorded under `ticks`."""
    return waiting_market(f"--market recorded --recorded-dir {shlex.quote(str(ticks.resolve()))}", day.date)


def waiting_market(options: str, market_date: date) -> Market:
    """A market of the paper broker whose clock stands still on `market_date` until it is announced."""
    anchor = f"--real-anchor 9999-01-01T00:00:00+00:00 --market-anchor {market_date}T00:00:00+05:30"
    return Market(f"{options} {anchor}", clock=MarketClock.SCALED, rates=RATES)


class Replay:
    """One replay on a started stack."""

    def __init__(self, stack: TradingStack, day: Day, speed: float, look_every: float = LOOK_EVERY) -> None:
        self._stack = stack
        self._look_every = look_every
        self._day = day
        self._speed = speed
        self._runs = Runs(stack.sessions)
        self._calendar = self._calendar_of_day()

    def prepare(self, instruments: Iterable[Instrument]) -> None:
        """Check and store the strategies, open their accounts; raises StrategyFileError, nothing stored."""
        listed = {instrument.symbol: instrument for instrument in instruments}
        wrong = check(self._day.drafts, listed, self._calendar, self._day.date)
        if wrong:
            raise StrategyFileError("the strategies file", wrong)
        for tenant in sorted({draft.tenant for draft in self._day.drafts}):
            self._stack.add_account(tenant)
        Strategies(self._stack.sessions).add(self._day.drafts)

    def run(self, progress: Callable[[datetime, Sequence[Run]], None]) -> ReplayReport:
        """Run the clock until every run is terminal or the session closes; tells `progress` at every look."""
        self._stack.wait_ready()
        real = RealTime()
        earliest = min(draft.buy_time for draft in self._day.drafts)
        start = self._calendar.to_utc(EXCHANGE, self._day.date, earliest) - HEAD_START
        ahead = ANNOUNCED_AHEAD + AHEAD_EACH * len(self._day.drafts)
        scale = Scale(real.now() + ahead, start, self._speed)
        self._stack.announce(scale)
        closes = self._calendar.to_utc(EXCHANGE, self._day.date, CLOSES)
        complete = self._wait(lambda: scale.at(real.now()).market, closes, progress)
        return self.report(complete=complete)

    def _wait(
        self, now: Callable[[], datetime], closes: datetime, progress: Callable[[datetime, Sequence[Run]], None]
    ) -> bool:
        deadline: float | None = None
        while True:
            runs = self._runs.of_date(self._day.date)
            progress(now(), runs)
            over = len(runs) == len(self._day.drafts) and all(run.is_terminal for run in runs)
            if over and self._is_drained():
                return True
            if now() >= closes:
                deadline = deadline or time.monotonic() + SETTLE_WITHIN
                if time.monotonic() > deadline:
                    return False
            self._stack.revive()
            time.sleep(self._look_every)

    def _is_drained(self) -> bool:
        """Whether the history shows every run's last record: all rows ended, none only flat."""
        return all(run.status.value != "active" for run in self._runs.of_date(self._day.date))

    def report(self, *, complete: bool) -> ReplayReport:
        """What became of every strategy, and of every order at the broker."""
        runs = {run.strategy.name + "\0" + run.strategy.tenant: run for run in self._runs.of_date(self._day.date)}
        took = [durations(stages) for run in runs.values() for stages in self._runs.stages(run.id).values()]
        book = self._stack.paper.ledger()
        fields = set(BrokerOrderReport.model_fields)
        return ReplayReport(
            complete=complete,
            market_date=self._day.date,
            speed=self._speed,
            strategies=[
                strategy_report(draft, runs.get(draft.name + "\0" + draft.tenant)) for draft in self._day.drafts
            ],
            broker_orders=[
                BrokerOrderReport.model_validate(
                    {name: value for name, value in row.items() if name in fields}
                    | {"symbol": row["symbol"].partition(":")[2]}
                )
                for row in book
            ],
            latency_ms=LatencyReport(
                tick_to_order=distribution(each.tick_to_order for each in took),
                timer_lateness=distribution(each.timer_lateness for each in took),
            ),
        )

    def _calendar_of_day(self) -> Calendar:
        """A recorded day was traded, whatever a holiday list says of it."""
        table = CalendarTable(self._stack.sessions)
        try:
            known = Calendar().session(EXCHANGE, self._day.date)
        except UnconfirmedYear:
            known = None
        if known is None:
            note = "recorded: it was traded"
            table.override(Override(EXCHANGE, self._day.date, OverrideKind.SPECIAL, OPENS, CLOSES, note))
        return bootstrap.calendar(self._stack.settings, self._stack.sessions)


def strategy_report(draft: Draft, run: Run | None) -> StrategyReport:
    """What became of one strategy; one that never got a run is told as it stands."""
    orders = run.orders if run is not None else ()
    return StrategyReport.model_validate(
        {
            "name": draft.name,
            "tenant": draft.tenant,
            "symbol": draft.symbol.partition(":")[2],
            "status": run.status if run is not None else "active",
            "position": run.position if run is not None else "none",
            "exit_reason": run.exit_reason if run is not None else None,
            "orders": [order_report(order) for order in orders],
        }
    )


def order_report(order: Order) -> OrderReport:
    """One order as our history has it."""
    return OrderReport(
        client_order_id=order.client_order_id,
        leg=order.leg,
        side=order.side,
        quantity=order.quantity,
        filled_quantity=order.filled_quantity,
        average_price=order.average_price,
        status=order.status,
        market_time=order.filled_at,
    )


def distribution(measured: Iterable[float | None]) -> Distribution:
    """Median and 99th percentile over the orders that have it; nearest rank."""
    values = sorted(value for value in measured if value is not None)
    if not values:
        return Distribution(p50=None, p99=None, n=0)

    def rank(fraction: float) -> float:
        return values[min(int(fraction * len(values)), len(values) - 1)]

    return Distribution(p50=rank(0.50), p99=rank(0.99), n=len(values))
