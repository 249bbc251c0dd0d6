"""`engine replay` as a user runs it: the whole real stack over a small day whose endings are known."""

import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from engine.reports import ReplayReport
from tests.replays import (
    DATA,
    ROOT,
    Ending,
    assert_endings,
    assert_history_is_the_brokers,
    assert_one_buy_and_one_sell,
    moment,
    replay,
    row,
    seconds,
    strategy,
    write_day,
    write_strategies,
)

BUY, SELL = "09:35:00", "09:45:00"
FIRST, LAST = "09:34:00", "09:46:00"
SPEED = 60.0
SCHEDULED = Ending("sold", moment(SELL))


def day(prices: dict[str, float]) -> dict[str, dict[datetime, float]]:
    """Each symbol at its price every second, with a ripple of two ticks."""
    return {
        symbol: {at: price + 0.05 * (n % 3) for n, at in enumerate(seconds(FIRST, LAST))}
        for symbol, price in prices.items()
    }


@pytest.fixture
def small_day(tmp_path: Path) -> tuple[Path, Path, dict[str, Ending]]:
    """Ticks, strategies and endings: breaches of one tick, of two stops at once, at the stop itself, and none."""
    ticks = day({"INFY": 1450.0, "TCS": 3200.0, "RELIANCE": 1980.0, "SBIN": 350.0, "ITC": 210.0})
    # Back within a second, and lower than one of two stops only.
    ticks["INFY"][moment("09:41:17")] = 1420.0
    # The same second breaches two strategies of two tenants.
    ticks["TCS"][moment("09:38:05")] = 3100.0
    # At the stop is a breach; a tick above it is none.
    ticks["ITC"][moment("09:40:00")] = 205.05
    ticks["ITC"][moment("09:43:30")] = 205.0
    # Under the stop before the BUY, and back: nothing was held.
    ticks["SBIN"][moment("09:34:30")] = 335.0
    # Down through the stop for good.
    for n, at in enumerate(seconds("09:42:00", LAST)):
        ticks["RELIANCE"][at] = 1979.5 - 0.5 * min(n, 120)
    (through,) = [at for at, price in ticks["RELIANCE"].items() if price == 1950.0]
    strategies = [
        strategy("dip", "INFY", "1425.00", BUY, SELL),
        strategy("dip-lower", "INFY", "1415.00", BUY, SELL, "globex"),
        strategy("shared-1", "TCS", "3150.00", BUY, SELL),
        strategy("shared-2", "TCS", "3120.00", BUY, SELL, "globex", quantity=7),
        strategy("at-the-stop", "ITC", "205.00", BUY, SELL, "initech"),
        strategy("before-the-buy", "SBIN", "340.00", BUY, SELL, "initech"),
        strategy("falling", "RELIANCE", "1950.00", BUY, SELL, "globex"),
        strategy("never", "RELIANCE", "1700.00", BUY, SELL),
        strategy("early-seller", "SBIN", "340.00", BUY, "09:37:00"),
    ]
    endings = {
        "dip": Ending("exited_by_sl", moment("09:41:17")),
        "dip-lower": SCHEDULED,
        "shared-1": Ending("exited_by_sl", moment("09:38:05")),
        "shared-2": Ending("exited_by_sl", moment("09:38:05")),
        "at-the-stop": Ending("exited_by_sl", moment("09:43:30")),
        "before-the-buy": SCHEDULED,
        "falling": Ending("exited_by_sl", through),
        "never": SCHEDULED,
        "early-seller": Ending("sold", moment("09:37:00")),
    }
    files = {symbol: [row(at, price) for at, price in prices.items()] for symbol, prices in ticks.items()}
    return write_day(tmp_path, files), write_strategies(tmp_path, strategies), endings


@pytest.mark.timeout(240)
@pytest.mark.slow
def test_a_small_day_ends_as_its_ticks_say_and_as_the_broker_says(
    small_day: tuple[Path, Path, dict[str, Ending]], scratch: Path, tmp_path: Path
) -> None:
    ticks, strategies, endings = small_day
    path = tmp_path / "report.json"
    report = replay(ticks, strategies, scratch, path, speed=SPEED, market=720)
    assert (report.market_date.isoformat(), report.speed) == (ticks.name, SPEED)
    assert_endings(report, endings)
    assert_one_buy_and_one_sell(report)
    assert_history_is_the_brokers(report)
    assert_reasons(report)
    assert_latencies(report)
    assert_shape(path)


def assert_reasons(report: ReplayReport) -> None:
    """An exit says why it was made."""
    reasons = {"sold": "schedule", "exited_by_sl": "stop_loss"}
    assert [told.exit_reason for told in report.strategies] == [reasons[told.position] for told in report.strategies]


def assert_latencies(report: ReplayReport) -> None:
    """Every timed order and every stop-out was measured."""
    stopped = sum(told.position == "exited_by_sl" for told in report.strategies)
    assert report.latency_ms.tick_to_order.n == stopped
    assert report.latency_ms.timer_lateness.n == 2 * len(report.strategies) - stopped


def assert_shape(path: Path) -> None:
    """The file is what the published schema promises."""
    schema = ROOT / "docs" / "replay-report.schema.json"
    checker = Path(sys.executable).parent / "check-jsonschema"
    told = subprocess.run([checker, "--schemafile", schema, path], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.skipif(not (DATA / "nse_ticks").is_dir(), reason=f"no recorded day: {DATA} is absent")
def test_a_real_recorded_day_ends_as_computed_from_its_ticks_alone(scratch: Path, tmp_path: Path) -> None:
    ticks, told = DATA / "nse_ticks" / "2021-04-12", DATA / "replay"
    rows = json.loads((told / "2021-04-12.expected.json").read_text(encoding="utf-8"))
    expected = {row["name"]: Ending(row["position"], datetime.fromisoformat(row["at"])) for row in rows}
    strategies = told / "2021-04-12.strategies.json"
    report = replay(ticks, strategies, scratch, tmp_path / "report.json", speed=120, market=22_500)
    assert len(report.strategies) == len(expected) == 58
    assert_endings(report, expected)
    assert_one_buy_and_one_sell(report)
    assert_history_is_the_brokers(report)
    assert_latencies(report)
