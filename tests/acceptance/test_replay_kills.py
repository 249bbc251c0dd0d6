"""A replay in which a random process is killed every few seconds: it ends as its ticks say all the same."""

import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from broker_connector.registry import connect
from engine.cli.replay import VISITOR
from engine.domain.run import Run
from engine.replay import EXCHANGE, Replay, day_of, recorded_market
from engine.reports import ReplayReport
from engine.trading import TradingStack
from tests.replays import (
    DATA,
    Ending,
    assert_endings,
    assert_history_is_the_brokers,
    moment,
    row,
    seconds,
    strategy,
    write_day,
    write_strategies,
)

#: Real seconds between two kills, and how much later than its cause an exit may be: a killed worker's bound.
EVERY, BOUND = 4.0, 35.0
FIRST, BUY, SELL, LAST = "09:30:00", "09:35:00", "10:05:00", "10:25:00"
SPEED = 30.0
#: Its book is only in its memory: it stands for a broker, which no kill of ours ends.
SPARED = {"paper"}


class Killer:
    """Kills one process after the other, by id, as the replay goes on."""

    def __init__(self, stack: TradingStack, seed: int) -> None:
        self._stack = stack
        self._dice = random.Random(seed)
        self._next = time.monotonic() + EVERY
        self.killed: Counter[str] = Counter()

    def look(self, _now: datetime, _runs: Sequence[Run]) -> None:
        """Kill somebody if it is time."""
        if time.monotonic() < self._next:
            return
        self._next += EVERY
        alive = {name: pid for name, (_, pid) in self._stack.states().items() if pid and name not in SPARED}
        name = self._dice.choice(sorted(alive))
        os.kill(alive[name], signal.SIGKILL)
        self.killed[name] += 1


def play(ticks: Path, strategies: Path, directory: Path, speed: float, seed: int) -> tuple[ReplayReport, Counter[str]]:
    """Replay with kills; the report, and who was killed how often."""
    day = day_of(ticks, strategies)
    with TradingStack(directory, recorded_market(ticks, day), Fernet.generate_key().decode()) as stack:
        replay = Replay(stack, day, speed)
        visitor = connect("paper", stack.paper.base_url, VISITOR)
        replay.prepare(visitor.instruments(EXCHANGE))
        visitor.close()
        killer = Killer(stack, seed)
        return replay.run(killer.look), killer.killed


def assert_nothing_twice(report: ReplayReport) -> None:
    """The broker's own book: every strategy bought and sold its quantity, in however many orders."""
    tag_of = {order.client_order_id: told for told in report.strategies for order in told.orders}
    filled: Counter[tuple[str, str]] = Counter()
    for order in report.broker_orders:
        filled[tag_of[order.tag].name, order.side.value] += order.filled_quantity
    wanted = {(told.name, side): told.orders[0].quantity for told in report.strategies for side in ("buy", "sell")}
    assert filled == wanted


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_day_ends_as_its_ticks_say_whoever_is_killed_meanwhile(tmp_path: Path) -> None:
    prices = {at: 1000.0 + 0.05 * (n % 3) for n, at in enumerate(seconds(FIRST, LAST))}
    breaches = {name: moment(f"09:{minute}:17") for name, minute in (("A", 41), ("B", 46), ("C", 52), ("D", 57))}
    days = {name: prices | {at + timedelta(seconds=n): 960.0 for n in range(3)} for name, at in breaches.items()}
    days |= {name: dict(prices) for name in ("E", "F", "G", "H")}
    files = {name: [row(at, price) for at, price in each.items()] for name, each in days.items()}
    names = [strategy(name, name, "970.00", BUY, SELL, f"tenant-{name}") for name in days]
    endings = {name: Ending("exited_by_sl", at) for name, at in breaches.items()}
    endings |= {name: Ending("sold", moment(SELL)) for name in days if name not in breaches}
    ticks, strategies = write_day(tmp_path, files), write_strategies(tmp_path, names)
    report, killed = play(ticks, strategies, tmp_path / "stack", SPEED, seed=7)
    assert killed.total() >= 8
    assert_endings(report, endings, within=BOUND)
    assert_nothing_twice(report)
    assert_history_is_the_brokers(report)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not (DATA / "nse_ticks").is_dir(), reason=f"no recorded day: {DATA} is absent")
def test_a_recorded_day_ends_as_computed_from_its_ticks_whoever_is_killed_meanwhile(tmp_path: Path) -> None:
    told = DATA / "replay"
    rows = json.loads((told / "2021-04-12.expected.json").read_text(encoding="utf-8"))
    expected = {each["name"]: Ending(each["position"], datetime.fromisoformat(each["at"])) for each in rows}
    ticks, strategies = DATA / "nse_ticks" / "2021-04-12", told / "2021-04-12.strategies.json"
    report, killed = play(ticks, strategies, tmp_path / "stack", speed=120, seed=11)
    assert killed.total() >= 30
    assert_endings(report, expected, within=BOUND)
    assert_nothing_twice(report)
    assert_history_is_the_brokers(report)
