"""Publishing events as Celery messages. Queues and priorities are `celeryconfig`'s; a lost message is the sweeper's."""

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from celery import Celery
from kombu import Connection
from kombu.exceptions import OperationalError
from redis.client import Redis
from redis.exceptions import RedisError

from engine.domain.events import Event, EventType
from engine.ports import Log, WakeUp, Way

#: The task that serves each event.
TASK_OF: dict[EventType, str] = {kind: f"execution.{kind.value.lower()}" for kind in EventType}


class CeleryPublisher:
    """The `Publisher` port on Celery's queues, with messages that Celery made once and that are filled in here.

    To have Celery make and kombu send each takes four times as long. One for a later instant goes that way, which is
    rare.
    """

    def __init__(self, app: Celery, redis: "Redis", log: Log) -> None:
        """`redis`: the server of `app`'s queues."""
        self._app = app
        self._redis = redis
        self._log = log
        self._ready: dict[EventType, WakeUp] = {}

    def publish(self, event: Event, at: datetime | None = None) -> None:
        """Wake a worker for `event`; a failure is logged, never raised: `due` brings the run back."""
        try:
            if at is None and _is_plain(event.id):
                ready = self._ready.get(event.type) or self._ready.setdefault(
                    event.type, _prepared(self._app, event.type)
                )
                text = ready.text.replace("{event}", event.id).replace("{run}", str(event.run_id))
                self._redis.lpush(ready.queue, text)
            else:
                self._app.send_task(TASK_OF[event.type], args=(event.as_wire(),), eta=at, retry=False)
        except (OperationalError, RedisError, OSError) as error:
            self._log("publish_failed", reason=str(error), **event.as_wire())


def _is_plain(name: str) -> bool:
    """Whether JSON writes it as it is, within a text within a text, too."""
    return json.dumps(name) == f'"{name}"'


def wake_up(app: Celery, kind: EventType) -> WakeUp:
    """The message for an event of `kind`, for a script to fill in and lay into the queue itself.

    A script that latches a breach can send it in the same step, so that neither happens without the other, and tell in
    it how it found the run.
    """
    queue, text = _prepared(app, kind, reading="{reading}")
    # A reading is JSON, or null: nothing in quotes.
    return WakeUp(queue, text.replace('"{reading}"', "{reading}"))


def _prepared(app: Celery, kind: EventType, **headers: str) -> WakeUp:
    """A message for an event of `kind` with {event} and {run} to fill in, and the list of its queue and priority.

    Celery makes it, on kombu's in-memory transport; only its body is left as the text it is, and the event's id is its
    own.
    """
    event, task = {"id": "{event}", "type": kind.value, "run": "{run}"}, TASK_OF[kind]
    way = ways_of(app)[kind]
    with Connection("memory://") as connection:
        producer: Any = app.amqp.Producer(connection)
        app.send_task(task, args=(event,), task_id="{event}", producer=producer, retry=False, headers=headers)
        # What was put there, before anything decodes it.
        message = producer.channel._get(way.queue)
    message["body"] = base64.b64decode(message["body"]).decode()
    properties = {name: value for name, value in message["properties"].items() if name != "body_encoding"}
    message["properties"] = properties | {"delivery_tag": "{event}"}
    return WakeUp(way.lists[-1], json.dumps(message))


def ways_of(app: Celery) -> dict[EventType, Way]:
    """Where messages of each kind wait."""
    lists, steps = lists_of(app), app.conf.broker_transport_options["priority_steps"]

    def way(task: str) -> Way:
        route = app.amqp.router.route({}, task)
        queue, priority = route["queue"].name, route["priority"]
        return Way(queue, priority, lists[queue][: steps.index(priority) + 1])

    return {kind: way(task) for kind, task in TASK_OF.items()}


def lists_of(app: Celery) -> dict[str, list[str]]:
    """Queue -> its lists in Redis: one a priority, as kombu names them."""
    options = app.conf.broker_transport_options
    marks = [f"{options['sep']}{step}" if step else "" for step in options["priority_steps"]]
    return {queue.name: [f"{queue.name}{mark}" for mark in marks] for queue in app.conf.task_queues}


@dataclass(frozen=True, slots=True)
class Timed:
    """An event and the real instant it is to be served at."""

    event: Event
    at: datetime


class BatchPublisher:
    """Publishes many timed events in a few writes, by kombu's own batches: three times as fast as one by one."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def publish(self, timed: Iterable[Timed]) -> None:
        """Put a message for each on its queue; raises where the queue is away, and then some of them may be there."""
        with self._app.producer_pool.acquire(block=True) as pooled:
            producer: Any = pooled  # whose types know no batch yet
            with producer.batch():
                for each in timed:
                    task, wire = TASK_OF[each.event.type], each.event.as_wire()
                    self._app.send_task(task, args=(wire,), eta=each.at, producer=producer, retry=False)
