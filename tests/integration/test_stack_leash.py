"""The leash: a command dies with its parent, and runs as if it were not there otherwise."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from engine.stack import leash
from engine.stack.child import Child
from tests.processes import all_gone, eventually, gone

PARENT = """
import subprocess, sys, time
from engine.stack import leash
import os
child = subprocess.Popen(leash.command(["sleep", "600"], parent=str(os.getpid())))
print(child.pid, flush=True)
time.sleep(600)
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "engine.stack.leash", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_command_keeps_its_output_arguments_and_exit_status() -> None:
    done = run(sys.executable, "-c", "import sys; print(sys.argv[1:]); sys.exit(7)", "a b", "--parent")
    assert (done.returncode, done.stdout) == (7, "['a b', '--parent']\n")


def test_a_command_dies_when_its_parent_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert not gone(child)
        parent.kill()
        parent.wait()
        assert all_gone([child])


def test_a_command_whose_parent_is_gone_already_never_starts(tmp_path: Path) -> None:
    done = run("--parent", "1", "touch", str(tmp_path / "started"))
    assert done.returncode == leash.ORPHANED
    assert not (tmp_path / "started").exists()


def test_a_missing_command_is_one_clear_line() -> None:
    done = run("no-such-command")
    assert (done.returncode, done.stderr) == (127, "leash: no-such-command: No such file or directory\n")


def test_no_command_is_a_usage_error() -> None:
    assert run().returncode == 2


def test_a_child_that_ignores_the_signal_is_killed_with_its_group(tmp_path: Path) -> None:
    script = "trap '' TERM; sleep 600 & echo $!; wait; wait"
    child = Child(["sh", "-c", script], tmp_path / "log")
    child.start()
    assert eventually(lambda: child.last_words().isdigit())
    pids = [child.pid or 0, int(child.last_words())]
    child.stop(signal.SIGTERM, timeout=0.2)
    assert all_gone(pids)
    assert child.pid is None


def test_a_child_is_out_of_reach_of_ctrl_c(tmp_path: Path) -> None:
    child = Child(["sleep", "600"], tmp_path / "log")
    child.start()
    try:
        assert child.pid is not None
        assert os.getpgid(child.pid) != os.getpgid(0)
    finally:
        child.kill()


def test_a_thread_may_not_start_a_child_that_would_die_with_it(tmp_path: Path) -> None:
    caught: list[BaseException] = []

    def start() -> None:
        with pytest.raises(RuntimeError, match="main thread") as info:
            Child(["sleep", "600"], tmp_path / "log").start()
        caught.append(info.value)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert caught
