"""A broker's ticker as one stream of events over as many connections as its instruments need.

Which instrument is on which line is decided here alone. Knows nothing of what a tick or an update will cause.
"""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from functools import partial
from urllib.parse import urlencode

from broker_connector.feed_line import (
    SILENCE_LIMIT,
    Connected,
    Disconnected,
    Event,
    Frame,
    Malformed,
    Notice,
    OrderUpdate,
    TickerLine,
)
from broker_connector.ticker import Mode

__all__ = ["Connected", "Disconnected", "Event", "Frame", "KiteFeed", "Malformed", "Notice", "OrderUpdate"]

#: Kite's limits: instruments one connection carries, and connections of one key.
INSTRUMENTS_A_LINE, LINES = 3000, 3
#: Events read ahead of the consumer; what comes after them waits in the sockets.
READ_AHEAD = 16


class KiteFeed:
    """One account's ticker at Kite Connect v3. Use it from one event loop; iterate `events()` once.

    An instrument stays on its line, so its ticks keep their order. `Connected` means that every line stands,
    `Disconnected` that one does not; order updates, which the broker repeats on every line, come from the first.
    """

    def __init__(
        self,
        base_ws_url: str,
        api_key: str,
        access_token: str,
        silence_limit: float = SILENCE_LIMIT,
        jitter: Callable[[], float] = random.random,
        *,
        instruments_a_line: int = INSTRUMENTS_A_LINE,
        lines: int = LINES,
    ) -> None:
        url = f"{base_ws_url}?{urlencode({'api_key': api_key, 'access_token': access_token})}"
        self._open_line: Callable[[], TickerLine] = partial(TickerLine, url, silence_limit, jitter)
        self._room, self._most_lines = instruments_a_line, lines
        self._lines = [self._open_line()]
        self._home: dict[int, TickerLine] = {}
        self._standing: set[TickerLine] = set()
        self._events: asyncio.Queue[Event | Exception] = asyncio.Queue(READ_AHEAD)
        self._readers: list[asyncio.Task[None]] = []

    async def subscribe(self, tokens: Iterable[int], mode: Mode = Mode.FULL) -> list[int]:
        """Want ticks of `tokens`, now and after every reconnection; returns those no line has room for."""
        batches: dict[TickerLine, list[int]] = {}
        left_out: list[int] = []
        for token in tokens:
            line = self._home.get(token) or self._line_with_room(batches)
            if line is None:
                left_out.append(token)
            else:
                self._home[token] = line
                batches.setdefault(line, []).append(token)
        for line, batch in batches.items():
            await line.subscribe(batch, mode)
        return left_out

    async def unsubscribe(self, tokens: Iterable[int]) -> None:
        """Want no more ticks of `tokens`."""
        batches: dict[TickerLine, list[int]] = {}
        for token in tokens:
            if (line := self._home.pop(token, None)) is not None:
                batches.setdefault(line, []).append(token)
        for line, batch in batches.items():
            await line.unsubscribe(batch)

    def proven(self) -> list[tuple[float, list[int]]]:
        """For each line that stands: how long ago anything came over it, seconds, and the tokens it carries."""
        now = time.monotonic()
        return [(now - line.heard_at, [*line.wanted]) for line in self._lines if line.heard_at is not None]

    async def events(self) -> AsyncGenerator[Event, None]:
        """Everything the lines say, in the order of each, for ever; close the iterator to hang up."""
        self._readers = [self._reader(line) for line in self._lines]
        try:
            while True:
                event = await self._events.get()
                if isinstance(event, Exception):
                    raise event
                yield event
        finally:
            readers, self._readers = self._readers, []
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)

    def _line_with_room(self, batches: dict[TickerLine, list[int]]) -> TickerLine | None:
        """The first line with room beside what `batches` brings it, a new one if need be; None where all are full."""
        for line in self._lines:
            if line.load + len(batches.get(line, ())) < self._room:
                return line
        if len(self._lines) == self._most_lines:
            return None
        line = self._open_line()
        self._lines.append(line)
        if self._readers:
            self._readers.append(self._reader(line))
        return line

    def _reader(self, line: TickerLine) -> "asyncio.Task[None]":
        return asyncio.create_task(self._read(line))

    async def _read(self, line: TickerLine) -> None:
        try:
            async with aclosing(line.events()) as events:
                async for event in events:
                    if self._concerns(line, event):
                        await self._events.put(event)
        # The consumer must not wait for a line that a bug has ended.
        except Exception as error:  # noqa: BLE001
            await self._events.put(error)

    def _concerns(self, line: TickerLine, event: Event) -> bool:
        """Whether the consumer hears of `event`; keeps the account of which lines stand."""
        match event:
            case Connected():
                self._standing.add(line)
                return self._standing.issuperset(self._lines)
            case Disconnected():
                self._standing.discard(line)
                return True
            case Frame():
                return True
            case _:
                return line is self._lines[0]
