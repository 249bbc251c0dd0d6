"""The queue's Redis goes away and comes back: no publisher is held up, beat and workers find back."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from redis import Redis

from broker_connector.paper.process import PaperControl, paper_broker
from engine import bootstrap
from engine.dispatch import TASK_OF, CeleryPublisher
from engine.domain.events import Event, EventType, parse_event
from engine.domain.run import RunId
from engine.runtime.connect import connect
from engine.schedule import TOO_CLOSE, RedBeatTimers
from engine.stack.valkey import EmbeddedValkey
from tasks.app import app_at
from tasks.intake import check
from tests.celery_nodes import ProcessContainer, WorkerContainer, WorkerNode, command_of
from tests.desk import PAPER, environment, event_of, open_desk
from tests.processes import eventually

#: Seconds a publisher may be held up by a queue that is away: the listener publishes between two frames.
HELD_UP = 0.5


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    """A Valkey of the test's own, for it is killed."""
    server = EmbeddedValkey(tmp_path / "valkey")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def queue(server: EmbeddedValkey) -> Iterator[Celery]:
    app = app_at(server.url)
    yield app
    app.close()


def test_publishing_is_given_up_at_once_while_the_queue_is_away_and_works_when_it_is_back(
    server: EmbeddedValkey, queue: Celery
) -> None:
    said: list[str] = []
    publisher = CeleryPublisher(queue, connect(server.url, repeats=1), lambda action, /, **_: said.append(action))

    def event(name: str) -> Event:
        return Event(name, EventType.STOPLOSS, RunId.parse("1-20260105-1"))

    publisher.publish(event("before"))
    assert said == []
    server.kill()
    for attempt in range(1, 4):
        started = time.monotonic()
        publisher.publish(event("meanwhile"))
        assert time.monotonic() - started < HELD_UP
        assert said == ["publish_failed"] * attempt
    server.start()
    publisher.publish(event("after"))
    assert said == ["publish_failed"] * 3
    with Redis.from_url(server.url) as redis:
        raw: Any = redis.lrange("stoploss", 0, -1)
    read = [check(each, "stoploss", {TASK_OF[EventType.STOPLOSS]}) for each in raw]
    # Those published while it was away are not sent late; what was there before a kill may be lost with it.
    assert {parse_event(*asked.arguments).id for asked in read} - {"before"} == {"after"}


@pytest.fixture(scope="module")
def paper() -> Iterator[PaperControl]:
    with paper_broker(*PAPER) as control:
        yield control


@pytest.mark.slow
@pytest.mark.parametrize("away", [1.0, 8.0])
def test_beat_and_a_worker_go_on_after_their_queue_was_away(
    server: EmbeddedValkey,
    queue: Celery,
    paper: PaperControl,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    away: float,
) -> None:
    monkeypatch.setattr(bootstrap, "app", queue)
    chosen = environment(server.url)
    beat = ProcessContainer("beat", command_of("beat"), chosen, tmp_path / "beat.log")
    orders = WorkerContainer("worker-orders", chosen, tmp_path / "orders.log")
    node = WorkerNode(orders, None)
    with open_desk(server.url, paper) as desk:
        beat.start()
        orders.start()
        try:
            orders.ready()
            timers = RedBeatTimers(queue, desk.parts.redis, desk.parts.publisher)

            def fires() -> float:
                """Seconds after its time that a timer's task was served."""
                run = desk.arm(buy_in=TOO_CLOSE.total_seconds() + 1)
                timers.schedule(run, desk.parts.clock.now())
                desk.parts.clock.sleep_until(run.buy_at)
                started = time.monotonic()
                assert eventually(lambda: node.served(f"buy:{run.id}") != [], within=40), beat.logs() + orders.logs()
                return time.monotonic() - started

            assert fires() < 2
            pids = beat.pid, orders.pid
            server.kill()
            time.sleep(away)
            server.start()
            desk.parts.redis.connection_pool.disconnect()
            desk.parts.epoch.forget()
            # Lost whole, the beats' lock, too.
            desk.parts.redis.flushall()
            desk.open()
            assert eventually(lambda: desk.parts.redis.exists("redbeat::leader") == 1)
            # The first event tells the worker that its Redis is another one, unless its watch of the clock did so.
            desk.parts.publisher.publish(event_of(desk.run(), EventType.RETRY))
            assert eventually(lambda: node.lines("store_closed") + node.lines("event_refused") != [], within=20)
            assert fires() < 2
            assert (beat.status, orders.status, beat.pid, orders.pid) == ("running", "running", *pids)
        finally:
            beat.ask_to_end()
            orders.teardown()
            beat.teardown()
