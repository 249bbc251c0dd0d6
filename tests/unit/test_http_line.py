"""The HTTP line's bytes: a request is one write, whole with its body, and a body of nothing is no reason to wait."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from types import SimpleNamespace

import pytest

from broker_connector import http
from broker_connector.http import Answer, Failure, Line
from engine.domain.broker import Outcome

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Server:
    """Answers every request on every connection, and keeps what each read gave it."""

    def __init__(self) -> None:
        self.reads: list[bytes] = []
        self.answer = ANSWER
        self.connections = 0
        #: Seconds between two bytes that follow an answer without end; 0: none do.
        self.drips = 0.0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/base/"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                line, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._answer, args=(line,), daemon=True).start()

    def _answer(self, line: socket.socket) -> None:
        with line:
            while read := line.recv(65536):
                self.reads.append(read)
                if not self.answer:
                    return
                line.sendall(self.answer)
                with suppress(OSError):
                    while self.drips:
                        line.sendall(b"x")
                        time.sleep(self.drips)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


def test_head_and_body_leave_in_one_write_on_a_connection_that_is_kept(server: Server) -> None:
    line = Line(server.url, {"X-Kite-Version": "3"})
    for number in range(3):
        assert isinstance(line.send("POST", "/orders/regular", {"quantity": str(number)}), Answer)
    line.close()
    assert [read.partition(b"\r\n\r\n")[2] for read in server.reads] == [b"quantity=0", b"quantity=1", b"quantity=2"]
    assert server.reads[0].startswith(b"POST /base/orders/regular HTTP/1.1\r\n")
    assert b"\r\nX-Kite-Version: 3\r\n" in server.reads[0]


@pytest.mark.parametrize(("method", "form"), [("POST", {}), ("POST", None), ("DELETE", None), ("GET", None)])
def test_a_request_without_a_body_is_sent_at_once(server: Server, method: str, form: dict[str, str] | None) -> None:
    line = Line(server.url, {})
    assert isinstance(line.send(method, "/x", form), Answer)
    line.close()
    (read,) = server.reads
    assert read.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(("method", "form"), [("POST", {"a": "1"}), ("POST", None), ("DELETE", None), ("GET", None)])
def test_what_is_not_answered_is_in_doubt_and_not_sent_again(
    server: Server, method: str, form: dict[str, str] | None
) -> None:
    server.answer = b""
    line = Line(server.url, {})
    ended = line.send(method, "/x", form)
    line.close()
    assert isinstance(ended, Failure)
    assert (ended.outcome, len(server.reads), server.connections) == (Outcome.TIMEOUT, 1, 1)


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_an_answer_that_comes_byte_by_byte_ends_in_doubt(server: Server, method: str) -> None:
    server.answer, server.drips = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", 0.05
    line = Line(server.url, {})
    answer = line.send(method, "/x", {"a": "1"} if method == "POST" else None, within=0.3)
    assert isinstance(answer, Failure)
    assert answer.outcome is Outcome.TIMEOUT
    # Its connection is gone with it.
    server.answer, server.drips = ANSWER, 0.0
    assert isinstance(line.send("GET", "/y"), Answer)
    assert server.connections == 2
    line.close()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(server: Server, status: int) -> None:
    head = f"HTTP/1.1 {status} Elsewhere\r\nLocation: {server.url}other\r\nContent-Length: 0\r\n\r\n"
    server.answer = head.encode()
    line = Line(server.url, {})
    answer = line.send("POST", "/x", {"a": "1"})
    line.close()
    assert isinstance(answer, Answer)
    assert (answer.status, len(server.reads)) == (status, 1)


def test_what_may_not_be_sent_is_not_and_the_connection_serves_the_next(server: Server) -> None:
    line = Line(server.url, {})
    assert not isinstance(line.send("POST", "/x", {"a": "1"}, may_send=lambda: False), Answer)
    assert isinstance(line.send("POST", "/x", {"a": "2"}), Answer)
    line.close()
    assert [read.partition(b"\r\n\r\n")[2] for read in server.reads] == [b"a=2"]


def test_a_connection_that_was_idle_for_too_long_is_replaced_before_the_write_and_one_in_use_is_not(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed = 0.0
    monkeypatch.setattr("broker_connector.http.time", SimpleNamespace(monotonic=lambda: 1000.0 + passed))
    line = Line(server.url, {})
    opened = []
    for wait in (0.0, http.IDLE_LIMIT - 1, http.IDLE_LIMIT - 1, http.IDLE_LIMIT, http.IDLE_LIMIT - 1, 3600.0):
        passed += wait
        assert isinstance(line.send("POST", "/orders/regular", {"a": "1"}), Answer)
        opened.append(server.connections)
    line.close()
    assert opened == [1, 1, 1, 2, 2, 3]
    assert len(server.reads) == 6
