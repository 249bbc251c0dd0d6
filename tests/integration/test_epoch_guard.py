"""The epoch: the store is open only on the very server, of the very start, that the recoverer opened."""

from collections.abc import Iterator

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from engine.clock import RealTime
from engine.ports import StoreClosed
from engine.runtime import keys, scripts
from engine.runtime.connect import connect
from engine.runtime.epoch import EpochGuard
from engine.runtime.store import RedisStore
from tests.builders import run
from tests.livestate import LiveState


@pytest.fixture
def second(redis_url: str) -> Iterator[Redis]:
    """A client of another process on the same server."""
    client = connect(redis_url)
    yield client
    client.close()


def test_an_open_epoch_is_the_same_for_every_process(live: LiveState, second: Redis) -> None:
    other = EpochGuard(second)
    assert other.current() == live.epoch.current() == f"5:{live.epoch.run_id()}"
    assert other.is_open()
    assert other.stored() == (5, live.epoch.run_id())


@pytest.mark.parametrize("stored", [None, "nonsense"])
def test_a_server_without_an_epoch_is_closed(live: LiveState, second: Redis, stored: str | None) -> None:
    live.redis.delete(keys.EPOCH)
    if stored:
        live.redis.set(keys.EPOCH, stored)
    other = EpochGuard(second)
    assert other.stored() is None
    assert not other.is_open()
    with pytest.raises(StoreClosed, match="no epoch"):
        other.current()


def test_an_epoch_of_another_servers_start_is_closed(live: LiveState, second: Redis) -> None:
    live.redis.set(keys.EPOCH, f"5:{'0' * 40}")
    other = EpochGuard(second)
    assert not other.is_open()
    with pytest.raises(StoreClosed, match="restarted or swapped"):
        other.current()


def test_a_process_that_was_refused_works_on_once_the_store_is_open_again(live: LiveState, second: Redis) -> None:
    store = RedisStore(second, EpochGuard(second), RealTime().now)
    assert store.sweep(1) == []
    live.epoch.open(6)
    with pytest.raises(StoreClosed):
        store.sweep(1)
    assert store.sweep(1) == []


def test_a_store_that_was_closed_is_closed_to_everyone(live: LiveState, second: Redis) -> None:
    store = RedisStore(second, EpochGuard(second), RealTime().now)
    store.sweep(1)
    live.lose_epoch()
    for each in (store, live.store):
        with pytest.raises(StoreClosed):
            each.sweep(1)


def test_a_connection_that_reaches_another_server_touches_nothing_there(
    live: LiveState, redis_url: str, valkey_url: str, redis_url_real: str
) -> None:
    live.arm()
    elsewhere = redis_url_real if redis_url == valkey_url else valkey_url
    with connect(elsewhere) as swapped:
        swapped.flushall()
        # The other server even claims the same epoch: a copy of the data is not the server we knew.
        swapped.set(keys.EPOCH, live.epoch.current())
        live.client.connection_pool.connection_kwargs |= swapped.connection_pool.connection_kwargs | {
            "redis_connect_func": live.client.connection_pool.connection_kwargs["redis_connect_func"]
        }
        live.client.connection_pool.reset()
        live.store._scripts.close()
        for _ in range(2):
            with pytest.raises(StoreClosed):
                live.store.arm(run(), run().buy_at, buying=True)
        assert swapped.keys() == [keys.EPOCH]


def test_a_server_that_does_not_answer_closes_the_store(live: LiveState, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def broken(*arguments: object, **options: object) -> None:
        calls.append(arguments)
        raise RedisConnectionError("gone")

    monkeypatch.setattr(scripts, "_asked", broken)
    with pytest.raises(StoreClosed, match="does not answer"):
        live.store.sweep(1)
    # The call and its repeats, no more: a script knows how often it may be repeated.
    assert len(calls) == 3
