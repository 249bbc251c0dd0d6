"""`engine paper` as its page describes it: every command of docs/paper-broker.md runs, on any free port."""

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import engine

PAGE = Path(__file__).parents[2] / "docs" / "paper-broker.md"
START = "engine paper --port 8300 --always-open"
BASE = "http://127.0.0.1:8300"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)


def run(words: list[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(words, check=False, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    """The page's first command, on a free port and with fewer ticks, which is quicker."""
    assert blocks("sh")[0].strip() == START
    words = START.replace("8300", "0").split()[1:]
    process = subprocess.Popen(engine(*words, "--step", "60"), stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        ready = process.stdout.readline()
        assert ready.startswith("paper broker ready on http://127.0.0.1:")
        yield ready.split()[-1]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()


def test_the_pages_client_code_runs(base_url: str) -> None:
    (code,) = blocks("python")
    code = code.replace(BASE, base_url).replace(BASE.replace("http", "ws"), base_url.replace("http", "ws"))
    told = run([sys.executable, "-c", code])
    assert (told.stdout.strip(), told.returncode) == ("COMPLETE", 0), told.stderr


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
def test_the_pages_control_calls_are_answered(base_url: str) -> None:
    calls = [line for line in blocks("sh")[1].splitlines() if line]
    for call in calls:
        line = call.replace(BASE, base_url).replace("curl -s", "curl -sS --fail --noproxy '*'")
        told = run(["sh", "-c", line])
        assert told.returncode == 0, (call, told.stderr, told.stdout)
    assert len(calls) == 8


def test_help_and_mistakes_are_told_in_the_commands_own_name(tmp_path: Path) -> None:
    told = run(engine("paper", "--help"))
    assert told.returncode == 0
    listed = set(re.findall(r"--[a-z][a-z-]+", told.stdout))
    named = set(re.findall(r"--[a-z][a-z-]+", PAGE.read_text()))
    assert named - listed == set()
    empty = run(engine("paper", "--ticks", str(tmp_path)))
    assert empty.returncode == 2
    assert f"engine paper: error: --ticks {tmp_path}: its name must be the date" in empty.stderr
    assert "Traceback" not in empty.stderr
