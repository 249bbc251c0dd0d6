"""A database that does not answer is one that refuses: nothing waits for it for ever."""

import socket
from collections.abc import Iterator

import pytest
import sqlalchemy
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from engine.cli.output import FAILED, tell_problem
from engine.processes.loop import AWAY
from models import database, schema
from models.database import LIMITS, open_database
from models.lock import AdvisoryLock
from tests.processes import eventually

#: What a connection of libpq is made with so that it notices an end that is gone.
KEPT_ALIVE = {"keepalives": "1", "keepalives_idle": "10", "keepalives_interval": "5", "keepalives_count": "3"}


@pytest.fixture
def opened(database_url: str) -> Iterator[Engine]:
    engine = open_database(database_url)
    yield engine
    engine.dispose()


def limits(engine: Engine) -> dict[str, str]:
    with engine.connect() as connection:
        return {name: str(connection.scalar(text(f"SHOW {name}"))) for name in LIMITS}


def test_a_connection_has_limits_and_is_kept_alive(opened: Engine) -> None:
    with opened.connect() as connection:
        told = connection.connection.dbapi_connection.info.dsn_parameters  # type: ignore[union-attr]
        connection.rollback()
    assert KEPT_ALIVE.items() <= told.items()
    assert (told["tcp_user_timeout"], told["connect_timeout"]) == ("25000", "5")
    assert limits(opened) == dict(LIMITS)


def test_a_limit_that_whoever_runs_the_server_set_stays(opened: Engine, database_url: str) -> None:
    name = sqlalchemy.make_url(database_url).database
    owner = sqlalchemy.create_engine(database_url, isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.NullPool)
    with owner.connect() as connection:
        connection.execute(text(f"ALTER DATABASE {name} SET statement_timeout = '7s'"))
    assert limits(opened) == {**LIMITS, "statement_timeout": "7s"}


@pytest.mark.parametrize("refused", ["statement_timeout", "lock_timeout"])
def test_what_takes_too_long_is_refused_as_anything_else_is(
    database_url: str, refused: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    schema.upgrade(database_url)
    monkeypatch.setattr(database, "LIMITS", {refused: "1s"})
    engine = open_database(database_url)
    with engine.connect() as holder, engine.connect() as other:
        holder.execute(text("LOCK TABLE runs"))
        waiting = {"statement_timeout": "SELECT pg_sleep(600)", "lock_timeout": "SELECT count(*) FROM runs"}[refused]
        with pytest.raises(OperationalError) as found:
            other.execute(text(waiting))
    assert isinstance(found.value, AWAY)
    assert tell_problem(found.value) == FAILED
    assert len(capsys.readouterr().err.splitlines()) == 1
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM runs")) == 0
    engine.dispose()


def test_a_transaction_that_was_left_alone_holds_nothing_for_ever(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema.upgrade(database_url)
    monkeypatch.setattr(database, "LIMITS", {"idle_in_transaction_session_timeout": "1s"})
    engine, other = open_database(database_url), sqlalchemy.create_engine(database_url)
    with engine.connect() as left, other.connect() as waits:
        left.execute(text("LOCK TABLE runs"))
        assert waits.scalar(text("SELECT count(*) FROM runs")) == 0
        # The server has ended it.
        left.invalidate()
    for each in (engine, other):
        each.dispose()


def test_the_recoverers_lock_is_kept_though_it_does_nothing_for_long(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "LIMITS", {"idle_in_transaction_session_timeout": "1s"})
    engine = open_database(database_url, pool_size=1)
    lock, other = AdvisoryLock(engine, 77), AdvisoryLock(open_database(database_url, pool_size=1), 77)
    assert lock.hold()
    with sqlalchemy.create_engine(database_url, poolclass=sqlalchemy.NullPool).connect() as connection:
        connection.execute(text("SELECT pg_sleep(3)"))
    assert (lock.hold(), other.hold()) == (True, False)
    lock.release()
    # The server hears of the connection's end a moment later.
    assert eventually(other.hold, within=30)
    other.release()


def test_a_server_that_accepts_and_never_answers_is_away() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"postgresql://engine@127.0.0.1:{silent.getsockname()[1]}/engine"
        with pytest.raises(OperationalError) as found:
            open_database(address).connect()
        with pytest.raises(OperationalError):
            schema.current(address)
    assert isinstance(found.value, AWAY)
