"""A position that was left over night goes on in the next session, whatever is away as that begins."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from redis import Redis
from sqlalchemy.exc import OperationalError

from engine.domain.broker import NetPosition
from engine.domain.events import EventType
from engine.domain.orders import Product, Side
from tests.builders import STOP, SYMBOL, run
from tests.integration.test_recovery import Recovery
from tests.livestate import ACCOUNT, RUN, open_live_state, watched
from tests.world import World

#: A minute into the session of the day after.
MORNING = datetime(2026, 1, 6, 3, 46, tzinfo=UTC)


@pytest.fixture
def left(redis: Redis, redis_url: str) -> Recovery:
    """A run that still holds as its session ends, and the next one has begun."""
    recovery = Recovery(World(open_live_state(redis, redis_url))).recovered()
    world = recovery.world
    world.clock.market = run().buy_at
    watched(redis, ACCOUNT.market)
    world.serve(EventType.BUY, "buy")
    world.push(world.broker.fill("B1"))
    world.clock.jump(run().closes_at + timedelta(minutes=2))
    world.sweep()
    recovery.durable.rows[RUN] = world.run()
    assert recovery.durable.rows[RUN].failure == "session_over"
    world.clock.jump(MORNING)
    world.broker.book.clear()
    world.broker.held = lambda: [NetPosition(SYMBOL, Product.INTRADAY, 10)]  # type: ignore[method-assign]
    return recovery


def sells(recovery: Recovery) -> bool:
    """Whether its stop sells it."""
    world = recovery.world
    watched(world.live.redis, ACCOUNT.market)
    world.price(STOP - 100)
    world.pass_time(30)
    return [side for side, _ in world.sides()] == [Side.BUY, Side.SELL]


@pytest.mark.parametrize("logged_in_after", [0, 240])
def test_it_is_sold_whenever_its_account_is_logged_in(left: Recovery, logged_in_after: int) -> None:
    world = left.world
    world.live.redis.flushall()
    left.open()
    world.broker.token_dead = logged_in_after > 0
    left.recoverer.arm()
    world.clock.advance(logged_in_after)
    world.broker.token_dead = False
    for _ in range(5):
        left.recoverer.arm()
        world.clock.advance(1)
    assert sells(left)


def test_it_is_sold_while_postgresql_takes_no_write(left: Recovery, monkeypatch: pytest.MonkeyPatch) -> None:
    def unarmed(_day: date) -> Any:
        raise OperationalError("UPDATE strategies", {}, Exception("cannot execute UPDATE in a read-only transaction"))

    monkeypatch.setattr(left.durable, "unarmed", unarmed)
    for _ in range(3):
        with pytest.raises(OperationalError):
            left.recoverer.arm()
        left.world.clock.advance(1)
    assert sells(left)
