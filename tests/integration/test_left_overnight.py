"""A position that was left over night goes on in the next session, whatever is away as that begins."""

from datetime import UTC, datetime, time, timedelta

import pytest
from redis import Redis

from engine.calendar import Calendar, Override, OverrideKind
from engine.domain.broker import NetPosition
from engine.domain.events import EventType
from engine.domain.orders import Product, Side
from engine.runtime import keys
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
    left.say()
    world.broker.token_dead = logged_in_after > 0
    left.recoverer.arm()
    world.clock.advance(logged_in_after)
    world.broker.token_dead = False
    sweeper = left.overnight()
    for _ in range(5):
        left.recoverer.arm()
        sweeper.look()
        world.clock.advance(1)
    assert sells(left)


def test_it_is_sold_while_postgresql_is_away(left: Recovery) -> None:
    left.say()
    # No recoverer looks at it: without PostgreSQL nobody holds its lock.
    assert (left.overnight().look(), left.overnight().look()) == (1, 0)
    assert left.world.run().closes_at == CLOSES_TODAY
    assert sells(left)


#: The calendar of that day, as an operator may say it is.
TODAY = MORNING.date()
CLOSED = Override("NSE", TODAY, OverrideKind.CLOSED)
SHORT = Override("NSE", TODAY, OverrideKind.SPECIAL, time(9, 15), time(12))
EVENING = Override("NSE", TODAY, OverrideKind.SPECIAL, time(18), time(19))
CLOSES_TODAY, MIDNIGHT, CLOSES_SHORT, CLOSES_EVENING = (
    Calendar().to_utc("NSE", TODAY, wall) for wall in (time(15, 30), time.min, time(12), time(19))
)
BEFORE, NOON, LATER, EVENING_BEGAN = (
    Calendar().to_utc("NSE", TODAY, wall) for wall in (time(9), time(12, 30), time(16), time(18, 1))
)


@pytest.mark.parametrize(
    ("overrides", "now", "closes_at"),
    [
        # Before the session, in it, after it; and on a day without one, known as such.
        ([], BEFORE, None),
        ([], MORNING, CLOSES_TODAY),
        ([], LATER, None),
        ([CLOSED], MORNING, None),
        ([SHORT], MORNING, CLOSES_SHORT),
        ([SHORT], NOON, None),
        ([EVENING], MORNING, None),
        ([EVENING], EVENING_BEGAN, CLOSES_EVENING),
    ],
)
def test_it_goes_on_in_the_session_there_is(
    left: Recovery, overrides: list[Override], now: datetime, closes_at: datetime | None
) -> None:
    left.say(*overrides)
    left.world.clock.jump(now)
    assert left.overnight().look() == (closes_at is not None)
    assert left.world.run().closes_at == (closes_at or run().closes_at)


@pytest.mark.parametrize(
    ("override", "now", "closes_at"),
    [
        (CLOSED, MORNING, MIDNIGHT),
        (SHORT, MORNING, CLOSES_SHORT),
        (SHORT, NOON, CLOSES_SHORT),
        (EVENING, MORNING, MIDNIGHT),
        (EVENING, EVENING_BEGAN, CLOSES_EVENING),
    ],
)
def test_it_follows_a_calendar_that_changes_once_its_session_has_begun(
    left: Recovery, override: Override, now: datetime, closes_at: datetime
) -> None:
    left.say()
    sweeper = left.overnight()
    assert sweeper.look() == 1
    left.say(override)
    left.world.clock.jump(now)
    assert (sweeper.look(), sweeper.look()) == (1, 0)
    assert left.world.run().closes_at == closes_at
    # A word that is taken back counts as well.
    left.world.clock.jump(min(now, NOON))
    left.say()
    assert sweeper.look() == 1
    assert left.world.run().closes_at == CLOSES_TODAY


def test_it_waits_for_a_word_on_the_calendar_and_goes_on_with_the_one_it_knew(left: Recovery) -> None:
    sweeper, redis = left.overnight(), left.world.live.redis
    assert sweeper.look() == 0
    for broken in ("no JSON", "{}", '{"overrides": [["NSE"]], "confirmed": []}'):
        redis.set(keys.CALENDAR, broken)
        assert sweeper.look() == 0
    left.say(SHORT)
    assert sweeper.look() == 1
    redis.delete(keys.CALENDAR)
    left.world.live.store.prolong(run().id, MIDNIGHT, left.world.clock.real)
    assert sweeper.look() == 1
    assert left.world.run().closes_at == CLOSES_SHORT


def test_in_a_year_nobody_confirmed_it_waits_and_the_operator_is_told_once(left: Recovery) -> None:
    left.say()
    left.world.clock.jump(MORNING.replace(year=2027))
    assert (left.overnight().look(), left.overnight().look()) == (0, 0)
    assert left.world.alerts().count("year_unconfirmed") == 1
    left.say(confirmed=[("NSE", 2027)])
    assert left.overnight().look() == 1


def test_what_began_today_or_holds_nothing_is_left_as_it_is(left: Recovery) -> None:
    left.say()
    left.world.clock.jump(run().buy_at)
    assert left.overnight().look() == 0
    left.world.clock.jump(MORNING)
    assert sells(left) is False
    assert left.overnight().look() == 1
    assert sells(left)
    left.world.push(left.world.broker.fill("B2"))
    left.world.clock.jump(MORNING + timedelta(days=1))
    assert left.overnight().look() == 0


def test_one_that_cannot_be_read_keeps_no_other_waiting(left: Recovery) -> None:
    left.say()
    left.world.live.redis.hset(keys.runtime(str(run().id)), "closes_at", "soon")
    assert left.overnight().look() == 0
