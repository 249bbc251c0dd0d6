"""The servers: our own or given ones, what survives a crash, and that problems are one clear line."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import sqlalchemy
from redis import Redis

from engine.stack import servers as module
from engine.stack.postgres import EmbeddedPostgres
from engine.stack.problems import EnvironmentProblem
from engine.stack.servers import Servers, check_database, check_redis, normalise
from engine.stack.valkey import EmbeddedValkey
from tests.processes import all_gone, family

OWNER = """
import sys, time
from pathlib import Path
from engine.stack.servers import Servers
with Servers(Path(sys.argv[1])) as servers:
    print(servers.valkey.pid, servers.postgres.pid, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="engine-tests-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def execute(url: str, statement: str) -> list[tuple[object, ...]]:
    database = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    with database.begin() as connection:
        result = connection.execute(sqlalchemy.text(statement))
        return [tuple(row) for row in result] if result.returns_rows else []


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_own_servers_keep_their_data_from_one_block_to_the_next(directory: Path) -> None:
    with Servers(directory) as servers, Redis.from_url(servers.redis_url) as client:
        client.set("key", "kept")
        execute(servers.database_url, "CREATE TABLE kept AS SELECT 7 AS number")
        check_redis(servers.redis_url)
        check_database(servers.database_url)
    with Servers(directory) as servers, Redis.from_url(servers.redis_url) as client:
        assert client.get("key") == b"kept"
        assert execute(servers.database_url, "SELECT number FROM kept") == [(7,)]


def test_own_servers_are_safe_against_loss_and_against_others(directory: Path) -> None:
    with Servers(directory) as servers, Redis.from_url(servers.redis_url) as client:
        assert client.config_get("appendonly", "appendfsync", "maxmemory-policy", "bind") == {
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
            "bind": "127.0.0.1",
        }
        assert execute(servers.database_url, "SHOW fsync") == [("on",)]
        assert execute(servers.database_url, "SHOW listen_addresses") == [("",)]
        stranger = servers.redis_url.replace(servers.redis_url.split("@")[0], "redis://:guess")
        with pytest.raises(EnvironmentProblem, match="invalid username-password"):
            check_redis(stranger)
        for private in (directory / "valkey" / "server.conf", directory / "postgres" / "socket"):
            assert stat.S_IMODE(private.stat().st_mode) & 0o077 == 0


def test_own_servers_end_with_the_block(directory: Path) -> None:
    with suppress(RuntimeError), Servers(directory) as servers:
        assert servers.valkey is not None
        assert servers.postgres is not None
        pids = [*family(servers.valkey.pid or 0), *family(servers.postgres.pid or 0)]
        assert len(pids) > 2
        raise RuntimeError("whatever goes wrong inside")
    assert all_gone(pids)


def test_own_servers_die_with_a_killed_owner_and_start_again(directory: Path) -> None:
    argv = [sys.executable, "-c", OWNER, str(directory)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pids = [pid for word in owner.stdout.readline().split() for pid in family(int(word))]
        owner.kill()
        owner.wait()
        assert len(pids) > 2
        assert all_gone(pids)
    with Servers(directory) as servers:
        check_redis(servers.redis_url)
        check_database(servers.database_url)


def test_a_killed_server_comes_back_at_the_same_url(directory: Path) -> None:
    with Servers(directory) as servers:
        before = (servers.redis_url, servers.database_url)
        assert servers.revive() == []
        for server in (servers.valkey, servers.postgres):
            assert server is not None
            os.kill(server.pid or 0, signal.SIGKILL)
            while server.alive():
                pass
        assert servers.revive() == ["valkey", "postgres"]
        assert (servers.redis_url, servers.database_url) == before
        check_redis(before[0])
        check_database(before[1])


@pytest.mark.slow
def test_a_stale_lock_file_that_names_a_living_process_does_not_matter(directory: Path) -> None:
    server = EmbeddedPostgres(directory / "postgres")
    server.start()
    lock = directory / "postgres" / "cluster" / "postmaster.pid"
    content = lock.read_text().splitlines()
    server.kill()
    lock.write_text("\n".join([str(os.getpid()), *content[1:]]) + "\n")
    server.start()
    try:
        check_database(server.url)
        assert server.pid not in (None, os.getpid())
    finally:
        server.stop()


@pytest.mark.slow
def test_an_initdb_that_was_cut_off_is_done_again(directory: Path) -> None:
    leftover = directory / "postgres" / "cluster.new" / "base"
    leftover.mkdir(parents=True)
    server = EmbeddedPostgres(directory / "postgres")
    server.start()
    server.stop()
    assert not leftover.parent.exists()


@pytest.mark.slow
def test_a_long_path_does_not_matter(directory: Path) -> None:
    with Servers(directory / ("long" * 30)) as servers:
        check_redis(servers.redis_url)
        check_database(servers.database_url)
        sockets = Path(servers.database_url.partition("host=")[2])
        assert sockets.is_dir()
    assert not sockets.exists()


def test_given_servers_are_used_and_left_running(redis_url: str, database_url: str, tmp_path: Path) -> None:
    plain = database_url.replace("postgresql+psycopg2://", "postgres://")
    with Servers(tmp_path, redis_url=redis_url, database_url=plain) as servers:
        assert (servers.valkey, servers.postgres) == (None, None)
        assert (servers.redis_url, servers.database_url) == (redis_url, database_url)
    assert list(tmp_path.iterdir()) == []
    check_redis(redis_url)
    check_database(database_url)


def test_a_binary_that_is_missing_or_fails_is_reported(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="is missing: reinstall, or set REDIS_URL"):
        EmbeddedValkey(tmp_path / "a", binary=tmp_path / "nothing").start()
    with pytest.raises(EnvironmentProblem, match=r"did not start \(.*Bad directive"):
        EmbeddedValkey(tmp_path / "b", options={"noSuchOption": "1"}).start()


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("not a url", "is no URL"),
        ("sqlite:///x.db", "begins with sqlite: only PostgreSQL"),
        ("mysql://h/d", "begins with mysql: only PostgreSQL"),
    ],
)
def test_a_wrong_database_url_is_reported(url: str, complaint: str) -> None:
    with pytest.raises(EnvironmentProblem, match=complaint):
        normalise(url)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_every_form_of_database_url_gets_our_driver(scheme: str) -> None:
    assert normalise(f"{scheme}://u:p%40@h:1/d?host=/s") == "postgresql+psycopg2://u:p%40@h:1/d?host=/s"


def test_problems_are_one_line_without_the_password() -> None:
    port = unused_port()
    problems = []
    with pytest.raises(EnvironmentProblem) as caught:
        check_redis(f"redis://:hidden@127.0.0.1:{port}/0")
    problems.append(str(caught.value))
    with pytest.raises(EnvironmentProblem) as caught:
        check_database(f"postgresql://u:hidden@127.0.0.1:{port}/d")
    problems.append(str(caught.value))
    with pytest.raises(EnvironmentProblem, match="REDIS_URL is wrong") as caught:
        check_redis("http://127.0.0.1")
    problems.append(str(caught.value))
    assert not any("\n" in problem or "hidden" in problem for problem in problems)
    assert str(port) in problems[0]
    assert "mend DATABASE_URL" in problems[1]


def test_a_server_that_is_too_old_is_reported(
    monkeypatch: pytest.MonkeyPatch, valkey_url: str, postgres_url: str
) -> None:
    monkeypatch.setattr(module, "OLDEST_REDIS", (99, 0))
    monkeypatch.setattr(module, "OLDEST_POSTGRES", 990000)
    with pytest.raises(EnvironmentProblem, match="or later is needed"):
        check_redis(valkey_url)
    with pytest.raises(EnvironmentProblem, match="or later is needed"):
        check_database(postgres_url)


def test_a_redis_that_evicts_is_refused(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path, options={"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"})
    server.start()
    try:
        with pytest.raises(EnvironmentProblem, match="evicts keys"):
            check_redis(server.url)
    finally:
        server.stop()
