"""Celery twice: as it comes, and with the engine's transport options, gate and lane. Both do the peers' work."""

import os
from typing import Any

from celery import Celery
from celery.signals import worker_ready

from bench.peer.work import serve

READY = "bench worker ready"
TASK = "execution.buy"


def buy(event: dict[str, Any]) -> None:
    """The body."""
    serve(event["run"])


def _stock() -> Celery:
    app = Celery("stock", broker=os.environ.get("REDIS_URL"), set_as_current=False)
    app.conf.update(task_ignore_result=True, task_default_queue="stock")
    app.task(name=TASK, shared=False)(buy)
    return app


def _lane() -> Celery:
    from tasks import intake

    app = Celery("lane", set_as_current=False)
    app.config_from_object("celeryconfig")
    app.conf.imports = ()
    app.task(name=TASK, Strategy="bench.noop:in_lane", shared=False)(buy)
    intake.allowed.add(TASK)
    return app


stock, lane = _stock(), _lane()


@worker_ready.connect
def _ready(**_: object) -> None:
    print(READY, flush=True)
