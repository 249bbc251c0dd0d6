"""The committed JSON Schemas, the replay report's shape, and files that are written whole or not at all."""

import json
import os
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from engine.domain.orders import Leg, OrderStatus, Side
from engine.domain.run import Position, RunStatus
from engine.reports import (
    Distribution,
    LatencyReport,
    OrderReport,
    ReplayReport,
    StrategyReport,
    write_atomically,
)
from engine.schemas import DOCS, schemas


@pytest.mark.parametrize("name", sorted(schemas()))
def test_the_committed_schema_is_the_generated_one(name: str) -> None:
    assert (DOCS / name).read_text() == schemas()[name], "run python -m engine.schemas"


def _report() -> ReplayReport:
    order = OrderReport(
        client_order_id="EE00000170QD01E001",
        leg=Leg.ENTRY,
        side=Side.BUY,
        quantity=10,
        filled_quantity=0,
        average_price=Decimal("0E-2"),
        status=OrderStatus.FILLED,
        market_time=datetime(2021, 4, 12, 9, 0, tzinfo=UTC),
    )
    strategy = StrategyReport(
        name="AXISBANK-0",
        tenant="tenant-3",
        symbol="NSE:AXISBANK",
        status=RunStatus.STOPPED,
        position=Position.SOLD,
        exit_reason=None,
        orders=[order],
    )
    unmeasured = Distribution(p50=None, p99=None, n=0)
    return ReplayReport(
        complete=True,
        market_date=date(2021, 4, 12),
        speed=60,
        strategies=[strategy],
        broker_orders=[],
        latency_ms=LatencyReport(tick_to_order=unmeasured, timer_lateness=unmeasured),
    )


def test_a_report_tells_prices_as_plain_decimal_strings_and_times_with_their_zone() -> None:
    told = json.loads(_report().model_dump_json())
    (order,) = told["strategies"][0]["orders"]
    assert order["average_price"] == "0.00"
    assert datetime.fromisoformat(order["market_time"]).utcoffset() is not None
    assert told["market_date"] == "2021-04-12"
    assert told["latency_ms"]["tick_to_order"] == {"p50": None, "p99": None, "n": 0}
    assert ReplayReport.model_validate(told) == _report()


def test_a_write_replaces_the_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_atomically(path, "old")
    write_atomically(path, "new")
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["report.json"]


def test_a_failed_write_leaves_the_old_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "half \ud800")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["report.json"]


def test_a_link_keeps_pointing_at_the_file_that_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real.json").write_text("old")
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    write_atomically(tmp_path / "link.json", "new")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "real.json").read_text() == "new"


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_atomically(pipe, "text")
        assert os.read(reader, 10) == b"text"
    finally:
        os.close(reader)
    assert pipe.is_fifo()
