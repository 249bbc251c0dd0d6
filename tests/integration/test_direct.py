"""The direct line: whoever takes a message serves it, one that waits keeps nobody waiting, and Redis may go away."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.runtime.connect import connect
from engine.stack.valkey import EmbeddedValkey
from tasks import direct, intake
from tasks.app import app
from tasks.direct import Line
from tests.poison import message
from tests.processes import eventually

QUEUE = "stoploss"


class Counter:
    """What was served; whatever begins with "wait" is held until it is let go."""

    def __init__(self) -> None:
        self.served: list[bytes] = []
        self.let_go = threading.Event()

    def serve(self, raw: bytes) -> None:
        if raw.startswith(b"wait"):
            self.let_go.wait(10)
        self.served.append(raw)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    server = EmbeddedValkey(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def counter() -> Counter:
    return Counter()


@pytest.fixture
def line(server: EmbeddedValkey, counter: Counter) -> Iterator[Line]:
    made = Line(connect(server.url, text=False), QUEUE, 4, counter.serve)
    yield made
    counter.let_go.set()
    made.close()


def push(server: EmbeddedValkey, *messages: str) -> None:
    with connect(server.url) as redis:
        redis.lpush(QUEUE, *messages)


def test_each_message_is_served_once_and_those_that_wait_keep_nobody_waiting(
    server: EmbeddedValkey, counter: Counter, line: Line
) -> None:
    names = [f"{number}" for number in range(200)]
    push(server, "wait-1", "wait-2", "wait-3", *names)
    assert eventually(lambda: len(counter.served) == 200)
    assert sorted(counter.served) == sorted(name.encode() for name in names)


def test_what_is_being_served_comes_to_its_end_and_the_rest_stays_in_the_queue(
    server: EmbeddedValkey, counter: Counter, line: Line
) -> None:
    push(server, *(f"wait-{number}" for number in range(6)))
    with connect(server.url) as redis:
        assert eventually(lambda: redis.llen(QUEUE) == 2)
        closing = threading.Thread(target=line.close)
        closing.start()
        counter.let_go.set()
        closing.join(10)
        assert (len(counter.served), redis.llen(QUEUE)) == (4, 2)


def test_it_goes_on_after_its_redis_was_away(server: EmbeddedValkey, counter: Counter, line: Line) -> None:
    server.kill()
    server.start()
    push(server, "after")
    assert eventually(lambda: counter.served == [b"after"])


def test_a_task_that_fails_and_a_message_that_is_none_end_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []

    class Task:
        def run(self, event: object) -> None:
            seen.append(event)
            raise RuntimeError("it failed")

    refused: list[str] = []
    monkeypatch.setattr(intake, "refuse", lambda queue, refusal, raw: refused.append(str(refusal)))
    monkeypatch.setattr(intake, "allowed", {"execution.stoploss"})
    direct.serve({"execution.stoploss": Task()}, QUEUE, message(QUEUE, {"id": "e"}))
    direct.serve({"execution.stoploss": Task()}, QUEUE, b"\xff not JSON")
    assert (seen, len(refused)) == ([{"id": "e"}], 1)


def test_breaches_lie_in_the_list_the_direct_line_takes_from() -> None:
    # Kombu puts a message of any other priority into a list of its own.
    route = app.amqp.router.route({}, "execution.stoploss")
    assert (route["queue"].name, route["priority"]) == (app.conf.direct_queue, 0)
