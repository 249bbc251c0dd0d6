"""Celery apps whose timed tasks do nothing but note when they began: the engine's own way, and Celery's.

`celery -A bench.noop:ours worker` is a worker of the engine with another body; `bench.noop:stock` knows nothing of it.
"""

import os
import time
from pathlib import Path
from typing import Any

from celery import Celery, Task
from celery.signals import worker_ready, worker_shutdown

from engine.clock import RealTime
from tasks import intake, lane

#: What a worker says when it takes messages.
READY = "bench worker ready"

_starts: list[int] = []


def note_start(_event: object) -> None:
    """The body."""
    _starts.append(time.time_ns())


def in_lane(task: "Task[..., Any]", app: Celery, consumer: Any) -> Any:
    """The engine's strategy, by a clock as the engine's."""
    return lane.strategy(task, app, consumer, RealTime(), lambda *_: None, str)


def _ours() -> Celery:
    app = Celery("ours", set_as_current=False)
    app.config_from_object("celeryconfig")
    app.conf.imports = ()
    app.task(name="execution.buy", Strategy="bench.noop:in_lane", shared=False)(note_start)
    intake.allowed.add("execution.buy")
    return app


def stock_at(redis_url: str | None) -> Celery:
    """Celery and RedBeat as they are, at this server."""
    app = Celery("stock", broker=redis_url, set_as_current=False)
    # Celery's and RedBeat's defaults, but a loop of a second: by default an entry may be seen five minutes late.
    app.conf.update(
        task_ignore_result=True,
        task_default_queue="stock",
        beat_scheduler="redbeat.RedBeatScheduler",
        beat_max_loop_interval=1,
        redbeat_redis_url=redis_url,
        redbeat_key_prefix="stock:",
        redbeat_redis_options={"socket_timeout": 5},
    )
    app.task(name="stock.buy", shared=False)(note_start)
    return app


ours, stock = _ours(), stock_at(os.environ.get("REDIS_URL"))


@worker_ready.connect
def _ready(**_: object) -> None:
    print(READY, flush=True)


@worker_shutdown.connect
def _write(**_: object) -> None:
    Path(os.environ["BENCH_STARTS"]).write_text("\n".join(map(str, _starts)))
