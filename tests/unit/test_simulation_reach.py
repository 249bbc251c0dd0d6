"""What the simulation alone runs of the engine: a branch it never takes is one that no seed can judge."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: Of these files it takes so many of a hundred branches.
REACHED = 95
FILES = (
    "engine/actions.py",
    "engine/recovery.py",
    "engine/domain/budget.py",
    "engine/domain/decision.py",
    "engine/domain/feed.py",
)
SEEDS = 300
#: Seeds that once found something, the engine's fault or a judge's: no alarm of theirs comes back.
FOUND = (
    4095, 8710, 9346, 9602, 9980, 10102, 15423, 15508, 16282, 21602, 33592, 46273, 50290, 50663, 55696, 61407, 65853,
    70942, 76557, 79827, 81159, 97586,
)  # fmt: skip
PLAY = f"""
from engine.simulation.campaign import play
from engine.simulation.scenario import any_seed
failures = [failure for number in (*range({SEEDS}), *{FOUND}) if (failure := play(any_seed(number)))]
assert not failures, failures
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_three_hundred_seeds_and_those_that_found_something_take_nearly_every_branch(tmp_path: Path) -> None:
    (tmp_path / "play.py").write_text(PLAY)
    settings = f"[run]\nbranch = True\nconcurrency = greenlet\nsource = engine\ndata_file = {tmp_path}/data\n"
    (tmp_path / "rc").write_text(settings)

    def coverage(*arguments: str) -> None:
        command = [sys.executable, "-m", "coverage", arguments[0], f"--rcfile={tmp_path}/rc", *arguments[1:]]
        subprocess.run(command, check=True, cwd=ROOT, capture_output=True, timeout=850)

    coverage("run", str(tmp_path / "play.py"))
    coverage("json", "-o", str(tmp_path / "found.json"))
    files = json.loads((tmp_path / "found.json").read_text())["files"]
    reached = {name: files[name]["summary"]["percent_covered"] for name in FILES}
    assert {name: percent for name, percent in reached.items() if percent < REACHED} == {}
