"""A broker that only takes orders: an HTTP server that notes when each came, and answers as Kite does.

`python -m bench.sink` is the process; a stand for a broker where what is measured ends with the order's arrival.
"""

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from typing import Any
from urllib.parse import parse_qs, urlsplit

from bench.stand import Stand

#: What it says when it listens.
READY = "sink ready on "
_HEAD_ENDS = b"\r\n\r\n"


class _Orders(asyncio.Protocol):
    """One connection; all of them share what was noted, and what an answer waits."""

    noted: list[tuple[str, int]] = []  # noqa: RUF012 - one list for all connections
    delay = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport, self._received = transport, b""

    def data_received(self, data: bytes) -> None:
        came = time.time_ns()
        self._received += data
        while _HEAD_ENDS in self._received:
            head, _, rest = self._received.partition(_HEAD_ENDS)
            length = next(
                (int(line[15:]) for line in head.lower().split(b"\r\n") if line[:15] == b"content-length:"), 0
            )
            if len(rest) < length:
                return
            self._received = rest[length:]
            method, target, _ = head.decode().split(" ", 2)
            self._serve(method, target, rest[:length].decode(), came)

    def _serve(self, method: str, target: str, body: str, came: int) -> None:
        path, _, query = target.partition("?")
        match method, path:
            case _, "/noted":
                self._answer(_Orders.noted)
            case _, "/forget":
                _Orders.noted, _Orders.delay = [], float(parse_qs(query)["delay"][0])
                self._answer({})
            case "GET", _:
                # A worker keeps its connection warm by a read.
                self._answer({"status": "success", "data": {"user_id": "sink"}})
            case _:
                _Orders.noted.append((parse_qs(body).get("tag", [""])[0], came))
                order = {"status": "success", "data": {"order_id": str(len(_Orders.noted))}}
                asyncio.get_running_loop().call_later(_Orders.delay, self._answer, order)

    def _answer(self, body: Any) -> None:
        data = json.dumps(body).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        self._transport.write(head.encode() + data)


class Sink:
    """What asks the process at `url` what it noted."""

    #: An account of a desk is at it as at a broker.
    ws_url = "ws://127.0.0.1:1"

    def __init__(self, url: str) -> None:
        self.base_url = url

    def noted(self) -> list[tuple[str, int]]:
        """The tag of every order and when it came, ns since the epoch, in the order they came."""
        return [(tag, came) for tag, came in self._ask("/noted")]

    def forget(self, delay: float = 0.0) -> None:
        """Forget the orders; answer from now on after `delay` seconds."""
        self._ask(f"/forget?delay={delay}")

    def reset(self) -> None:
        """As a paper broker is asked to."""
        self.forget()

    def change_book(self, **_settings: float) -> None:
        """It has no book."""

    def price(self, symbol: str, price: str) -> None:
        """It has no market."""

    def _ask(self, path: str) -> Any:
        line = HTTPConnection(urlsplit(self.base_url).netloc)
        line.request("GET", path)
        answer = json.loads(line.getresponse().read())
        line.close()
        return answer


@contextmanager
def sink(at: Stand) -> Iterator[Sink]:
    """A sink on a free port, which ends with the stand."""
    at.start("sink", ("python", "-m", "bench.sink"), ready=READY)
    said = (at.directory / "sink.log").read_text()
    yield Sink(said.split(READY)[1].split()[0])


async def _main() -> None:
    server = await asyncio.get_running_loop().create_server(_Orders, "127.0.0.1", 0)
    print(f"{READY}http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main())
