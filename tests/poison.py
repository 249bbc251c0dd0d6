"""Messages no engine ever sent, each wrong in one place, as bytes that lie in a queue."""

import base64
import json
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from engine.dispatch import TASK_OF
from engine.domain.events import EventType

#: Which event a queue is for.
KIND_OF = {
    "stoploss": EventType.STOPLOSS,
    "orders": EventType.BUY,
    "safety": EventType.FORCE_STOP,
    "maintenance": EventType.ORDER_UPDATE,
}
GOOD: dict[str, Any] = {"id": "e1", "type": "BUY", "run": "999-20260105-1"}
NOTHING_MORE = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
#: A signature Celery would send after a task, or on its failure.
FOLLOW_UP: dict[str, Any] = {
    "task": "execution.force_stop",
    "args": [GOOD],
    "kwargs": {},
    "options": {},
    "subtask_type": None,
}


def message(
    queue: str = "orders",
    event: object = None,
    *,
    body: object = None,
    raw: bytes | None = None,
    headers: dict[str, Any] | None = None,
    properties: dict[str, Any] | None = None,
    over: Mapping[str, object] | None = None,
) -> bytes:
    """A message as Celery writes it: of `event`, a whole `body` or `raw` bytes; `over` replaces parts of it."""
    name = str(uuid4())
    whole = body if body is not None else [[event if event is not None else GOOD], {}, NOTHING_MORE]
    packed = raw if raw is not None else json.dumps(whole).encode()
    built: dict[str, Any] = {
        "body": base64.b64encode(packed).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": TASK_OF[KIND_OF[queue]], "id": name} | (headers or {}),
        "properties": {
            "correlation_id": name,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": name,
        }
        | (properties or {}),
    }
    return json.dumps(built | dict(over or {})).encode()


def refused_by_the_gate(queue: str = "orders") -> dict[str, bytes]:
    """What is no message of this engine at all: it must not reach Celery."""
    headers: dict[str, dict[str, Any]] = {
        "no task": {"task": None},
        "a task that is a number": {"task": 7},
        "a task that is a list": {"task": ["execution.buy"]},
        "an unknown task": {"task": "execution.panic"},
        "a task of Celery's that runs others": {"task": "celery.starmap"},
        "an id that is an object": {"id": {"a": 1}},
        "an id of a megabyte": {"id": "x" * 1_000_000},
        "an eta that is a word": {"eta": "soon"},
        "an eta that is a number": {"eta": 7},
        "an eta beyond the calendar": {"eta": "0001-01-01T00:00:00+14:00"},
        "an eta that would wait for ever": {"eta": "9999-12-31T23:59:59"},
        "an expiry": {"expires": "2001-01-01T00:00:00"},
        "limits that are words": {"timelimit": ["x", "y"]},
        "retries that are a word": {"retries": "x"},
        "a chain": {"chain": [FOLLOW_UP]},
        "a compression": {"compression": "gzip"},
        "stamps that are a word": {"stamps": "x"},
        "a parent that is a list": {"parent_id": []},
    }
    properties: dict[str, dict[str, Any]] = {
        "no delivery tag": {"delivery_tag": None},
        "another body encoding": {"body_encoding": "utf-16"},
        "a priority that is a word": {"priority": "high"},
        "a home in another queue": {"delivery_info": {"exchange": "", "routing_key": "celery"}},
        "a home nowhere": {"delivery_info": 7},
    }
    bodies: dict[str, object] = {
        "a number": 7,
        "text": "x",
        "two parts": [[GOOD], {}],
        "arguments that are a number": [7, {}, NOTHING_MORE],
        "no argument": [[], {}, NOTHING_MORE],
        "two arguments": [[GOOD, GOOD], {}, NOTHING_MORE],
        "a keyword": [[GOOD], {"event": GOOD}, NOTHING_MORE],
        "a third part that is a number": [[GOOD], {}, 7],
        "a follow-up": [[GOOD], {}, NOTHING_MORE | {"callbacks": [FOLLOW_UP]}],
        "an unknown type": [[{"__type__": "nope", "__value__": 1}], {}, NOTHING_MORE],
        "an argument of a megabyte": [[GOOD | {"id": "x" * 1_000_000}], {}, NOTHING_MORE],
    }
    raws = {
        "no JSON": b"{nope",
        "no text": b"\xff\xfe\x00",
        "a deep nest": b"[" * 10_000,
        "a deep and balanced nest": b"[" * 500 + b"]" * 500,
    }
    return (
        {f"headers: {name}": message(queue, headers=changed) for name, changed in headers.items()}
        | {f"properties: {name}": message(queue, properties=changed) for name, changed in properties.items()}
        | {f"body: {name}": message(queue, body=body) for name, body in bodies.items()}
        | {f"body: {name}": message(queue, raw=raw) for name, raw in raws.items()}
        | {
            "nothing": b"",
            "noise": b"\x00\xff garbage",
            "a number": b"7",
            "NaN": b"NaN",
            "an empty object": b"{}",
            "a nest": b"[" * 100_000,
            "an unknown type": b'{"__type__": ["x"], "__value__": 1}',
            "properties that are a list": message(queue, over={"properties": []}),
            "headers that are text": message(queue, over={"headers": "x"}),
            "headers that are missing": message(queue, over={"headers": None}),
            "a body that is a number": message(queue, over={"body": 7}),
            "a body not in base64": message(queue, over={"body": "%"}),
            "another content type": message(queue, over={"content-type": "application/x-yaml"}),
            "a pickle": message(queue, raw=b"\x80\x04N.", over={"content-type": "application/x-python-serialize"}),
            "a content type that is a number": message(queue, over={"content-type": 7}),
            "another content encoding": message(queue, over={"content-encoding": "utf-16"}),
            "the protocol of old": message(queue, body={"task": "execution.buy", "args": [GOOD]}, over={"headers": {}}),
        }
    )


def refused_by_the_engine(queue: str = "orders") -> dict[str, bytes]:
    """Well-formed messages whose event is none, or of no run: a dead letter of the pipeline's."""
    events: dict[str, object] = {
        "no object": [GOOD],
        "NaN": float("nan"),
        "infinite": GOOD | {"run": float("inf")},
        "negative": GOOD | {"run": "-1-20260105-1"},
        "a null byte": GOOD | {"id": "a\0b"},
        "half a surrogate": GOOD | {"id": "\ud800"},
        "a terminal's escape": GOOD | {"id": "\x1b[31m"},
        "no such type": GOOD | {"type": "PANIC"},
        "a number for a type": GOOD | {"type": -7},
        "a field too many": GOOD | {"x" * 30_000: 1},
        "no such day": GOOD | {"run": "1-20260230-1"},
        "a key of Redis": GOOD | {"run": "1:engine:epoch"},
        "an unknown strategy": GOOD,
    }
    return {name: message(queue, event) for name, event in events.items()}
