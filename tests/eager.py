"""Tasks called where they stand, for tests under Celery's eager mode: wake a run, buy it, let the broker tell."""

from typing import Any

from engine.dispatch import TASK_OF
from engine.domain.events import Event, EventType
from engine.domain.run import Position, Run
from tasks.app import app
from tests.desk import Desk, event_of


def call(event: Event) -> str:
    """Run the event's own task; what it raises comes out of here."""
    return str(app.tasks[TASK_OF[event.type]].apply_async(args=(event.as_wire(),)).get())


def wake(run: Run, kind: EventType) -> str:
    return call(event_of(run, kind))


def bought(desk: Desk, **asked: Any) -> Run:
    """A run that was bought and knows of its fill."""
    run = desk.arm(**asked)
    assert wake(run, EventType.BUY) == "submitted: accepted"
    desk.hear()
    wake(run, EventType.ORDER_UPDATE)
    assert desk.live(run).position is Position.BOUGHT
    return run


def heard(desk: Desk, run: Run) -> tuple[str, str] | None:
    """The run's end, once the broker has told what became of its orders."""
    desk.hear()
    wake(run, EventType.ORDER_UPDATE)
    return desk.ended(run)


def sides(desk: Desk) -> list[tuple[str, int]]:
    return [(row["side"], row["filled_quantity"]) for row in desk.sent()]
