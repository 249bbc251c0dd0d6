"""The state directory: private, one engine at a time, and honest about what runs."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from engine.stack.problems import EnvironmentProblem
from engine.stack.state import Running, StateDir, default_path

HOLDER = """
import sys, time
from pathlib import Path
from engine.stack.state import Running, StateDir
state = StateDir(Path(sys.argv[1]))
with state.lock():
    state.write_running(Running(pid=1, redis_url="redis://r", database_url="postgresql://d", paper_url="http://p"))
    print("held", flush=True)
    time.sleep(600)
"""


@contextmanager
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    argv = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_only_its_owner_can_look_inside(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o755)
    state = StateDir(tmp_path / "state")
    with state.lock():
        state.write_running(Running(1, "redis://r", "postgresql://d"))
        state.secret_key()
        assert mode(state.path) & 0o066 == 0
        assert {mode(path) for path in state.path.iterdir()} == {0o600}


def test_a_second_engine_is_kept_out(tmp_path: Path) -> None:
    with holder(tmp_path), pytest.raises(EnvironmentProblem, match="already runs in"), StateDir(tmp_path).lock():
        pass


def test_a_running_engine_tells_where_its_servers_are(tmp_path: Path) -> None:
    with holder(tmp_path):
        assert StateDir(tmp_path).read_running() == Running(1, "redis://r", "postgresql://d", "http://p")


def test_an_engine_that_was_killed_does_not_run_and_does_not_block(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        process.kill()
        process.wait()
        state = StateDir(tmp_path)
        assert (tmp_path / "urls.json").exists()
        assert state.read_running() is None
        with state.lock():
            assert state.read_running() is None


def test_looking_does_not_lose_the_lock_of_the_process_that_looks(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    with state.lock():
        state.write_running(Running(1, "redis://r", "postgresql://d"))
        assert state.read_running() is not None
        with pytest.raises(EnvironmentProblem), StateDir(tmp_path).lock():
            pass


def test_the_key_is_made_once_and_encrypts(tmp_path: Path) -> None:
    key = StateDir(tmp_path).secret_key()
    assert StateDir(tmp_path).secret_key() == key
    assert Fernet(key).decrypt(Fernet(key).encrypt(b"token")) == b"token"


def test_a_damaged_key_is_reported_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "secret.key").write_text("damaged")
    with pytest.raises(EnvironmentProblem, match="not a Fernet key"):
        StateDir(tmp_path).secret_key()
    assert (tmp_path / "secret.key").read_text() == "damaged"


def test_a_directory_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentProblem, match="cannot use the state directory"):
        StateDir(tmp_path / "file" / "state")


def test_the_default_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINE_STATE_DIR", "/somewhere")
    assert default_path() == Path("/somewhere")
    monkeypatch.delenv("ENGINE_STATE_DIR")
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert default_path() == Path("/state/execution-engine")
    monkeypatch.delenv("XDG_STATE_HOME")
    assert default_path() == Path("~/.local/state/execution-engine")
