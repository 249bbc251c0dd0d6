"""Publishing events as Celery messages. Queues and priorities are `celeryconfig`'s; a lost message is the sweeper's."""

from datetime import datetime

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from engine.domain.events import Event, EventType
from engine.ports import Log

#: The task that serves each event.
TASK_OF: dict[EventType, str] = {kind: f"execution.{kind.value.lower()}" for kind in EventType}


class CeleryPublisher:
    """The `Publisher` port on Celery."""

    def __init__(self, app: Celery, log: Log) -> None:
        self._app = app
        self._log = log

    def publish(self, event: Event, at: datetime | None = None) -> None:
        """Wake a worker for `event`; a failure is logged, never raised: `due` brings the run back."""
        try:
            self._app.send_task(TASK_OF[event.type], args=(event.as_wire(),), eta=at, retry=False)
        except (OperationalError, RedisError, OSError) as error:
            self._log("publish_failed", reason=str(error), **event.as_wire())
