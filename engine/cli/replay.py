"""`engine replay`: a recorded day through the whole real stack, with servers of its own."""

import tempfile
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from cryptography.fernet import Fernet

from broker_connector.registry import Credentials, connect
from engine.calendar import ZONES
from engine.cli import DONE
from engine.cli.output import console, print_json, status_line
from engine.domain.run import Run
from engine.replay import EXCHANGE, Day, Replay, day_of, recorded_market
from engine.reports import ReplayReport, write_atomically
from engine.stack.problems import EnvironmentProblem
from engine.trading import Market, TradingStack

#: The paper broker's own account, for looking only.
VISITOR = Credentials("paper-key", "paper-token")


def run(ticks: Path, strategies: Path, report: Path, speed: float, *, as_json: bool) -> int:
    """Replay, write the report, print its summary; 0 where it ran to the end, whatever the strategies did."""
    if not report.parent.is_dir():
        raise EnvironmentProblem(f"cannot write {report}: {report.parent} is not a folder")
    day = day_of(ticks, strategies)
    with tempfile.TemporaryDirectory(prefix="engine-replay-") as directory:
        told = _replay(Path(directory), recorded_market(ticks, day), day, speed)
    write_atomically(report, told.model_dump_json(indent=2) + "\n")
    if as_json:
        print_json({**_summary(told), "report": str(report)})
    else:
        for name, value in _summary(told).items():
            console.print(f"{name.replace('_', ' ')}: {value}", highlight=False)
        console.print(f"report: {report}", highlight=False)
    return DONE


def _replay(directory: Path, market: Market, day: Day, speed: float) -> ReplayReport:
    say, done = status_line()
    try:
        with TradingStack(directory, market, Fernet.generate_key().decode(), say=say) as stack:
            replay = Replay(stack, day, speed)
            visitor = connect("paper", stack.paper.base_url, VISITOR)
            replay.prepare(visitor.instruments(EXCHANGE))
            visitor.close()

            def progress(now: datetime, runs: Sequence[Run]) -> None:
                ended = sum(each.is_terminal for each in runs)
                held = sum(each.held > 0 for each in runs)
                at = now.astimezone(ZONES[EXCHANGE])
                say(f"market time {at:%H:%M:%S}: {held} held, {ended} of {len(day.drafts)} ended")

            return replay.run(progress)
    finally:
        done()


def _summary(report: ReplayReport) -> dict[str, object]:
    positions = Counter(strategy.position.value for strategy in report.strategies)
    latency = report.latency_ms
    return {
        "complete": report.complete,
        "strategies": len(report.strategies),
        **dict(positions),
        "orders_at_the_broker": len(report.broker_orders),
        "tick_to_order_ms": f"p50 {latency.tick_to_order.p50}, p99 {latency.tick_to_order.p99}",
        "timer_lateness_ms": f"p50 {latency.timer_lateness.p50}, p99 {latency.timer_lateness.p99}",
    }
