"""Timers on RedBeat: one entry for all trades of one second, fired ahead of it; each message is held to its instant.

RedBeat reads and writes each of its entries alone, a millisecond a time, and knows whole seconds. So an entry stands
for a bucket, the second its trades fall into; the trades are kept beside it, and beat publishes them in batches.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from celery import Celery
from redbeat.schedulers import RedBeatSchedulerEntry, ensure_conf
from redbeat.schedules import rrule
from redis.client import Redis

from engine.dispatch import BatchPublisher, Timed
from engine.domain.events import Event, EventType, parse_event
from engine.domain.moment import Moment
from engine.domain.run import Run, RunId
from engine.ports import Publisher
from engine.runtime import keys

#: How far ahead of its second a bucket is fired: 5,000 messages take up to 3 s to write, and as long to receive.
LEAD = timedelta(seconds=4)
#: Closer than this to its instant a trade goes into no bucket, but to the queue: beat might not see it in time.
TOO_CLOSE = LEAD + timedelta(seconds=2)
#: What RedBeat calls the task of a bucket's entry; it never becomes a message.
FIRE_BUCKET = "timers.fire_bucket"

#: The field of a bucket that says it was fired: whoever adds to it from then on publishes himself.
_FIRED = "fired"
#: How long a bucket is kept past its second, seconds.
_KEPT = 3600


class RedBeatTimers:
    """The `Timers` port on RedBeat."""

    def __init__(self, app: Celery, redis: Redis, publisher: Publisher) -> None:
        self._app = app
        ensure_conf(app)
        self._redis = redis
        self._publisher = publisher

    def schedule(self, run: Run, now: Moment) -> None:
        """Trigger BUY and SELL at their instants, converted from market time now; what was set before is replaced."""
        self.cancel(run.id)
        instants = ((EventType.SELL, now.when(run.sell_at)), (EventType.BUY, now.when(run.buy_at)))
        # The later one first: a message published at once may end the run, and must find every timer to cancel.
        for kind, due in instants:
            timed = Timed(Event(f"{kind.value.lower()}:{run.id}", kind, run.id), due)
            if due - now.real < TOO_CLOSE or not self._add(timed):
                self._publisher.publish(timed.event, at=due)

    def cancel(self, run_id: RunId) -> None:
        """Take the run out of its buckets; a repeat changes nothing."""
        of_run = keys.timers_of(str(run_id))
        buckets: dict[str, str] = self._redis.hgetall(of_run)  # type: ignore[assignment]
        if not buckets:
            return
        with self._redis.pipeline(transaction=False) as pipe:
            for event_id, bucket in buckets.items():
                pipe.hdel(keys.timers(int(bucket)), event_id)
            pipe.delete(of_run)
            pipe.execute()

    def _add(self, timed: Timed) -> bool:
        """Whether beat will publish `timed`: not if its bucket was fired already."""
        bucket = int(timed.at.timestamp())
        key, of_run = keys.timers(bucket), keys.timers_of(str(timed.event.run_id))
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(key, timed.event.id, json.dumps([timed.event.as_wire(), timed.at.isoformat()]))
            pipe.expireat(key, bucket + _KEPT)
            pipe.hset(of_run, timed.event.id, str(bucket))
            pipe.expireat(of_run, bucket + _KEPT, gt=True)
            pipe.hexists(key, _FIRED)
            pipe.exists(RedBeatSchedulerEntry.generate_key(self._app, _name(bucket)))
            *_, is_fired, has_entry = pipe.execute()
        if not is_fired and not has_entry:
            self._entry(bucket).save()
        return not is_fired

    def _entry(self, bucket: int) -> RedBeatSchedulerEntry:
        fires_at = datetime.fromtimestamp(bucket, UTC) - LEAD
        return RedBeatSchedulerEntry(
            name=_name(bucket),
            task=FIRE_BUCKET,
            schedule=rrule("SECONDLY", dtstart=fires_at, count=1, app=self._app),
            args=[bucket],
            app=self._app,
        )


class Buckets:
    """The buckets as beat empties them. Raises RedisError."""

    def __init__(self, redis: Redis, publisher: BatchPublisher) -> None:
        self._redis = redis
        self._publisher = publisher

    def take(self, bucket: int) -> Sequence[Timed]:
        """The trades of `bucket`, closed to others from here on."""
        key = keys.timers(bucket)
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.hgetall(key)
            pipe.hset(key, _FIRED, "1")
            pipe.expireat(key, bucket + _KEPT)
            stored, *_ = pipe.execute()
        return [_timed(text) for name, text in stored.items() if name != _FIRED]

    def publish(self, timed: Sequence[Timed]) -> None:
        """Put each on its queue."""
        self._publisher.publish(timed)

    def forget(self, bucket: int, timed: Sequence[Timed]) -> None:
        """Drop what was published."""
        if timed:
            self._redis.hdel(keys.timers(bucket), *(each.event.id for each in timed))


def fire(buckets: Buckets, bucket: int) -> int:
    """Publish the trades of `bucket`, each to be held to its instant; returns how many.

    A repeat publishes what was not published; who dies in between leaves it to the sweeper.
    """
    timed = buckets.take(bucket)
    buckets.publish(timed)
    buckets.forget(bucket, timed)
    return len(timed)


def _name(bucket: int) -> str:
    return f"bucket:{bucket}"


def _timed(text: str) -> Timed:
    wire, at = json.loads(text)
    return Timed(parse_event(wire), datetime.fromisoformat(at))
