"""The drainer's place in the stream belongs to its epoch: another server's stream may begin before it."""

from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis

from engine.domain.routing import Alert
from engine.ledger import Drainer, LedgerCarrier, stored_up_to
from engine.processes.drainer import Draining
from engine.runtime import keys
from engine.runtime.epoch import EpochGuard
from models import schema
from models.database import Sessions, open_database, sessions_of
from models.repositories.history import Alerts
from tests.livestate import EPOCH, LiveState

#: A stream id no server of today has reached.
AHEAD = "9999999999999-0"


@pytest.fixture
def sessions(database_url: str) -> Iterator[Sessions]:
    schema.upgrade(database_url)
    database = open_database(database_url)
    yield sessions_of(database)
    database.dispose()


def drain(redis: Redis, sessions: Sessions, epoch: int) -> None:
    Drainer(LedgerCarrier(redis, sessions, epoch), stored_up_to(sessions, epoch)).drain_all()


def tell(live: LiveState, message: str) -> None:
    live.store.alert("alpha", Alert("warning", "test", message))


def told(sessions: Sessions) -> list[str]:
    return [alert.message for alert in reversed(Alerts(sessions).list())]


def test_records_of_a_server_whose_clock_is_behind_are_stored(
    redis: Redis, live: LiveState, sessions: Sessions
) -> None:
    tell(live, "by the server that was ahead")
    stream: Any = redis
    ((_, entry),) = stream.xrange(keys.LEDGER)
    redis.delete(keys.LEDGER)
    stream.xadd(keys.LEDGER, entry, id=AHEAD)
    drain(redis, sessions, EPOCH)
    # Another server takes its place: empty, and behind.
    redis.flushall()
    live.epoch.open(EPOCH + 1)
    tell(live, "by the server that is behind")
    drain(redis, sessions, EPOCH + 1)
    assert sorted(told(sessions)) == ["by the server that is behind", "by the server that was ahead"]
    redis.delete(keys.LEDGER)
    live.epoch.open(EPOCH)


def test_a_drainer_that_finds_nothing_hears_of_another_epoch(redis: Redis, live: LiveState, sessions: Sessions) -> None:
    def drainer_of(epoch: int) -> Drainer:
        return Drainer(LedgerCarrier(redis, sessions, epoch), stored_up_to(sessions, epoch))

    draining = Draining(EpochGuard(redis), drainer_of, lambda action, /, **facts: None)
    tell(live, "by the server that was ahead")
    stream: Any = redis
    ((_, entry),) = stream.xrange(keys.LEDGER)
    redis.delete(keys.LEDGER)
    stream.xadd(keys.LEDGER, entry, id=AHEAD)
    draining.step()
    # The same server, by the same connection: it has lost everything, and its clock was set back.
    redis.flushall()
    live.epoch.open(EPOCH + 1)
    tell(live, "after it was set back")
    draining.step()
    draining.step()
    assert "after it was set back" in told(sessions)
    redis.delete(keys.LEDGER)
    live.epoch.open(EPOCH)


@pytest.mark.parametrize("epoch", [EPOCH, EPOCH + 1])
def test_what_was_stored_under_another_epoch_is_not_stored_again(
    redis: Redis, live: LiveState, sessions: Sessions, epoch: int
) -> None:
    tell(live, "first")
    kept: Any = redis.dump(keys.LEDGER)
    drain(redis, sessions, EPOCH)
    # It died between storing and trimming.
    redis.restore(keys.LEDGER, 0, kept, replace=True)
    tell(live, "second")
    drain(redis, sessions, epoch)
    assert told(sessions) == ["first", "second"]
    assert stored_up_to(sessions, epoch) != "0-0"
    assert stored_up_to(sessions, epoch + 1) == "0-0"
