"""The tasks: each hands its event to the pipeline. What an event may do is decided there, not here."""

from collections.abc import Callable
from functools import partial
from typing import Any

from celery import Celery, Task
from celery.signals import celeryd_init, setup_logging, worker_ready, worker_shutdown

from engine import bootstrap
from engine.domain.events import MalformedEvent, parse_event
from engine.ports import StoreClosed
from tasks import direct, intake, lane
from tasks.app import app

Wire = dict[str, Any]


def in_lane(task: "Task[..., Any]", app: Celery, consumer: Any) -> Callable[..., None]:
    """How a worker serves messages of `task`: by this process's clock."""
    real = bootstrap.worker().parts.real
    intake.now = real.now
    return lane.strategy(task, app, consumer, real, look_asked_for, account_of)


def look_asked_for(event: object) -> tuple[str, str] | None:
    """A wake-up says which run to look at, and why: two alike ask for one look. None of what is no event."""
    try:
        known = parse_event(event)
    except MalformedEvent:
        return None
    return known.type.value, str(known.run_id)


def account_of(event: object, reading: object = None) -> int | None:
    """The account whose share of the threads `event` is served on; None where nobody knows."""
    try:
        run_id = parse_event(event).run_id
    except MalformedEvent:
        return None
    return bootstrap.worker().owners.of(run_id, reading)


def look_and_account(event: object, reading: object = None) -> tuple[int | None, tuple[str, str] | None]:
    """Whose share a message is on, and which look it asks for."""
    return account_of(event, reading), look_asked_for(event)


_task = partial(app.task, Strategy="tasks.execution:in_lane")


def _process(event: Wire, reading: object = None) -> str:
    worker = bootstrap.worker()
    try:
        return worker.pipeline.process(event, reading)
    except StoreClosed as error:
        # The run's own fields bring it back once the recoverer has opened the store again.
        worker.parts.log("store_closed", reason=str(error), message=event)
        return "store_closed"


@_task(name="execution.buy")
def buy(event: Wire) -> str:
    """BUY: the scheduler says it is buy_time."""
    return _process(event)


@_task(name="execution.sell")
def sell(event: Wire) -> str:
    """SELL: the scheduler says it is sell_time."""
    return _process(event)


@_task(name="execution.stoploss")
def stoploss(event: Wire, reading: object = None) -> str:
    """STOPLOSS: the listener latched a breach; `reading` is how it found the run, where its message tells that."""
    return _process(event, reading)


@_task(name="execution.retry")
def retry(event: Wire) -> str:
    """RETRY: the pause after a failed attempt is over."""
    return _process(event)


@_task(name="execution.safety_abort")
def safety_abort(event: Wire) -> str:
    """SAFETY_ABORT: stored state or the broker's evidence says the strategy cannot go on."""
    return _process(event)


@_task(name="execution.force_stop")
def force_stop(event: Wire) -> str:
    """FORCE_STOP: the user wants it ended."""
    return _process(event)


@_task(name="execution.order_update")
def order_update(event: Wire) -> str:
    """The broker said something of an order, or it is time to ask."""
    return _process(event)


app.steps["worker"].add(direct.Direct)
direct.whose = look_and_account
intake.allowed.update(name for name in app.tasks if name.startswith("execution."))


@intake.message_refused.connect
def _refused(source: str, reason: str, payload: str, **_: object) -> None:
    """What came off a queue and is no message of ours ends here, told once."""
    shared = bootstrap.worker().parts
    shared.log("dead_letter", source=source, reason=reason)
    try:
        shared.store.dead_letter("queue", f"{source}: {reason}", payload)
    except StoreClosed as error:
        shared.log("store_closed", reason=str(error))


@setup_logging.connect
def _log_as_the_engine_does(**_: object) -> None:
    """Celery configures no logging of its own where this is connected."""
    bootstrap.log_to_stdout("celery")


@celeryd_init.connect
def _named(sender: Any, **_: object) -> None:
    bootstrap.name_worker(f"worker-{sender.split('@')[0]}")


@worker_ready.connect
def _ready(sender: Any, **_: object) -> None:
    # Composed before the first order comes, not by it.
    worker = bootstrap.worker()
    worker.watch_clock()
    worker.keep_warm()
    for queue in sender.app.amqp.queues.consume_from:
        worker.tell_backlog(queue, lane.waiting)
    bootstrap.settle()
    worker.announce(sender.hostname.split("@")[0])


@worker_shutdown.connect
def _close(**_: object) -> None:
    bootstrap.close_worker()
