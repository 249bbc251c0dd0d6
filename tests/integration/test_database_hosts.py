"""Several addresses of one database, the first of which takes connections and is silent, as one that is stopped."""

import socket
from collections.abc import Iterator

import pytest
from sqlalchemy import URL, Engine, make_url, text
from sqlalchemy.exc import OperationalError

from models import schema, waiting
from models.database import open_database
from models.schema import newest


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The port of one that takes connections and never answers."""
    monkeypatch.setattr(waiting, "CONNECT_TIMEOUT", 2)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(50)
        yield listening.getsockname()[1]


@pytest.fixture
def named(module_database_url: str, silent: int) -> URL:
    """A database of two hosts, the silent one first."""
    url = make_url(module_database_url)
    return url.set(query={"host": (f"127.0.0.1:{silent}", f"{url.query['host']}:5432")})


@pytest.fixture
def opened(named: URL) -> Iterator[Engine]:
    engine = open_database(named.render_as_string(hide_password=False))
    yield engine
    engine.dispose()


def test_the_second_host_is_reached_where_the_first_takes_the_connection_and_is_silent(opened: Engine) -> None:
    with opened.connect() as connection:
        assert connection.scalar(text("SELECT 1")) == 1


def test_so_it_is_for_the_schema(named: URL, module_database_url: str) -> None:
    schema.upgrade(module_database_url)
    assert schema.current(named.render_as_string(hide_password=False)) == newest()


def test_a_statement_has_its_limit_on_whichever_host_was_reached(opened: Engine) -> None:
    with opened.connect() as connection:
        reached = connection.connection.driver_connection
        assert isinstance(reached, waiting.Limited)
        assert reached.limit == 30.0 + waiting.GRACE


def test_each_host_is_told_of_where_none_is_reached(silent: int) -> None:
    engine = open_database(f"postgresql://u@/d?host=127.0.0.1:{silent}&host=/nowhere/at/all:5432")
    with pytest.raises(OperationalError, match=r"(?s)within 2 s.*/nowhere/at/all"):
        engine.connect()
