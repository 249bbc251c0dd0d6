"""The order stream's process: accounts whose brokers hang keep it from reading none of the others."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from broker_connector.paper.process import PaperControl, paper_broker
from engine.runtime import keys
from models import schema
from models.database import open_database, sessions_of
from models.durable import DurableState
from models.repositories.accounts import Account, Accounts
from models.secrets import Credentials, Encrypted
from tests.celery_nodes import ProcessContainer, command_of
from tests.desk import CREDENTIALS, PAPER, SECRET_KEY, Desk, environment, open_desk
from tests.processes import eventually

#: More hung accounts than a pool of threads for all of them would have.
SICK = 24


@pytest.fixture
def paper() -> Iterator[PaperControl]:
    with paper_broker(*PAPER) as control:
        yield control


@pytest.fixture
def desk(valkey_url: str, paper: PaperControl) -> Iterator[Desk]:
    with open_desk(valkey_url, paper) as opened:
        opened.parts.redis.flushall()
        opened.open()
        yield opened


@pytest.fixture
def orderstream(
    valkey_url: str, database_url: str, desk: Desk, paper: PaperControl, tmp_path: Path
) -> Iterator[ProcessContainer]:
    schema.upgrade(database_url)
    database = open_database(database_url)
    Encrypted.use(SECRET_KEY)
    accounts = Accounts(sessions_of(database))
    for number in range(SICK):
        sick = {"api_key": f"key-{number}", "access_token": f"token-{number}"}
        paper.add_account(account_id=f"SICK{number}", limits={}, **sick)
        for operation in ("positions", "orders"):
            paper.fault("hang", operation=operation, account=f"SICK{number}", times=10**6, seconds=60)
        urls = paper.base_url, paper.ws_url
        accounts.add(Account(f"sick-{number}", "main", "paper", *urls, Credentials(sick)))
    healthy = accounts.add(Account("well", "main", "paper", paper.base_url, paper.ws_url, Credentials(CREDENTIALS)))
    assert healthy == SICK + 1
    for account in DurableState(sessions_of(database)).accounts():
        desk.parts.store.write_account(account)
    process = ProcessContainer(
        "orderstream", command_of("orderstream"), environment(valkey_url, database_url), tmp_path / "log"
    )
    process.start()
    yield process
    process.kill()
    database.dispose()


def test_a_healthy_account_is_read_every_few_seconds_however_many_others_hang(
    orderstream: ProcessContainer, desk: Desk
) -> None:
    readings: set[object] = set()

    def is_read(times: int) -> bool:
        readings.add(desk.parts.redis.hget(keys.held(SICK + 1), "at"))
        return len(readings - {None}) >= times

    assert eventually(lambda: is_read(1), within=20), orderstream.logs()
    assert eventually(lambda: is_read(5), within=15), orderstream.logs()
