"""The recoverer's process: one at a time by PostgreSQL's advisory lock; opens the store, then keeps it armed."""

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from engine import bootstrap
from engine.bootstrap import Parts
from engine.clock import ASK_EVERY, RealTime
from engine.processes.loop import AWAY, Stop, awaited, first_line, repeat
from engine.runtime import keys
from engine.store_outage import StoreOutage
from engine.tokens import TokenWatch
from models import schema

#: Seconds between two looks for strategies without a run, and at what the operator says of the calendar.
EVERY, RELEARN_EVERY = 0.5, 5.0
#: Seconds between two looks at all open runs where the calendar says nothing new: one of them may have been down then.
RESCHEDULE_EVERY = 30.0
#: Why the live state takes no calls though its server does.
REBUILT = "it is being rebuilt"
#: How often it is looked, while the store is closed, whether somebody must be told.
LOOKS_WHILE_CLOSED = timedelta(seconds=1)
#: A server tells how long it is up in whole seconds.
UPTIME_IS_ROUNDED = timedelta(seconds=1)


class _Watch:
    """Whether the store is open, and since when Redis was away from us where it is not."""

    def __init__(self, shared: Parts) -> None:
        self._shared = shared
        self._away_since: datetime | None = None

    def is_open(self) -> bool:
        """Whether the store is. Raises RedisError."""
        try:
            found = self._shared.epoch.is_open()
        except RedisError:
            self._away_since = self._away_since or self._shared.real.now()
            raise
        if found:
            self._away_since = None
        return found

    def takes_writes(self) -> None:
        """One that answers reads may refuse writes (out of memory, read-only). Raises RedisError."""
        self._shared.redis.set(keys.WRITTEN, 1)

    def why_away(self) -> str:
        """Why the live state takes no calls; "" where it does."""
        try:
            is_open = self.is_open()
            self.takes_writes()
        except RedisError as error:
            return first_line(error)
        return "" if is_open else REBUILT

    def went_at(self) -> datetime | None:
        """When the Redis before this one went; None where that cannot be told.

        A server that was started after the last was lost to us is another than what granted calls; one that was up
        all the while may have been a replica, whose primary went on without us.
        """
        if self._away_since is None:
            return None
        told: Any = self._shared.redis.info("server")
        now = self._shared.real.now()
        started = now - timedelta(seconds=int(told["uptime_in_seconds"]))
        return min(started + UPTIME_IS_ROUNDED, now) if started >= self._away_since - UPTIME_IS_ROUNDED else None


def _telling(outage: StoreOutage, watch: _Watch, holds: Callable[[], bool], step: Callable[[], float]) -> float:
    """What `step` answers where `holds` says that it is ours; whom it concerns hears of a live state that is away."""
    is_ours = False
    try:
        is_ours = holds()
        if not is_ours:
            outage.leave()
            return EVERY
        pause = step()
    except AWAY as error:
        # PostgreSQL may have ended what would have found Redis away, or what rebuilds it.
        why = watch.why_away() if isinstance(error, SQLAlchemyError) else first_line(error)
        if not why:
            outage.end()
        elif is_ours:
            outage.away(why)
        else:
            # It may be another's to tell: that is known once PostgreSQL is back.
            outage.notice(why)
        raise
    outage.back()
    return pause


def _wait_closed(outage: StoreOutage, real: RealTime, until: datetime) -> None:
    """Sleep until then while the store is closed; whom it concerns hears of that."""
    while (now := real.now()) < until:
        # Whoever could not be told is told in the next second: the rebuilding waits for nobody.
        with suppress(SQLAlchemyError):
            outage.away(REBUILT)
        real.sleep_until(min(until, now + LOOKS_WHILE_CLOSED))


def main() -> None:
    """Recover, then arm and reschedule until told to stop."""
    shared, stop = bootstrap.parts("recoverer"), Stop()
    # Whoever starts first brings the tables up to date; a repeat changes nothing.
    awaited(shared, partial(schema.upgrade, shared.settings.database_url), stop)
    sessions, lock = bootstrap.database(shared.settings), bootstrap.recoverer_lock(shared.settings)
    days = awaited(shared, partial(bootstrap.calendar, shared.settings, sessions), stop)
    bootstrap.watch_clock(shared)
    recoverer = bootstrap.recoverer(shared, sessions, days)
    rescheduler = bootstrap.rescheduler(shared, sessions, days)
    tokens = TokenWatch(shared.store, shared.log)
    relearned = rescheduled = 0.0
    watch, word, outage = _Watch(shared), bootstrap.calendar_word(shared), bootstrap.store_outage(shared, sessions)

    def step() -> float:
        return _telling(outage, watch, lock.hold, recover)

    def recover() -> float:
        nonlocal relearned, rescheduled
        if not watch.is_open():
            recoverer.open(shared.real.now, partial(_wait_closed, outage, shared.real), lock.hold, watch.went_at())
            # Where another recoverer has taken over, it is not ours to arm.
            if not watch.is_open():
                return EVERY
            relearned = 0.0
        # Whoever holds must hear of one that does not, too.
        watch.takes_writes()
        recoverer.refresh_accounts()
        if not shared.clock.is_announced():
            return ASK_EVERY
        if time.monotonic() >= relearned + RELEARN_EVERY:
            if bootstrap.relearn(days, sessions):
                rescheduled = 0.0
            word.keep(days)
            tokens.look(recoverer.accounts, shared.clock.now())
            relearned = time.monotonic()
        recoverer.arm()
        if time.monotonic() >= rescheduled + RESCHEDULE_EVERY:
            # After arming: what it looks at is in the live state by then.
            rescheduler.look()
            rescheduled = time.monotonic()
        return EVERY

    repeat(shared, "recoverer", step, stop)
    lock.release()
