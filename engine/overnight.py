"""Overnight: what is left holding when its session ends goes on in the next one, and follows the calendar from then on.

By the live state alone: in the morning PostgreSQL may be away, and a stop that fires must not wait for it.
"""

from collections.abc import Callable, Sequence
from datetime import date, datetime, time
from typing import Protocol

from engine.domain.moment import Moment
from engine.domain.run import RunId
from engine.domain.schedule import goes_on_until
from engine.domain.strategy import UnconfirmedYear
from engine.ports import Calendar, Clock, Holder, Log
from engine.telling import Told


class Live(Protocol):
    """What it needs of the live state. Every call raises StoreClosed."""

    def holders(self, before: date) -> Sequence[Holder]:
        """The runs of dates before that one which hold something."""

    def prolong(self, run_id: RunId, closes_at: datetime, due: datetime) -> str:
        """As `engine.ports.Store.prolong`."""


class Overnight:
    """Looks after the sessions of what is left of earlier dates. Any number may: each does what is not done yet."""

    def __init__(
        self, store: Live, calendar: Calendar, learn: Callable[[], bool], clock: Clock, told: Told, log: Log
    ) -> None:
        """`learn`: have `calendar` follow the operator's word; whether that word was ever known."""
        self._store = store
        self._calendar = calendar
        self._learn = learn
        self._clock = clock
        self._told = told
        self._log = log

    def look(self) -> int:
        """Give each of them the session that is under way; returns how many have another one now."""
        if not self._learn():
            # It may be a holiday that only the operator knows of.
            return 0
        now = self._clock.now()
        before = self._calendar.today("NSE", now.market)
        return sum(self._follow(holder, now) for holder in self._store.holders(before))

    def _follow(self, holder: Holder, now: Moment) -> bool:
        exchange = holder.symbol.split(":")[0]
        today = self._calendar.today(exchange, now.market)
        try:
            session = self._calendar.session(holder.symbol, today)
        except UnconfirmedYear as error:
            # What it has stays until somebody vouches for the year.
            self._told.of_year(error)
            return False
        midnight = self._calendar.to_utc(exchange, today, time.min)
        closes_at = goes_on_until(session, midnight, holder.closes_at, now.market)
        if closes_at == holder.closes_at or self._store.prolong(holder.run_id, closes_at, now.real) != "ok":
            return False
        self._log("prolonged", run=str(holder.run_id), closes_at=closes_at.isoformat())
        return True
