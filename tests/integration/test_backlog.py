"""What waits ahead of a message: in the lists that are served before it, and in workers, as long as they say so."""

from datetime import UTC, datetime, timedelta

import pytest
from redis import Redis

from engine.dispatch import ways_of
from engine.domain.events import EventType
from engine.runtime.backlog import COUNTS_FOR, Backlog, Teller
from engine.runtime.connect import connect
from tasks.app import app


class Hands:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.at = datetime(2026, 1, 5, 9, 15, tzinfo=UTC)

    def now(self) -> datetime:
        return self.at


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
def backlog(redis: Redis, hands: Hands) -> Backlog:
    return Backlog(redis, hands.now, ways_of(app))


def test_lists_of_the_same_or_a_higher_priority_count(redis: Redis, backlog: Backlog) -> None:
    for name, length in (("orders", 2), ("orders:3", 3), ("orders:6", 4), ("stoploss", 5)):
        redis.lpush(name, *range(length))
    kinds = (EventType.SELL, EventType.RETRY, EventType.BUY, EventType.STOPLOSS, EventType.FORCE_STOP)
    assert [backlog.ahead_of(kind) for kind in kinds] == [2, 5, 9, 5, 0]


def test_what_workers_hold_counts_as_long_as_they_say_so(redis: Redis, backlog: Backlog, hands: Hands) -> None:
    Teller(redis, hands.now, "orders", "one", lambda: {0: 1, 6: 10}).tell()
    hands.at += COUNTS_FOR
    Teller(redis, hands.now, "orders", "two", lambda: {3: 100}).tell()
    assert (backlog.ahead_of(EventType.SELL), backlog.ahead_of(EventType.BUY)) == (1, 111)
    hands.at += timedelta(microseconds=1)
    assert (backlog.ahead_of(EventType.SELL), backlog.ahead_of(EventType.BUY)) == (0, 100)


def test_nothing_is_ahead_where_nobody_can_be_asked(hands: Hands) -> None:
    nowhere = connect("redis://127.0.0.1:1/0")
    assert Backlog(nowhere, hands.now, ways_of(app)).ahead_of(EventType.BUY) == 0
