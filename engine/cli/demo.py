"""`engine demo`: an invented day through the whole real stack, shown live, and judged by what its prices say."""

import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from cryptography.fernet import Fernet

from broker_connector.registry import Credentials, connect
from engine.calendar import ZONES
from engine.cli import DONE, FAILED
from engine.cli.live import Board
from engine.cli.output import console, print_json, print_rows, status_line
from engine.demo import Failure, Plan, failures, plan, profit
from engine.domain.run import Position, Run, RunStatus
from engine.replay import EXCHANGE, Replay
from engine.reports import ReplayReport
from engine.trading import TradingStack

#: The paper broker's own account, for looking only.
VISITOR = Credentials("paper-key", "paper-token")
#: Real seconds between two pictures.
DRAW_EVERY = 0.25


def run(seed: int, strategies: int, *, as_json: bool) -> int:
    """Play the day; 0 where every strategy ended as its prices say, 1 where one did not."""
    began = time.monotonic()
    planned = plan(seed, strategies)
    with tempfile.TemporaryDirectory(prefix="engine-demo-") as directory:
        report = _play(Path(directory), planned, quiet=as_json)
    wrong = failures(planned, report)
    summary = _summary(planned, report, wrong) | {"took_seconds": round(time.monotonic() - began, 1)}
    if as_json:
        print_json(summary)
    else:
        _tell(planned, report, wrong, summary)
    return FAILED if wrong or not report.complete else DONE


def _play(directory: Path, planned: Plan, *, quiet: bool) -> ReplayReport:
    say, done = status_line()
    try:
        with TradingStack(directory, planned.market, Fernet.generate_key().decode(), say=say) as stack:
            replay = Replay(stack, planned.day, planned.speed, DRAW_EVERY)
            visitor = connect("paper", stack.paper.base_url, VISITOR)
            replay.prepare(visitor.instruments(EXCHANGE))
            visitor.close()
            stack.wait_ready()
            if quiet or not console.is_terminal:
                return replay.run(_hourly(say, len(planned.drafts)))
            done()
            with Board(console, stack.redis, planned, stack.paper_market) as board:
                report = replay.run(board.show)
            say, done = status_line()
            say("stopping the processes")
            return report
    finally:
        done()


def _hourly(say: Callable[[str], None], count: int) -> Callable[[datetime, Sequence[Run]], None]:
    told: set[str] = set()

    def progress(now: datetime, runs: Sequence[Run]) -> None:
        hour = f"{now.astimezone(ZONES[EXCHANGE]):%H}:00"
        if hour not in told:
            told.add(hour)
            ended = sum(each.is_terminal for each in runs)
            held = sum(each.held > 0 for each in runs)
            say(f"{hour} market time: {held} held, {ended} of {count} ended")

    return progress


def _summary(planned: Plan, report: ReplayReport, wrong: Sequence[Failure]) -> dict[str, object]:
    ended = Counter(strategy.position for strategy in report.strategies)
    gains: defaultdict[str, Decimal] = defaultdict(Decimal)
    for strategy in report.strategies:
        gains[strategy.tenant] += profit(strategy)
    return {
        "as_expected": not wrong and report.complete,
        "seed": planned.seed,
        "market_date": report.market_date,
        "speed": report.speed,
        "strategies": len(report.strategies),
        "bought": len(report.strategies) - ended[Position.NONE],
        "sold": ended[Position.SOLD],
        "stopped_out": ended[Position.EXITED_BY_SL],
        "missed": sum(strategy.status is RunStatus.MISSED for strategy in report.strategies),
        "orders_at_the_broker": len(report.broker_orders),
        "profit": {tenant: f"{gains[tenant]:.2f}" for tenant in sorted(gains)},
        "total_profit": f"{sum(gains.values(), Decimal(0)):.2f}",
        "latency_ms": report.latency_ms.model_dump(),
        "failures": [asdict(failure) for failure in wrong],
    }


def _tell(planned: Plan, report: ReplayReport, wrong: Sequence[Failure], summary: Mapping[str, object]) -> None:
    print_rows(
        "Tenants", _tenant_rows(report), ("tenant", "strategies", "stopped_out", "sold", "profit"), as_json=False
    )
    latency = report.latency_ms
    for name in ("strategies", "bought", "sold", "stopped_out", "missed", "orders_at_the_broker", "took_seconds"):
        console.print(f"{name.replace('_', ' ')}: {summary[name]}", highlight=False)
    for label, told in (("tick to order", latency.tick_to_order), ("timer lateness", latency.timer_lateness)):
        console.print(f"{label}: p50 {told.p50} ms, p99 {told.p99} ms, of {told.n}", highlight=False)
    if wrong:
        rows = [asdict(failure) for failure in wrong]
        print_rows("Not as their prices say", rows, ("tenant", "name", "expected", "actual"), as_json=False)
    elif report.complete:
        console.print(
            f"All {len(planned.drafts)} strategies ended as their prices say.", style="green", highlight=False
        )
    if not report.complete:
        console.print("The session closed before every run had ended.", style="red")


def _tenant_rows(report: ReplayReport) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for tenant in sorted({strategy.tenant for strategy in report.strategies}):
        own = [strategy for strategy in report.strategies if strategy.tenant == tenant]
        ended = Counter(strategy.position for strategy in own)
        rows.append(
            {
                "tenant": tenant,
                "strategies": len(own),
                "stopped_out": ended[Position.EXITED_BY_SL],
                "sold": ended[Position.SOLD],
                "profit": f"{sum(map(profit, own), Decimal(0)):.2f}",
            }
        )
    return rows
