"""Redis and PostgreSQL fail at the same time: the recoverer goes on, and whoever must know is told."""

import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import count
from types import SimpleNamespace

import pytest
import sqlalchemy
from redis import Redis

from broker_connector.paper.process import PaperControl, paper_broker
from engine import bootstrap, store_outage
from engine.ledger import Drainer, LedgerCarrier, stored_up_to
from engine.processes import recoverer
from engine.store_outage import StoreOutage
from models import schema
from models.database import Sessions, open_database, sessions_of
from models.durable import DurableState
from models.repositories.bookkeeping import Epoch
from models.repositories.history import Alerts
from tests.desk import PAPER, Desk
from tests.fakes import RecordingLog
from tests.integration.test_rounds_of_processes import Rounds, desk_at, play

#: What PostgreSQL does to whoever writes to a table: as an administrator who ends sessions, at that very statement.
ENDS = """
CREATE FUNCTION ends() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(60); RETURN NEW; END $$;
CREATE TRIGGER ends BEFORE INSERT OR UPDATE ON {table} EXECUTE FUNCTION ends();
"""
HEALS = "DROP TRIGGER ends ON {table}; DROP FUNCTION ends();"


@pytest.fixture(scope="module")
def paper() -> Iterator[PaperControl]:
    with paper_broker(*PAPER) as control:
        yield control


@pytest.fixture
def sessions(database_url: str) -> Iterator[Sessions]:
    schema.upgrade(database_url)
    database = open_database(database_url)
    yield sessions_of(database)
    database.dispose()


@pytest.fixture
def desk(
    valkey_url: str, paper: PaperControl, sessions: Sessions, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Desk]:
    del sessions
    monkeypatch.setattr(store_outage, "TOLD_AFTER", timedelta(0))
    with desk_at(valkey_url, paper, monkeypatch, DATABASE_URL=database_url) as opened:
        yield opened


@pytest.fixture
def operate(database_url: str) -> Callable[[str], None]:
    """What changes the database beside the engine."""
    admin = sqlalchemy.create_engine(database_url, isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.NullPool)

    def run(statement: str) -> None:
        with admin.connect() as connection:
            connection.execute(sqlalchemy.text(statement))

    return run


def told(sessions: Sessions) -> list[tuple[str, str]]:
    """Who was told what, the newest last."""
    return [(each.tenant, each.code) for each in reversed(Alerts(sessions).list())]


def lose(redis: Redis) -> None:
    """Empty it, but for a record that a process wrote as it came back."""
    redis.flushall()
    redis.xadd("ledger", {"run": "", "epoch": "1", "seq": "1", "tenant": "", "body": "{}", "repeated": ""})


def test_an_empty_redis_is_told_of_while_postgresql_ends_every_drain(
    desk: Desk, sessions: Sessions, operate: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    play(recoverer, monkeypatch, Rounds(1))
    lose(desk.parts.redis)
    operate(ENDS.format(table="drain_cursor"))
    looks = count(1)

    def between() -> None:
        if next(looks) == 3:
            assert told(sessions) == [("", "store_away")]
            assert not desk.parts.epoch.is_open()
            operate(HEALS.format(table="drain_cursor"))

    play(recoverer, monkeypatch, Rounds(6, between))
    assert desk.parts.epoch.is_open()
    assert told(sessions) == [("", "store_away"), ("", "store_back")]


def test_how_long_redis_is_away_counts_while_postgresql_is_away_too(
    desk: Desk, sessions: Sessions, operate: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_outage, "TOLD_AFTER", timedelta(seconds=1))
    redis, looks = desk.parts.redis, count(1)

    def between() -> None:
        match next(looks):
            case 1:
                redis.config_set("maxmemory", "1")
                operate(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            case 2:
                # Its lock's connection was ended: it has only looked at Redis.
                assert told(sessions) == []
                time.sleep(1.1)
            case 3:
                assert told(sessions) == [("", "store_away")]
                redis.config_set("maxmemory", "0")

    try:
        play(recoverer, monkeypatch, Rounds(5, between))
    finally:
        redis.config_set("maxmemory", "0")
    assert told(sessions) == [("", "store_away"), ("", "store_back")]


def test_a_rebuilding_goes_on_though_postgresql_ends_what_tells_of_it(
    desk: Desk, sessions: Sessions, operate: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    play(recoverer, monkeypatch, Rounds(1))
    desk.parts.redis.flushall()
    operate(ENDS.format(table="alerts"))
    waited: list[bool] = []

    def opens(now: Callable[[], datetime], sleep_until: Callable[[datetime], None], *_: object) -> None:
        sleep_until(now() + timedelta(milliseconds=20))
        waited.append(True)
        operate(HEALS.format(table="alerts"))

    monkeypatch.setattr(bootstrap, "recoverer", lambda *_: SimpleNamespace(open=opens))
    play(recoverer, monkeypatch, Rounds(1))
    assert waited == [True]


@pytest.mark.parametrize("is_back", [False, True], ids=["still away", "back"])
def test_who_takes_over_knows_who_was_told(desk: Desk, sessions: Sessions, *, is_back: bool) -> None:
    rows, now, log = DurableState(sessions), desk.parts.real.now, RecordingLog()
    StoreOutage(rows, now, log).away("Connection refused")
    successor = StoreOutage(rows, now, log)
    for _ in range(2):
        if is_back:
            successor.back()
        else:
            successor.away("Connection refused")
    assert told(sessions) == [("", "store_away"), *([("", "store_back")] if is_back else [])]


def test_another_recoverers_epoch_ends_no_drain_of_an_older(redis: Redis, sessions: Sessions) -> None:
    """The lock was lost with its connection: another has taken over between two lines of this one."""
    lose(redis)
    epochs = Epoch(sessions)
    mine = epochs.advance("of this server").n
    epochs.advance("of this server")

    def drain(epoch: int) -> None:
        Drainer(LedgerCarrier(redis, sessions, epoch), stored_up_to(sessions, epoch)).drain_all()

    DurableState(sessions, drain).drain(mine)
    assert redis.xlen("ledger") == 1
