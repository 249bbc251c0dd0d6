"""What is no event of a living run ends as one dead letter; what is published lies where celeryconfig says."""

import json
from typing import Any

import pytest
from celery import Celery
from redis import Redis

from engine.dispatch import TASK_OF, CeleryPublisher
from engine.domain.events import Event, EventType
from engine.domain.run import RunId
from engine.runtime.connect import connect
from tasks.app import app
from tasks.intake import allowed, check
from tests.desk import Desk, event_of
from tests.eager import bought, call, sides

GOOD = {"id": "e1", "type": "BUY", "run": "1-20260105-1"}


@pytest.mark.parametrize(
    "payload",
    [
        None,
        [],
        7,
        "BUY",
        {},
        GOOD | {"id": ""},
        GOOD | {"id": 7},
        GOOD | {"id": "x" * 81},
        GOOD | {"id": "a\nb"},
        GOOD | {"id": "\ud800"},
        GOOD | {"type": "buy"},
        GOOD | {"type": "PANIC"},
        GOOD | {"type": None},
        GOOD | {"run": "1-20260230-1"},
        GOOD | {"run": "../1"},
        GOOD | {"run": "1-20260105"},
        GOOD | {"run": "\u0661-20260105-1"},
        GOOD | {"quantity": 1000000},
        {name: value for name, value in GOOD.items() if name != "run"},
    ],
)
def test_a_malformed_payload_becomes_one_dead_letter_and_touches_no_strategy(desk: Desk, payload: object) -> None:
    run = bought(desk)
    before = desk.live(run), len(desk.records())
    assert app.tasks["execution.buy"].apply_async(args=(payload,)).get() == "dead_letter"
    (letter,) = desk.records("dead_letter")
    assert letter["source"] == "queue"
    assert letter["reason"]
    assert (desk.live(run), len(desk.records()) - 1) == before
    assert sides(desk) == [("buy", 10)]


@pytest.mark.parametrize("kind", EventType)
def test_an_event_of_an_unknown_run_becomes_a_dead_letter_and_builds_nothing(
    desk: Desk, redis: Redis, kind: EventType
) -> None:
    stranger = Event("e1", kind, RunId.parse("99-20260105-1"))
    assert call(stranger) == "unknown"
    (letter,) = desk.records("dead_letter")
    assert letter["reason"] == "unknown run"
    assert redis.keys("*99-20260105*") == []


@pytest.mark.parametrize(
    ("kind", "held_in"),
    [
        (EventType.STOPLOSS, "stoploss"),
        (EventType.SELL, "orders"),
        (EventType.RETRY, "orders:3"),
        (EventType.BUY, "orders:6"),
        (EventType.SAFETY_ABORT, "safety"),
        (EventType.FORCE_STOP, "safety:3"),
        (EventType.ORDER_UPDATE, "maintenance:3"),
    ],
)
def test_a_published_event_lies_in_its_queue_at_its_priority(
    desk: Desk, queue: Celery, redis: Redis, kind: EventType, held_in: str
) -> None:
    CeleryPublisher(queue, redis, desk.parts.log).publish(event_of(desk.run(), kind))
    lists = [name for name in redis.scan_iter() if redis.type(name) == "list"]
    assert lists == [held_in]


@pytest.mark.parametrize("kind", EventType)
def test_a_published_event_is_the_message_celery_would_have_sent(
    desk: Desk, queue: Celery, redis: Redis, kind: EventType
) -> None:
    event = event_of(desk.run(), kind)
    CeleryPublisher(queue, redis, desk.parts.log).publish(event)
    queue.send_task(TASK_OF[kind], args=(event.as_wire(),), task_id=event.id)
    (name,) = [name for name in redis.scan_iter() if redis.type(name) == "list"]
    told: Any = redis.lrange(name, 0, -1)
    theirs, ours = map(json.loads, told)
    for message in (theirs, ours):
        asked = check(json.dumps(message).encode(), name.split(":")[0], allowed)
        assert (asked.task, asked.arguments) == (TASK_OF[kind], [event.as_wire()])
        # How the body is written, and what is new with each message or each process.
        for part, field in (("properties", "body_encoding"), ("properties", "delivery_tag"), ("headers", "origin")):
            message[part].pop(field, None)
        message["properties"].pop("reply_to")
        del message["body"]
    assert ours == theirs


def test_an_id_that_json_would_escape_is_sent_as_it_is(desk: Desk, queue: Celery, redis: Redis) -> None:
    event = Event('a "quoted" id', EventType.SELL, desk.run().id)
    CeleryPublisher(queue, redis, desk.parts.log).publish(event)
    told: Any = redis.lrange("orders", 0, -1)
    assert check(told[0].encode(), "orders", allowed).arguments == [event.as_wire()]


def test_a_queue_that_is_down_costs_a_log_line_and_raises_nothing(desk: Desk) -> None:
    dead = Celery("dead", set_as_current=False)
    dead.config_from_object("celeryconfig")
    dead.conf.update(broker_url="redis://127.0.0.1:1/0")
    said: list[str] = []
    publisher = CeleryPublisher(dead, connect(dead.conf.broker_url), lambda action, /, **_: said.append(action))
    publisher.publish(event_of(desk.run(), EventType.STOPLOSS))
    dead.close()
    assert said == ["publish_failed"]
