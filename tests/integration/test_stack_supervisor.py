"""The supervisor with real processes: it restarts what ends, stops everything, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.stack.procfile import parse
from engine.stack.supervisor import Supervisor
from tests.processes import all_gone, eventually, family

PROCESSES = f"""
steady: sleep 600
talker: {sys.executable} -c 'import os, time; print("100% of", os.environ["SPECIAL"], flush=True); time.sleep(600)'
"""

#: What a killed `engine up` is to the processes it runs.
OWNER = """
import os, sys, time
from pathlib import Path
from engine.stack.procfile import parse
from engine.stack.supervisor import Supervisor
supervisor = Supervisor(parse("one: sleep 600\\ntwo: sleep 600\\n"), os.environ, Path(sys.argv[1]))
supervisor.start()
while {state for state, _ in supervisor.states().values()} != {"RUNNING"}:
    time.sleep(0.1)
print(supervisor.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    supervisor = Supervisor(parse(PROCESSES), {**os.environ, "SPECIAL": "50%;# it"}, tmp_path / "logs")
    supervisor.start()
    yield supervisor
    supervisor.stop()


def running(supervisor: Supervisor) -> bool:
    return {state for state, _ in supervisor.states().values()} == {"RUNNING"}


def pid_of(supervisor: Supervisor, name: str) -> int:
    return supervisor.states()[name][1] or 0


def test_processes_run_with_the_environment_and_log_to_their_own_file(supervisor: Supervisor, tmp_path: Path) -> None:
    assert eventually(lambda: running(supervisor), within=20)
    assert (tmp_path / "logs" / "talker.log").read_text() == "100% of 50%;# it\n"


def test_a_killed_process_comes_back(supervisor: Supervisor) -> None:
    assert eventually(lambda: running(supervisor), within=20)
    first = pid_of(supervisor, "steady")
    os.kill(first, signal.SIGKILL)
    assert eventually(lambda: pid_of(supervisor, "steady") not in (0, first), within=20)


def test_stop_ends_everything_and_start_begins_anew(supervisor: Supervisor) -> None:
    assert eventually(lambda: running(supervisor), within=20)
    pids = family(supervisor.pid or 0)
    assert len(pids) == 3
    supervisor.stop()
    assert all_gone(pids)
    assert supervisor.states() == {"steady": ("STOPPED", None), "talker": ("STOPPED", None)}
    supervisor.start()
    assert eventually(lambda: running(supervisor), within=20)


def test_processes_die_with_a_killed_supervisor(supervisor: Supervisor) -> None:
    assert eventually(lambda: running(supervisor), within=20)
    pids = family(supervisor.pid or 0)
    os.kill(pids[0], signal.SIGKILL)
    assert all_gone(pids)


def test_everything_dies_with_a_killed_owner(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", OWNER, str(tmp_path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pids = family(int(owner.stdout.readline()))
        owner.kill()
        owner.wait()
        assert len(pids) == 3
        assert all_gone(pids)


def test_a_long_path_does_not_matter(tmp_path: Path) -> None:
    supervisor = Supervisor(parse("steady: sleep 600"), os.environ, tmp_path / ("long" * 30))
    supervisor.start()
    try:
        assert eventually(lambda: running(supervisor), within=20)
    finally:
        supervisor.stop()
