"""One WebSocket of Kite Connect v3 as an ordered stream of events: raw tick frames, order updates, line changes.

Reconnects forever, wants again what it wanted, and notices a silent line itself. Knows no other line.
"""

import asyncio
import json
import random
import time
from collections.abc import AsyncGenerator, Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException

from broker_connector.kite_book import book_entry
from broker_connector.kite_errors import error_reply
from broker_connector.kite_words import legible
from broker_connector.ticker import Mode
from engine.domain.broker import BookEntry, Outcome

#: Seconds without any frame, heartbeats included, until a line counts as dead.
SILENCE_LIMIT = 3.0
#: Seconds to open a connection.
OPEN_TIMEOUT = 5.0
#: Seconds a dead peer is waited for when its line is closed.
CLOSE_TIMEOUT = 0.5
#: Bounds of the pause before reconnecting, seconds; it doubles, less a random part.
BACKOFF_FIRST, BACKOFF_MAX = 0.1, 10.0
#: Instruments one subscription message may name.
SUBSCRIBE_BATCH = 1000

#: Kinds of text frames that are words for people.
_NOTICES = frozenset({"error", "message"})

#: Characters that are kept of an unreadable frame, and of why it is.
PAYLOAD_SHOWN, REASON_SHOWN = 2000, 300


@dataclass(frozen=True, slots=True)
class Frame:
    """A binary frame as it was received; heartbeats are left out."""

    data: bytes


@dataclass(frozen=True, slots=True)
class OrderUpdate:
    """The broker says that an order changed."""

    entry: BookEntry


@dataclass(frozen=True, slots=True)
class Connected:
    """The line stands and everything wanted is subscribed; what happened before is not replayed."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The line is gone or could not be opened. `token_invalid`: the broker itself refused the access token."""

    reason: str
    token_invalid: bool = False


@dataclass(frozen=True, slots=True)
class Malformed:
    """A text frame that could not be read: to be told of, nothing else. `payload` is its beginning."""

    reason: str
    payload: str = ""


@dataclass(frozen=True, slots=True)
class Notice:
    """What the broker tells its listeners in words, as an error of theirs or as news; nothing to act on."""

    kind: str
    text: str


Event = Frame | OrderUpdate | Connected | Disconnected | Malformed | Notice


class _Silent(Exception):
    """Raised when nothing came for the silence limit."""


class TickerLine:
    """One connection of an account. Use it from one event loop; iterate `events()` once.

    A slow consumer loses nothing: what it has not taken waits in the socket, and counts as no silence.
    """

    def __init__(
        self, url: str, silence_limit: float = SILENCE_LIMIT, jitter: Callable[[], float] = random.random
    ) -> None:
        self._url = url
        self._silence_limit = silence_limit
        self._jitter = jitter
        self._wanted: dict[int, Mode] = {}
        self._line: ClientConnection | None = None
        self._failures = 0
        #: When anything came last, monotonic seconds; None while it does not stand.
        self.heard_at: float | None = None

    @property
    def wanted(self) -> Collection[int]:
        """The instruments it is wanted for."""
        return self._wanted.keys()

    @property
    def load(self) -> int:
        """How many instruments it is wanted for."""
        return len(self._wanted)

    async def subscribe(self, tokens: Iterable[int], mode: Mode = Mode.FULL) -> None:
        """Want ticks of `tokens`, now and after every reconnection."""
        fresh = list(tokens)
        self._wanted |= dict.fromkeys(fresh, mode)
        await self._tell(_subscription(fresh, mode))

    async def unsubscribe(self, tokens: Iterable[int]) -> None:
        """Want no more ticks of `tokens`."""
        gone = [token for token in tokens if self._wanted.pop(token, None) is not None]
        await self._tell([json.dumps({"a": "unsubscribe", "v": gone})] if gone else [])

    async def events(self) -> AsyncGenerator[Event, None]:
        """Everything the line says, in order, for ever; close the iterator to hang up."""
        while True:
            try:
                async with connect(
                    self._url,
                    compression=None,
                    max_size=None,
                    open_timeout=OPEN_TIMEOUT,
                    close_timeout=CLOSE_TIMEOUT,
                    # Pings would prove the socket, not the feed: the silence limit watches the feed.
                    ping_interval=None,
                    proxy=None,
                ) as line:
                    # Open to others first: what is wanted meanwhile is told twice rather than never.
                    self._line = line
                    await self._resubscribe(line)
                    self.heard_at = time.monotonic()
                    yield Connected()
                    while True:
                        message = await self._next(line)
                        self._failures = 0
                        self.heard_at = time.monotonic()
                        event = event_of(message)
                        if event is not None:
                            yield event
            except (OSError, WebSocketException, TimeoutError, _Silent) as error:
                yield _disconnected(error)
            finally:
                self._line = self.heard_at = None
            await asyncio.sleep(self._pause())

    async def _next(self, line: ClientConnection) -> str | bytes:
        try:
            async with asyncio.timeout(self._silence_limit):
                return await line.recv()
        except TimeoutError:
            raise _Silent(f"nothing received for {self._silence_limit:g} s") from None

    async def _tell(self, messages: Iterable[str]) -> None:
        line = self._line
        if line is None:
            return
        try:
            for message in messages:
                await line.send(message)
        except WebSocketException:
            # The reader sees the same end and resubscribes.
            return

    async def _resubscribe(self, line: ClientConnection) -> None:
        for mode in Mode:
            tokens = [token for token, wanted in self._wanted.items() if wanted is mode]
            for message in _subscription(tokens, mode):
                await line.send(message)

    def _pause(self) -> float:
        """Seconds until the next try: doubling, and never all clients at once."""
        ceiling = min(BACKOFF_MAX, BACKOFF_FIRST * 2.0 ** min(self._failures, 16))
        self._failures += 1
        return ceiling * (0.5 + 0.5 * self._jitter())


def _subscription(tokens: list[int], mode: Mode) -> list[str]:
    messages = []
    for start in range(0, len(tokens), SUBSCRIBE_BATCH):
        batch = tokens[start : start + SUBSCRIBE_BATCH]
        messages.append(json.dumps({"a": "subscribe", "v": batch}))
        messages.append(json.dumps({"a": "mode", "v": [mode.value, batch]}))
    return messages


def event_of(message: str | bytes) -> Event | None:
    """The event a received message is; None for a heartbeat and for what is not understood. Never raises."""
    if isinstance(message, bytes):
        return Frame(message) if len(message) > 1 else None
    try:
        text = json.loads(message)
        if not isinstance(text, dict):
            return Malformed("not a JSON object", message[:PAYLOAD_SHOWN])
        if text.get("type") == "order":
            return OrderUpdate(book_entry(text["data"]))
        if text.get("type") in _NOTICES:
            return Notice(text["type"], legible(str(text.get("data")))[:REASON_SHOWN])
    except (ValueError, KeyError, RecursionError) as error:
        return Malformed(f"{type(error).__name__}: {error}"[:REASON_SHOWN], message[:PAYLOAD_SHOWN])
    # A kind of message nobody documented.
    return None


def _fields(body: bytes | bytearray | None) -> dict[str, Any] | None:
    """The JSON object of a refusal; None where there is none."""
    try:
        fields = json.loads(body or b"")
    except (ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None


def _disconnected(error: BaseException) -> Disconnected:
    if isinstance(error, InvalidStatus):
        reply = error_reply(error.response.status_code, _fields(error.response.body), None)
        return Disconnected(f"refused with {reply.message}"[:REASON_SHOWN], reply.outcome is Outcome.TOKEN_INVALID)
    return Disconnected(f"{type(error).__name__}: {error}")
