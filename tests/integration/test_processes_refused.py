"""Every process of the engine while Redis or PostgreSQL refuses: none ends of it, and each works on after it."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from redis import Redis

from broker_connector.paper.process import PaperControl, paper_broker
from engine import bootstrap
from engine.domain.events import Event, EventType
from engine.stack.valkey import EmbeddedValkey
from models import schema
from models.database import open_database, sessions_of
from models.repositories.accounts import Account, Accounts
from models.secrets import Credentials, Encrypted
from tasks.app import app_at
from tests.celery_nodes import ProcessContainer, command_of
from tests.desk import CREDENTIALS, PAPER, SECRET_KEY, Desk, environment, event_of, open_desk
from tests.integration.test_redis_refuses import REFUSALS, operator_of
from tests.processes import eventually

NAMES = (
    "recoverer", "drainer", "listener", "orderstream", "sweeper", "beat", "worker-orders", "worker-stoploss",
)  # fmt: skip
#: Seconds of each refusal: several looks of every process.
LASTS = 1.5

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(servers_dir: Path) -> Iterator[EmbeddedValkey]:
    own = EmbeddedValkey(servers_dir / "refusing-all", options={"save": '"3600 1000000"', "appendonly": "no"})
    own.start()
    yield own
    own.stop()


@pytest.fixture(scope="module")
def boss(server: EmbeddedValkey) -> Iterator[Any]:
    with operator_of(server) as operator:
        yield operator


@pytest.fixture(scope="module")
def desk(server: EmbeddedValkey, boss: Redis) -> Iterator[Desk]:
    with ExitStack() as stack:
        paper = stack.enter_context(paper_broker(*PAPER))
        stack.enter_context(pytest.MonkeyPatch.context()).setattr(bootstrap, "app", app_at(server.url))
        yield stack.enter_context(open_desk(server.url, paper))


@pytest.fixture(scope="module")
def processes(
    server: EmbeddedValkey, desk: Desk, module_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, ProcessContainer]]:
    schema.upgrade(module_database_url)
    database = open_database(module_database_url)
    Encrypted.use(SECRET_KEY)
    paper: PaperControl = desk.paper
    account = Account("acme", "main", "paper", paper.base_url, paper.ws_url, Credentials(CREDENTIALS))
    Accounts(sessions_of(database)).add(account)
    database.dispose()
    logs, chosen = tmp_path_factory.mktemp("refused"), environment(server.url, module_database_url)
    started = {
        name: ProcessContainer(
            name,
            command_of(name),
            chosen | {"ENGINE_CALENDAR": "always_open", "ENGINE_PROCESS": name},
            logs / f"{name}.log",
        )
        for name in NAMES
    }
    for each in started.values():
        each.start()
    try:
        assert eventually(
            lambda: all(desk.parts.redis.exists(f"process:{name.removeprefix('worker-')}") == 1 for name in NAMES),
            within=60,
        )
        yield started
    finally:
        for each in started.values():
            each.ask_to_end()
        for each in started.values():
            each.teardown()


def _check(processes: dict[str, ProcessContainer]) -> None:
    ended = {name: each.logs()[-2000:] for name, each in processes.items() if each.status != "running"}
    assert not ended


def _is_served(desk: Desk, event: Event) -> bool:
    return bool(desk.parts.redis.sismember(f"events:{event.run_id}", event.id))


def _serves(desk: Desk) -> None:
    """A message on each way is served: by a worker's own threads, and by Celery's consumer."""
    run = desk.arm(buy_in=3600)
    for kind in (EventType.SELL, EventType.STOPLOSS):
        event = event_of(run, kind)
        desk.parts.publisher.publish(event)
        assert eventually(partial(_is_served, desk, event), within=20)


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda each: each.__name__)
def test_a_redis_that_refuses_ends_no_process(
    processes: dict[str, ProcessContainer],
    desk: Desk,
    boss: Any,
    server: EmbeddedValkey,
    refusal: Callable[..., Any],
) -> None:
    pids = {name: each.pid for name, each in processes.items()}
    with refusal(boss, server.data_dir):
        time.sleep(LASTS)
    _check(processes)
    assert {name: each.pid for name, each in processes.items()} == pids
    assert eventually(desk.parts.epoch.is_open, within=20)
    _serves(desk)


def _is_drained(desk: Desk, url: str) -> bool:
    """Whether the newest record is stored."""
    last = desk.parts.redis.xinfo_stream("ledger")["last-generated-id"]
    database = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    with database.connect() as connection:
        stored = connection.execute(sqlalchemy.text("SELECT stream_id FROM drain_cursor")).scalar()
    return bool(stored == last)


@pytest.mark.parametrize(
    "sickness",
    [
        "ALTER DATABASE {name} SET default_transaction_read_only = on",
        "ALTER DATABASE {name} SET lock_timeout = '1ms'",
        "ALTER DATABASE {name} SET statement_timeout = '1ms'",
    ],
)
def test_a_postgres_that_refuses_ends_no_process(
    processes: dict[str, ProcessContainer], desk: Desk, module_database_url: str, sickness: str
) -> None:
    database = sqlalchemy.make_url(module_database_url)
    admin = sqlalchemy.create_engine(
        database.set(database="postgres"), isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.NullPool
    )
    cut = sqlalchemy.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name")
    with admin.connect() as operator:
        operator.execute(sqlalchemy.text(sickness.format(name=database.database)))
        operator.execute(cut, {"name": database.database})
        # Something to drain.
        desk.arm(buy_in=3600)
        time.sleep(2 * LASTS)
        operator.execute(sqlalchemy.text(f"ALTER DATABASE {database.database} RESET ALL"))
        operator.execute(cut, {"name": database.database})
    _check(processes)
    assert eventually(lambda: _is_drained(desk, module_database_url), within=20)
    _serves(desk)
