"""A PostgreSQL that is stopped while its kernel still answers for it: nothing waits for it for ever."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from broker_connector.paper.process import PaperControl, paper_broker
from engine.processes import recoverer
from engine.processes.loop import AWAY
from engine.stack.postgres import EmbeddedPostgres
from models import database, schema, waiting
from models.database import open_database
from models.lock import AdvisoryLock
from tests.desk import PAPER
from tests.integration.test_rounds_of_processes import Rounds, desk_at, play
from tests.processes import eventually, family

#: Seconds after which a test that waits for ever is let go, and what it found is wrong.
LONGEST = 40.0


class Frozen:
    """A server that can be stopped and continued, whole."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self.url = server.url
        self._server = server
        self._stopped: list[int] = []

    def stop(self) -> None:
        assert self._server.pid is not None
        self._stopped = family(self._server.pid)
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)
        self._stopped = []

    def _signal(self, number: signal.Signals) -> None:
        for pid in self._stopped:
            if psutil.pid_exists(pid):
                os.kill(pid, number)


@pytest.fixture(scope="module")
def server(servers_dir: Path) -> Iterator[EmbeddedPostgres]:
    own = EmbeddedPostgres(servers_dir / "frozen")
    own.start()
    schema.upgrade(own.url)
    yield own
    own.stop()


@pytest.fixture
def frozen(server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch) -> Iterator[Frozen]:
    """Its limits are short."""
    monkeypatch.setattr(database, "LIMITS", {"statement_timeout": "2s"})
    monkeypatch.setattr(waiting, "GRACE", 1.0)
    monkeypatch.setattr(waiting, "CONNECT_TIMEOUT", 2)
    found = Frozen(server)
    rescue = threading.Timer(LONGEST, found.go_on)
    rescue.start()
    yield found
    rescue.cancel()
    found.go_on()


@pytest.fixture
def opened(frozen: Frozen) -> Iterator[Engine]:
    engine = open_database(frozen.url)
    yield engine
    engine.dispose()


def refused(call: Callable[[], object]) -> float:
    """How long `call` took until it was given up as one that PostgreSQL is away from, seconds."""
    began = time.monotonic()
    with pytest.raises(OperationalError) as found:
        call()
    assert isinstance(found.value, AWAY)
    return time.monotonic() - began


def test_a_statement_under_way_is_given_up_and_its_connection_not_used_again(frozen: Frozen, opened: Engine) -> None:
    with opened.connect() as connection:
        first = connection.scalar(text("SELECT pg_backend_pid()"))
        frozen.stop()
        # Not before the server would have ended it.
        assert 2.0 < refused(lambda: connection.execute(text("SELECT 1"))) < LONGEST / 2
        assert connection.invalidated
    # Where it is still stopped, each further try is short.
    assert refused(opened.connect) < LONGEST / 2
    frozen.go_on()
    with opened.connect() as connection:
        assert connection.scalar(text("SELECT pg_backend_pid()")) != first


def test_a_connection_of_the_pool_and_a_new_one_are_given_up(frozen: Frozen, opened: Engine) -> None:
    with opened.connect() as connection:
        connection.execute(text("SELECT 1"))
    frozen.stop()
    assert refused(opened.connect) < LONGEST / 2
    assert refused(lambda: schema.current(frozen.url)) < LONGEST / 2
    assert refused(lambda: schema.upgrade(frozen.url)) < LONGEST / 2


def test_a_limit_that_whoever_runs_the_server_set_is_waited_for(
    frozen: Frozen, opened: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "LIMITS", {"statement_timeout": "8s"})
    with opened.connect() as connection:
        assert connection.scalar(text("SELECT 1 FROM pg_sleep(4)")) == 1


def test_what_the_server_answers_in_time_is_read_though_we_were_stopped_meanwhile(opened: Engine) -> None:
    """As a host that was paused: the answer lies there, whatever the clock says."""
    clock, asked = time.monotonic, count()

    def later() -> float:
        time.sleep(0.5)
        return clock() + 3600 * next(asked)

    with opened.connect() as connection, pytest.MonkeyPatch.context() as paused:
        paused.setattr(waiting, "time", SimpleNamespace(monotonic=later))
        assert connection.scalar(text("SELECT 1")) == 1


def test_the_recoverers_lock_is_lost_and_taken_again(frozen: Frozen, opened: Engine) -> None:
    lock = AdvisoryLock(opened, 78)
    assert lock.hold()
    frozen.stop()
    assert refused(lock.hold) < LONGEST / 2
    frozen.go_on()
    # The server hears of the old connection's end a moment later.
    assert eventually(lock.hold, within=30)
    lock.release()


def test_the_recoverer_goes_on(
    frozen: Frozen, valkey_url: str, paper: PaperControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = count(1)
    rounds: list[float] = []

    def between() -> None:
        rounds.append(time.monotonic())
        match next(looks):
            case 2:
                frozen.stop()
            case 4:
                frozen.go_on()

    with desk_at(valkey_url, paper, monkeypatch, DATABASE_URL=frozen.url):
        play(recoverer, monkeypatch, Rounds(6, between))
    assert rounds[3] - rounds[1] < LONGEST / 2


@pytest.fixture(scope="module")
def paper() -> Iterator[PaperControl]:
    with paper_broker(*PAPER) as control:
        yield control
