"""Seeds of the simulation on a real server: no invariant breaks, and the same orders reach the broker."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from redis import Redis

from engine.simulation.livestate import LiveState
from engine.simulation.scenario import seed_of
from engine.simulation.world import World
from tests.realstore import RealState

Order = tuple[str, str, int]


def ledger(number: int, store: Callable[[Callable[[], datetime]], Any]) -> list[Order]:
    """Every order at every broker once the world of a seed is over."""
    world = World(seed_of(number), store)
    try:
        world.run()
    finally:
        world.close()
    return [(placed.request.client_order_id, placed.status, placed.filled) for placed in world.book]


def assert_same(redis: Redis, url: str, number: int) -> None:
    redis.flushall()
    opened: list[RealState] = []

    def on_a_server(now: Callable[[], datetime]) -> RealState:
        opened.append(RealState(url, now))
        return opened[-1]

    try:
        assert ledger(number, on_a_server) == ledger(number, LiveState)
    finally:
        for each in opened:
            each.real.close()


@pytest.mark.parametrize("number", range(3))
def test_a_seed_ends_on_a_server_as_it_does_in_memory(redis: Redis, redis_url: str, number: int) -> None:
    assert_same(redis, redis_url, number)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_many_seeds_end_on_a_server_as_they_do_in_memory(redis: Redis, redis_url: str) -> None:
    for number in range(3, 60):
        assert_same(redis, redis_url, number)
