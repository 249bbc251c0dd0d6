"""One feed over several lines: who carries what, one account of what stands, and each line's own watchdog."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.utils import accept_key

from broker_connector import feed_line
from broker_connector.feed import Connected, Disconnected, Event, Frame, KiteFeed, Notice, OrderUpdate
from broker_connector.ticker import Mode, decode, encode_ltp, pack_frame

ORDER = {
    "order_id": "1", "status": "OPEN", "quantity": 1, "filled_quantity": 0, "average_price": 0, "exchange": "NSE",
    "tradingsymbol": "INFY", "transaction_type": "BUY", "tag": "T", "order_timestamp": "2026-11-23 09:30:00",
}  # fmt: skip


class Broker:
    """A ticker that answers a subscription with one price a token and keeps what each connection asked for."""

    def __init__(self) -> None:
        self.lines: list[ServerConnection] = []
        self.asked: dict[ServerConnection, list[int]] = defaultdict(list)
        self.modes: dict[int, str] = {}
        self.dropped: list[int] = []
        #: Connections that get no heartbeat and no answer.
        self.mute: set[ServerConnection] = set()

    async def speak(self, line: ServerConnection) -> None:
        self.lines.append(line)
        beating = asyncio.create_task(self._beat(line))
        with suppress(ConnectionClosed):
            async for text in line:
                await self._obey(line, json.loads(text))
        beating.cancel()

    async def _beat(self, line: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            while True:
                if line not in self.mute:
                    await line.send(b"\x00")
                await asyncio.sleep(0.1)

    async def _obey(self, line: ServerConnection, message: dict[str, object]) -> None:
        match message["a"], message["v"]:
            case "subscribe", [*tokens]:
                self.asked[line] += [token for token in tokens if isinstance(token, int)]
            case "unsubscribe", [*tokens]:
                self.dropped += [token for token in tokens if isinstance(token, int)]
            case "mode", [mode, [*tokens]]:
                self.modes |= dict.fromkeys((token for token in tokens if isinstance(token, int)), str(mode))
                if line not in self.mute:
                    await line.send(pack_frame([encode_ltp(token, 100) for token in self.modes if token in tokens]))


@asynccontextmanager
async def at_a_broker(silence_limit: float = 5.0) -> AsyncIterator[tuple[Broker, KiteFeed]]:
    broker = Broker()
    async with serve(broker.speak, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        url = f"ws://127.0.0.1:{port}/"
        yield broker, KiteFeed(url, "key", "token", silence_limit, instruments_a_line=2, lines=3)


async def until(events: AsyncIterator[Event], *kinds: type[Event]) -> list[Event]:
    """What came, to the first event of each of `kinds`, in their order."""
    told: list[Event] = []
    async with asyncio.timeout(10):
        for kind in kinds:
            async for event in events:
                told.append(event)
                if isinstance(event, kind):
                    break
    return told


async def heard(events: AsyncIterator[Event], tokens: set[int]) -> None:
    """Return when a price of each of `tokens` came."""
    async with asyncio.timeout(10):
        async for event in events:
            if isinstance(event, Frame):
                tokens = tokens - {packet.token for packet in decode(event.data).packets}
            if not tokens:
                return


def test_instruments_are_spread_over_lines_as_they_come_and_what_has_no_room_is_told() -> None:
    async def scenario() -> None:
        async with at_a_broker() as (broker, feed):
            assert await feed.subscribe([1, 2, 3]) == []
            async with aclosing(feed.events()) as events:
                await until(events, Connected)
                await heard(events, {1, 2, 3})
                assert await feed.subscribe([4, 5, 6, 7, 8], Mode.LTP) == [7, 8]
                await heard(events, {4, 5, 6})
                assert sorted(sorted(asked) for asked in broker.asked.values()) == [[1, 2], [3, 4], [5, 6]]
                assert broker.modes == {1: "full", 2: "full", 3: "full", 4: "ltp", 5: "ltp", 6: "ltp"}
                # What is given up makes room on its own line.
                await feed.unsubscribe([3, 99])
                assert await feed.subscribe([7]) == []
                await heard(events, {7})
                assert broker.dropped == [3]

    asyncio.run(scenario())


def test_the_feed_stands_when_every_line_does_and_a_lost_one_comes_back_with_its_own_instruments() -> None:
    async def scenario() -> None:
        async with at_a_broker() as (broker, feed):
            await feed.subscribe([1, 2, 3])
            async with aclosing(feed.events()) as events:
                await until(events, Connected)
                await heard(events, {1, 2, 3})
                assert len(broker.lines) == 2
                lost = next(line for line, asked in broker.asked.items() if asked == [3])
                await lost.close()
                await until(events, Disconnected, Connected)
                assert len(broker.lines) == 3
                await heard(events, {3})
                assert broker.asked[broker.lines[-1]] == [3]

    asyncio.run(scenario())


def test_each_line_has_a_watchdog_of_its_own() -> None:
    async def scenario() -> None:
        async with at_a_broker(silence_limit=0.5) as (broker, feed):
            await feed.subscribe([1, 2, 3])
            async with aclosing(feed.events()) as events:
                await until(events, Connected)
                await heard(events, {1, 2, 3})
                silent = next(line for line, asked in broker.asked.items() if asked == [3])
                broker.mute.add(silent)
                told = await until(events, Disconnected, Connected)
                reasons = [event.reason for event in told if isinstance(event, Disconnected)]
                assert all("nothing received" in reason for reason in reasons)
                await heard(events, {3})
                assert broker.asked[broker.lines[-1]] == [3]

    asyncio.run(scenario())


def test_a_peer_that_is_gone_without_a_word_is_not_waited_for() -> None:
    async def vanish(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Open a WebSocket and never answer again, a closing least of all."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            key = next(row.split(": ")[1] for row in head.splitlines() if row.lower().startswith("sec-websocket-key"))
            writer.write(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: " + accept_key(key).encode() + b"\r\n\r\n"
            )
            while await reader.read(1000):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    async def scenario() -> None:
        async with await asyncio.start_server(vanish, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            feed = KiteFeed(f"ws://127.0.0.1:{port}/", "key", "token", silence_limit=0.3)
            async with aclosing(feed.events()) as events, asyncio.timeout(5):
                told = await until(events, Connected, Disconnected)
        assert [type(each) for each in told] == [Connected, Disconnected]

    asyncio.run(scenario())


def test_updates_and_notices_that_every_line_repeats_are_heard_once() -> None:
    async def scenario() -> None:
        async with at_a_broker() as (broker, feed):
            await feed.subscribe([1, 2, 3])
            async with aclosing(feed.events()) as events:
                await until(events, Connected)
                await heard(events, {1, 2, 3})
                for line in broker.lines:
                    await line.send(json.dumps({"type": "order", "data": ORDER}))
                    await line.send(json.dumps({"type": "error", "data": "Invalid message."}))
                    await line.send(json.dumps({"type": "tomorrow", "data": 1}))
                    await line.send(pack_frame([encode_ltp(9, 100)]))
                told = await until(events, Frame, Frame)
                assert [type(event) for event in told if not isinstance(event, Frame)] == [OrderUpdate, Notice]
                assert Notice("error", "Invalid message.") in told

    asyncio.run(scenario())


def test_what_is_wanted_while_a_line_is_being_opened_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    line, sent = feed_line.TickerLine("ws://nowhere"), list[str]()

    class Opening:
        """A connection on which somebody subscribes while it is told what was wanted before."""

        async def send(self, text: str) -> None:
            sent.append(text)
            if len(sent) == 1:
                await line.subscribe([9], Mode.LTP)

    @asynccontextmanager
    async def connect(*_: object, **__: object) -> AsyncIterator[Opening]:
        yield Opening()

    async def scenario() -> None:
        await line.subscribe([1])
        async with aclosing(line.events()) as events:
            assert await anext(events) == Connected()

    monkeypatch.setattr(feed_line, "connect", connect)
    asyncio.run(scenario())
    assert json.dumps({"a": "mode", "v": ["ltp", [9]]}) in sent
