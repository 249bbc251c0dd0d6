"""A ticker on loopback that plays frames made beforehand: the same for the engine's listener and for the floor's."""

import asyncio
import json
import threading
import time
from collections.abc import Iterable
from http import HTTPStatus
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from broker_connector.ticker import Mode, Ohlc, TickPacket, encode_full, pack_frame

#: Seconds between heartbeats.
HEARTBEAT = 1.0


def frame_of(prices: Iterable[tuple[int, int]]) -> bytes:
    """One frame of full packets for these (token, price in units), stamped with this second."""
    now = int(time.time())
    return pack_frame(
        encode_full(TickPacket(token, Mode.FULL, price, ohlc=Ohlc(price, price, price, price), exchange_time=now))
        for token, price in prices
    )


class Feed:
    """`with Feed() as feed:` a server in a thread of its own."""

    def __init__(self, carrier: str = "", opens_at: int = 0) -> None:
        """`carrier`: the API key that gets ticks; any other is sent on to `elsewhere`, for its orders. "" for any.

        A symbol that is subscribed is told at once at `opens_at`, price units, as a broker does: without any packet a
        listener is blind for it, and nothing is bought. 0 tells nothing.
        """
        self._carrier, self._opens_at = carrier, opens_at
        #: Where a broker tells of orders.
        self.elsewhere = ""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._lines: set[ServerConnection] = set()
        #: Those that asked for ticks: an order stream asks for none.
        self._listeners: set[ServerConnection] = set()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(ready,), name="feed", daemon=True)
        self._thread.start()
        ready.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()
        self._loop.close()

    @property
    def listeners(self) -> int:
        """Connections that asked for ticks."""
        return len(self._listeners)

    def send(self, frame: bytes) -> None:
        """Send `frame` to every listener, now."""
        self._loop.call_soon_threadsafe(broadcast, self._listeners, frame)

    def _serve(self, ready: threading.Event) -> None:
        self._loop.run_until_complete(self._main(ready))

    async def _main(self, ready: threading.Event) -> None:
        self._ended = asyncio.Event()
        async with serve(
            self._welcome, "127.0.0.1", 0, compression=None, ping_interval=None, process_request=self._send_on
        ) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            #: Where it is.
            self.url = f"ws://127.0.0.1:{port}/ws"
            ready.set()
            while not self._ended.is_set():
                broadcast(self._lines, b"\x00")
                try:
                    await asyncio.wait_for(self._ended.wait(), HEARTBEAT)
                except TimeoutError:
                    continue

    def _send_on(self, line: ServerConnection, request: Request) -> Response | None:
        """Where `request` is not the carrier's, the answer that sends it to its orders."""
        query = urlsplit(request.path).query
        if self._carrier in ("", *parse_qs(query).get("api_key", [])):
            return None
        answer = line.respond(HTTPStatus.FOUND, "its orders are told elsewhere")
        answer.headers["Location"] = f"{self.elsewhere}?{query}"
        return answer

    async def _welcome(self, line: ServerConnection) -> None:
        self._lines.add(line)
        try:
            # A listener gets every frame, whatever it subscribed.
            async for message in line:
                self._listeners.add(line)
                tokens = _subscribed(message)
                if tokens and self._opens_at:
                    await line.send(frame_of((token, self._opens_at) for token in tokens))
        except ConnectionClosed:
            return
        finally:
            self._lines.discard(line)
            self._listeners.discard(line)


def _subscribed(message: str | bytes) -> list[int]:
    """The tokens of which `message` sets the mode: what a listener sends last of a subscription."""
    match json.loads(message):
        case {"a": "mode", "v": [_, tokens]}:
            return list(tokens)
        case _:
            return []
