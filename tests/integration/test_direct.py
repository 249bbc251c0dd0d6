"""The direct line: whoever takes a message serves it, one that waits keeps nobody waiting, and Redis may go away."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.runtime.connect import connect
from engine.stack.valkey import EmbeddedValkey
from tasks import direct, intake
from tasks.app import app
from tasks.direct import Line, Work
from tests.poison import message
from tests.processes import eventually

QUEUE = "stoploss"


class Counter:
    """What was served; whatever begins with "wait" is held until it is let go."""

    def __init__(self) -> None:
        self.served: list[bytes] = []
        self.let_go = threading.Event()

    def read(self, raw: bytes) -> Work:
        """A message is "name", or "name of owner"."""
        name, _, owner = raw.partition(b" of ")
        return Work(lambda: self.serve(name), owner or None, name)

    def serve(self, name: bytes) -> None:
        if name.startswith(b"wait"):
            self.let_go.wait(10)
        self.served.append(name)


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
    made = Line(connect(server.url, text=False), QUEUE, 4, counter.read, account_share=2)
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


def test_what_was_taken_as_the_worker_ends_is_served(server: EmbeddedValkey, counter: Counter) -> None:
    taken, ending = threading.Event(), threading.Event()

    def read(raw: bytes) -> Work:
        taken.set()
        assert ending.wait(10)
        return counter.read(raw)

    line = Line(connect(server.url, text=False), QUEUE, 1, read)
    push(server, "last")
    assert taken.wait(10)
    closing = threading.Thread(target=line.close)
    closing.start()
    # A worker that ends waits for its threads: it is at that when it is still there after a while.
    closing.join(0.2)
    assert closing.is_alive()
    ending.set()
    closing.join(10)
    assert counter.served == [b"last"]


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
    work = direct.read({"execution.stoploss": Task()}, QUEUE, message(QUEUE, {"id": "e"}))
    assert work is not None
    work.run()
    assert direct.read({"execution.stoploss": Task()}, QUEUE, b"\xff not JSON") is None
    assert (seen, len(refused)) == ([{"id": "e"}], 1)


def test_a_message_tells_its_reading_to_its_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """A breach's message says how the listener found the run: without it every exit costs a round trip more."""
    told: list[object] = []

    class Task:
        def run(self, event: object, reading: object = None) -> None:
            told.append((event, reading))

    monkeypatch.setattr(intake, "allowed", {"execution.stoploss"})
    raw = json.loads(message(QUEUE, {"id": "e"}))
    raw["headers"]["reading"] = [["account_id", "7"], [], "1", 0]
    work = direct.read({"execution.stoploss": Task()}, QUEUE, json.dumps(raw).encode())
    assert work is not None
    work.run()
    assert told == [({"id": "e"}, [["account_id", "7"], [], "1", 0])]


def test_an_owner_whose_work_hangs_leaves_threads_to_others_and_its_own_work_follows(
    server: EmbeddedValkey, counter: Counter, line: Line
) -> None:
    names = [f"{number} of B" for number in range(50)]
    push(server, *(f"wait-{number} of A" for number in range(6)), *names)
    assert eventually(lambda: len(counter.served) == 50)
    counter.let_go.set()
    assert eventually(lambda: len(counter.served) == 56)


def test_of_two_alike_that_were_put_aside_one_is_served(server: EmbeddedValkey, counter: Counter, line: Line) -> None:
    push(server, *(f"wait-{number} of A" for number in range(2)))
    with connect(server.url) as redis:
        assert eventually(lambda: redis.llen(QUEUE) == 0)
        push(server, "again of A", "again of A", "other of A", "seen of B")
        assert eventually(lambda: counter.served == [b"seen"])
        # One of the two that are free may have taken the second and not have put it aside yet.
        assert eventually(lambda: redis.info("clients")["blocked_clients"] == 2)
    counter.let_go.set()
    assert eventually(lambda: len(counter.served) == 5)
    assert sorted(counter.served) == [b"again", b"other", b"seen", b"wait-0", b"wait-1"]


def test_breaches_lie_in_the_list_the_direct_line_takes_from() -> None:
    # Kombu puts a message of any other priority into a list of its own.
    route = app.amqp.router.route({}, "execution.stoploss")
    assert (route["queue"].name, route["priority"]) == (app.conf.direct_queue, 0)
