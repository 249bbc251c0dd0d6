"""Every command says in one line that the database does not do what was asked, and exits 1."""

import os
import subprocess

import pytest
import sqlalchemy
from redis.exceptions import OutOfMemoryError

from engine.cli.output import FAILED, tell_problem
from engine.ports import StoreClosed
from models import schema
from tests.commands import engine
from tests.desk import environment


@pytest.fixture
def sick(database_url: str) -> str:
    """A database that takes no writing, and has lost a table."""
    schema.upgrade(database_url)
    name = sqlalchemy.make_url(database_url).database
    owner = sqlalchemy.create_engine(database_url, isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.NullPool)
    with owner.connect() as connection:
        connection.execute(sqlalchemy.text("DROP TABLE dead_letters"))
        connection.execute(sqlalchemy.text(f"ALTER DATABASE {name} SET default_transaction_read_only = on"))
    return database_url


@pytest.mark.parametrize(
    "words",
    [
        ("alerts", "--ack", "1"),
        ("dead-letters",),
        ("calendar", "close", "NSE", "2026-11-10"),
    ],
)
def test_a_command_says_so_in_one_line(sick: str, valkey_url: str, words: tuple[str, ...]) -> None:
    chosen = os.environ | environment(valkey_url, sick)
    ended = subprocess.run(engine(*words), env=chosen, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == FAILED
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    assert "the database does not do it" in ended.stderr


@pytest.mark.parametrize("error", [StoreClosed("Redis refuses: OOM"), OutOfMemoryError("OOM\nmore")])
def test_a_live_state_that_is_away_is_no_bug(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    assert tell_problem(error) == FAILED
    assert len(capsys.readouterr().err.splitlines()) == 1
