"""Timers on RedBeat: one entry for a run's BUY and one for its SELL, fired ahead and released at the instant.

RedBeat's times are whole seconds, so an entry fires a little early and its message carries the exact `eta`.
"""

from datetime import datetime, timedelta

from celery import Celery
from redbeat.schedulers import RedBeatSchedulerEntry, get_redis
from redbeat.schedules import rrule

from engine.dispatch import TASK_OF
from engine.domain.events import Event, EventType
from engine.domain.moment import Moment
from engine.domain.run import Run, RunId
from engine.ports import Publisher

#: How far ahead of its time an entry fires, beyond the rounding to whole seconds.
LEAD = timedelta(seconds=1)
#: Closer than this to its time there is no entry to fire ahead: the message is published at once.
TOO_CLOSE = timedelta(seconds=3)

_TIMED = (EventType.BUY, EventType.SELL)


class RedBeatTimers:
    """The `Timers` port on RedBeat."""

    def __init__(self, app: Celery, publisher: Publisher) -> None:
        self._app = app
        self._publisher = publisher

    def schedule(self, run: Run, now: Moment) -> None:
        """Trigger BUY and SELL at their instants, converted from market time now."""
        instants = ((EventType.SELL, now.when(run.sell_at)), (EventType.BUY, now.when(run.buy_at)))
        # The later one first: a message published at once may end the run, and must find every entry to cancel.
        for kind, due in instants:
            event = Event(f"{kind.value.lower()}:{run.id}", kind, run.id)
            if due - now.real < TOO_CLOSE:
                self._publisher.publish(event, at=due)
            else:
                self._entry(event, due).save()

    def cancel(self, run_id: RunId) -> None:
        """Remove the run's entries; a repeat changes nothing."""
        redis, prefix = get_redis(self._app), self._app.conf.redbeat_key_prefix
        names = [prefix + _name(run_id, kind) for kind in _TIMED]
        with redis.pipeline() as pipe:
            pipe.zrem(f"{prefix}:schedule", *names)
            pipe.delete(*names)
            pipe.execute()

    def _entry(self, event: Event, due: datetime) -> RedBeatSchedulerEntry:
        fires_at = (due - LEAD).replace(microsecond=0)
        return RedBeatSchedulerEntry(
            name=_name(event.run_id, event.type),
            task=TASK_OF[event.type],
            schedule=rrule("SECONDLY", dtstart=fires_at, count=1, app=self._app),
            args=[event.as_wire()],
            options={"eta": due.isoformat()},
            app=self._app,
        )


def _name(run_id: RunId, kind: EventType) -> str:
    return f"{run_id}:{kind.value.lower()}"
