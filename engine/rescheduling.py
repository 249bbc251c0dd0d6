"""Rescheduling: runs of today follow their session, where the calendar says something else of it than when they began.

Changes times and nothing else; what follows of them is decided where every run is.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from engine.domain.moment import Moment
from engine.domain.routing import Alert
from engine.domain.run import Run, RunId
from engine.domain.schedule import Times, fit, moved_alert
from engine.domain.strategy import UnconfirmedYear
from engine.ports import Calendar, Clock, Log, Timers


class Rows(Protocol):
    """What rescheduling needs of PostgreSQL."""

    def open_runs(self) -> Sequence[Run]:
        """Runs that still need the engine, with their orders."""

    def reschedule(self, run: Run) -> None:
        """Keep the times `run` has now: its live state is rebuilt from them."""


class LiveTimes(Protocol):
    """What rescheduling needs of the live state."""

    def reschedule(self, run_id: RunId, times: Times, due: datetime) -> str:
        """Give a run other times and have it looked at; answers as `signal`."""

    def alert(self, tenant: str, alert: Alert) -> None:
        """Record something a human should know that concerns no single run."""


class Rescheduler:
    """Looks after the times of open runs. Used by one thread of one process."""

    def __init__(
        self, rows: Rows, store: LiveTimes, timers: Timers, calendar: Calendar, clock: Clock, log: Log
    ) -> None:
        self._rows = rows
        self._store = store
        self._timers = timers
        self._calendar = calendar
        self._clock = clock
        self._log = log

    def look(self) -> int:
        """Give every run of today the times its session now allows; returns how many have other ones."""
        now = self._clock.now()
        return sum(self._follow(run, now) for run in self._rows.open_runs())

    def _follow(self, run: Run, now: Moment) -> bool:
        strategy, day = run.strategy, run.id.trading_date
        exchange = strategy.symbol.split(":")[0]
        if day != self._calendar.today(exchange, now.market):
            # What is left of another day goes on in a session of its own.
            return False
        buy_at, sell_at = (
            self._calendar.to_utc(exchange, day, wall) for wall in (strategy.buy_time, strategy.sell_time)
        )
        try:
            session = self._calendar.session(strategy.symbol, day)
        except UnconfirmedYear as error:
            # What was taken back leaves a day nobody vouches for: what it was stays until somebody does.
            self._log("session_unknown", run=str(run.id), reason=str(error))
            return False
        before, after = Times.of(run), fit(strategy, session, buy_at, sell_at, entered=bool(run.orders))
        if before == after or self._store.reschedule(run.id, after, now.real) != "ok":
            return False
        moved = after.put_into(run)
        for alert in moved_alert(strategy, before, after):
            self._store.alert(strategy.tenant, alert)
        self._timers.schedule(moved, now)
        # Last: until it is kept, all of this is repeated.
        self._rows.reschedule(moved)
        self._log(
            "rescheduled", run=str(run.id), sell_at=after.sell_at.isoformat(), closes_at=after.closes_at.isoformat()
        )
        return True
