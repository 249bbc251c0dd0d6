"""`publish.py KIND PAUSE RUN...` publishes an event for each run, PAUSE seconds from one to the next, and writes when
each was published, ns since the epoch: the process that sees what happens, beside the one that serves it.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from redis.client import Redis


def _loop() -> Callable[[str], object]:
    from bench.peer.loop import QUEUE

    redis = Redis.from_url(os.environ["REDIS_URL"])
    return lambda run: redis.lpush(QUEUE, run)


def _celery(name: str) -> Callable[[str], object]:
    from bench.peer import celeries

    app: Any = getattr(celeries, name)
    return lambda run: app.send_task(celeries.TASK, args=({"run": run},), retry=False)


def _huey() -> Callable[[str], object]:
    from bench.peer import hueys

    publish: Callable[[str], object] = hueys.buy
    return publish


def _engine() -> Callable[[str], object]:
    from engine.dispatch import CeleryPublisher
    from engine.domain.events import Event, EventType
    from engine.domain.run import RunId
    from engine.runtime.connect import connect
    from tasks.app import app

    publisher = CeleryPublisher(app, connect(app.conf.broker_url), lambda _action, /, **_facts: None)
    return lambda run: publisher.publish(Event(f"bench:{run}", EventType.BUY, RunId.parse(run)))


PUBLISHERS: dict[str, Callable[[], Callable[[str], object]]] = {
    "loop": _loop,
    "stock": lambda: _celery("stock"),
    "lane": lambda: _celery("lane"),
    "huey": _huey,
    "engine": _engine,
}


def main(kind: str, pause: float, runs: Sequence[str]) -> None:
    """Publish all of them."""
    publish = PUBLISHERS[kind]()
    published: list[int] = []
    for run in runs:
        published.append(time.time_ns())
        publish(run)
        time.sleep(pause)
    print(json.dumps(published))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), sys.argv[3:])
