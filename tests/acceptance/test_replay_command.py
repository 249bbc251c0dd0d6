"""`engine replay` when it cannot or may not go on: its exit code, what it says, and what it leaves behind."""

import json
import signal
import subprocess
from pathlib import Path

import pytest

from tests.processes import all_gone, eventually, family, hearing_ctrl_c
from tests.replays import command, environment, row, seconds, strategy, write_day, write_strategies

#: Seconds in which a refusal comes that needs no server, and one that needs the broker's list of instruments.
SOON, AFTER_START = 30.0, 90.0
GOOD = strategy("one", "INFY", "970.00", "09:35:00", "09:50:00")

#: Each starts the command as a process of its own.
pytestmark = pytest.mark.slow


@pytest.fixture
def ticks(tmp_path: Path) -> Path:
    return write_day(tmp_path, {"INFY": [row(at, 1000.0) for at in seconds("09:30:00", "09:55:00")]})


def refused(ticks: Path, strategies: Path, scratch: Path, report: Path, within: float = SOON) -> list[str]:
    """What is said on standard error by a replay that exits 2 and leaves no report and no file."""
    ended = subprocess.run(
        command(ticks, strategies, report, 60), env=environment(scratch),
        capture_output=True, text=True, timeout=within, check=False,
    )  # fmt: skip
    assert ended.returncode == 2, ended.stderr
    assert ended.stdout == ""
    assert not report.exists()
    assert list(scratch.iterdir()) == []
    return ended.stderr.splitlines()


def test_a_folder_whose_name_is_no_date_is_refused(ticks: Path, scratch: Path, tmp_path: Path) -> None:
    other = ticks.rename(tmp_path / "monday")
    strategies = write_strategies(tmp_path, [GOOD])
    (line,) = refused(other, strategies, scratch, tmp_path / "report.json")
    assert "monday" in line
    assert "market date" in line


def test_a_folder_without_ticks_is_refused(scratch: Path, tmp_path: Path) -> None:
    empty = tmp_path / "2021-04-12"
    strategies = write_strategies(tmp_path, [GOOD])
    for _ in ("absent", "empty"):
        (line,) = refused(empty, strategies, scratch, tmp_path / "report.json")
        assert "2021-04-12" in line
        empty.mkdir(exist_ok=True)


def test_a_strategies_file_that_is_not_there_is_refused(ticks: Path, scratch: Path, tmp_path: Path) -> None:
    (line,) = refused(ticks, tmp_path / "nowhere.json", scratch, tmp_path / "report.json")
    assert "nowhere.json" in line


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{not json", "line 1, column 2"),
        (json.dumps([GOOD | {"stop_loss": "-1"}]), "stop_loss"),
        (json.dumps([{name: value for name, value in GOOD.items() if name != "stop_loss"}]), "stop_loss"),
        (json.dumps([GOOD, GOOD]), "one"),
    ],
)
def test_a_strategies_file_that_is_wrong_is_refused_and_the_fault_named(
    ticks: Path, scratch: Path, tmp_path: Path, text: str, told: str
) -> None:
    strategies = tmp_path / "strategies.json"
    strategies.write_text(text, encoding="utf-8")
    lines = refused(ticks, strategies, scratch, tmp_path / "report.json")
    assert "strategies.json" in lines[0]
    assert told in lines[-1]
    assert not [line for line in lines if "Traceback" in line]


def test_a_report_that_cannot_be_written_is_refused_before_anything_is_started(
    ticks: Path, scratch: Path, tmp_path: Path
) -> None:
    strategies = write_strategies(tmp_path, [GOOD])
    (line,) = refused(ticks, strategies, scratch, tmp_path / "nowhere" / "report.json")
    assert "nowhere" in line


def test_a_symbol_the_day_does_not_have_is_refused_before_anything_is_traded(
    ticks: Path, scratch: Path, tmp_path: Path
) -> None:
    strategies = write_strategies(tmp_path, [GOOD, GOOD | {"name": "two", "symbol": "NOSUCH"}])
    lines = refused(ticks, strategies, scratch, tmp_path / "report.json")
    assert "NOSUCH" in lines[-1]


def test_ctrl_c_ends_every_process_and_writes_no_report(ticks: Path, scratch: Path, tmp_path: Path) -> None:
    report, said = tmp_path / "report.json", tmp_path / "said"
    strategies = write_strategies(tmp_path, [GOOD])
    with said.open("w") as output:
        process = subprocess.Popen(
            hearing_ctrl_c(command(ticks, strategies, report, 1)),
            env=environment(scratch),
            stdout=output,
            stderr=output,
        )
    try:
        assert eventually(lambda: "market time" in said.read_text(), within=AFTER_START), said.read_text()
        everyone = family(process.pid)
        # Servers, supervisor and the processes of the Procfile.
        assert len(everyone) > 10
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    finally:
        process.kill()
        process.wait()
    assert all_gone(everyone)
    assert "Traceback" not in said.read_text()
    assert not report.exists()
    assert list(scratch.iterdir()) == []
