"""`engine up --market synthetic` as a user runs it: it comes up, trades, survives a kill, and leaves nothing behind."""

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from broker_connector.paper.process import PaperControl
from engine.calendar import ZONES
from engine.stack.state import Running, StateDir
from engine.trading import free_port
from tests.commands import engine
from tests.processes import all_gone, eventually, family, hearing_ctrl_c

#: Seconds the processes may take to be ready on a busy machine, and to end.
READY_WITHIN, STOPPED_WITHIN = 120.0, 45.0
#: Seconds from now to the BUY, and from the BUY to the SELL.
AHEAD, HOLD = timedelta(seconds=15), timedelta(seconds=10)


class Up:
    """A running `engine up` and commands given beside it."""

    def __init__(self, state: Path, log: Path) -> None:
        #: Of its own: several may run on one machine.
        self.metrics_port = free_port()
        self._environment = {
            name: value for name, value in os.environ.items() if name not in ("REDIS_URL", "DATABASE_URL")
        } | {"ENGINE_STATE_DIR": str(state), "ENGINE_METRICS_PORT": str(self.metrics_port)}
        self._state, self._log = state, log
        with log.open("w") as output:
            self.process = subprocess.Popen(
                hearing_ctrl_c(engine("up", "--market", "synthetic")),
                stdout=output,
                stderr=output,
                env=self._environment,
            )

    def is_ready(self) -> bool:
        """Whether it says what to do next; a process that ended is never ready."""
        assert self.process.poll() is None, self._log.read_text()
        return "engine strategy list" in self._log.read_text()

    def running(self) -> Running:
        """Where it says its servers are."""
        found = StateDir(self._state).read_running()
        assert found is not None
        return found

    def call(self, *words: str, given: str = "") -> Any:
        """The JSON another command answers."""
        done = subprocess.run(
            engine(*words, "--json"),
            input=given,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def state() -> Iterator[Path]:
    # Not below pytest's own directory: as root, PostgreSQL can have to run as a user who cannot enter it.
    with tempfile.TemporaryDirectory(prefix="engine-up-tests-") as directory:
        Path(directory).chmod(0o711)
        yield Path(directory) / "state"


@pytest.fixture
def up(state: Path, tmp_path: Path) -> Iterator[Up]:
    started = Up(state, tmp_path / "up.log")
    processes: list[int] = []
    try:
        assert eventually(started.is_ready, within=READY_WITHIN), (tmp_path / "up.log").read_text()
        processes = family(started.process.pid)
        yield started
    finally:
        started.process.kill()
        started.process.wait()
        assert all_gone(processes, within=STOPPED_WITHIN)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_it_trades_survives_a_kill_and_leaves_nothing(up: Up) -> None:
    up.call("strategy", "add", given=json.dumps([example("traded")]))
    assert eventually(lambda: position(up, "traded") == "sold", within=60)
    (run,) = up.call("strategy", "show", "traded")[0]["runs"]
    assert [(order["side"], order["filled_quantity"]) for order in run["orders"]] == [("buy", 10), ("sell", 10)]
    metrics = requests.get(f"http://127.0.0.1:{up.metrics_port}/metrics", timeout=10).text
    for side in ("buy", "sell"):
        assert f'engine_timer_lateness_seconds_count{{side="{side}"}} 1.0' in metrics

    (victim,) = [each for each in psutil.Process(up.process.pid).children(recursive=True) if "orders@" in words(each)]
    victim.kill()
    assert eventually(lambda: any("orders@" in words(each) for each in others(up, victim.pid)), within=30)
    up.call("strategy", "add", given=json.dumps([example("after-the-kill")]))
    assert eventually(lambda: position(up, "after-the-kill") == "sold", within=60)

    processes = family(up.process.pid)
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(STOPPED_WITHIN) == 130
    assert all_gone(processes)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_position_of_before_a_restart_is_covered_and_its_stop_works(state: Path, tmp_path: Path) -> None:
    started = Up(state, tmp_path / "first.log")
    processes: list[int] = []
    try:
        assert eventually(started.is_ready, within=READY_WITHIN), (tmp_path / "first.log").read_text()
        processes = family(started.process.pid)
        held = example("held-over-a-restart") | {"sell_time": "23:59:50"}
        started.call("strategy", "add", given=json.dumps([held]))
        assert eventually(lambda: position(started, "held-over-a-restart") == "bought", within=60)
    finally:
        started.process.kill()
        started.process.wait()
        assert all_gone(processes, within=STOPPED_WITHIN)

    again = Up(state, tmp_path / "second.log")
    try:
        assert eventually(again.is_ready, within=READY_WITHIN), (tmp_path / "second.log").read_text()
        processes = family(again.process.pid)
        control = paper_of(again)
        assert [order["side"] for order in control.ledger()] == ["buy"]

        def stopped_out() -> bool:
            control.price("NSE:INFY", "1290.00")
            return position(again, "held-over-a-restart") == "exited_by_sl"

        assert eventually(stopped_out, within=60), again.call("strategy", "show", "held-over-a-restart")
        assert [(order["side"], order["filled_quantity"]) for order in control.ledger()] == [("buy", 10), ("sell", 10)]
        control.close()
    finally:
        again.process.kill()
        again.process.wait()
        assert all_gone(processes, within=STOPPED_WITHIN)


def paper_of(up: Up) -> PaperControl:
    """The control interface of its paper broker; the token is in that process's environment alone."""
    (process,) = [
        each
        for each in psutil.Process(up.process.pid).children(recursive=True)
        if words(each).endswith("process paper")
    ]
    url = up.running().paper_url
    assert url is not None
    return PaperControl(url, process.environ()["PAPER_CONTROL_TOKEN"])


def example(name: str) -> dict[str, object]:
    """A strategy that buys within seconds, today."""
    buy = datetime.now(ZONES["NSE"]) + AHEAD
    times = {"buy_time": f"{buy:%H:%M:%S}", "sell_time": f"{buy + HOLD:%H:%M:%S}"}
    return {"name": name, "tenant": "demo", "symbol": "INFY", "quantity": 10, "stop_loss": "1300.00", **times}


def position(up: Up, name: str) -> str:
    (row,) = [row for row in up.call("strategy", "list") if row["name"] == name]
    return str(row["position"])


def others(up: Up, but: int) -> list[psutil.Process]:
    return [each for each in psutil.Process(up.process.pid).children(recursive=True) if each.pid != but]


def words(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""
