"""The feed client against the paper broker's WebSocket: ticks, order updates, and lines that end or fall silent."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import pytest
from websockets.asyncio.server import ServerConnection, serve

from broker_connector.feed import Connected, Disconnected, Event, Frame, KiteFeed, Malformed, Notice, OrderUpdate
from broker_connector.kite import KiteConnector
from broker_connector.paper.process import ControlError, PaperControl, paper_broker
from broker_connector.ticker import Mode, PricePacket, decode, decode_prices
from engine.domain.broker import OrderRequest, RejectCause
from engine.domain.orders import OrderStatus, OrderType, Product, Side
from tests.processes import eventually

INFY = 408065
T = TypeVar("T")


@pytest.fixture(scope="module")
def paper() -> Iterator[PaperControl]:
    with paper_broker("--market", "manual", "--always-open", "--unlimited", token="secret") as control:
        yield control


def feed_of(paper: PaperControl, token: str = "paper-token") -> KiteFeed:
    return KiteFeed(paper.ws_url, "paper-key", token)


async def until(events: AsyncIterator[Event], wanted: Callable[[Event], T | None], seconds: float = 10.0) -> T:
    async with asyncio.timeout(seconds):
        async for event in events:
            found = wanted(event)
            if found is not None:
                return found
    raise AssertionError("the feed ended")


def a(kind: type[T]) -> Callable[[Event], T | None]:
    return lambda event: event if isinstance(event, kind) else None


def price_of(units: int) -> Callable[[Event], PricePacket | None]:
    def find(event: Event) -> PricePacket | None:
        prices = decode_prices(event.data) if isinstance(event, Frame) else []
        return next((price for price in prices if price[1] == units), None)

    return find


def test_a_subscription_is_answered_by_a_snapshot_and_followed_by_ticks(paper: PaperControl) -> None:
    async def scenario() -> None:
        paper.price("NSE:INFY", "1501.00")
        feed = feed_of(paper)
        await feed.subscribe([INFY])
        async with aclosing(feed.events()) as events:
            await until(events, a(Connected))
            await until(events, price_of(150100))
            await asyncio.to_thread(paper.price, "NSE:INFY", "1502.05")
            token, _, exchange_time, close, traded_at, low = await until(events, price_of(150205))
            assert token == INFY
            assert exchange_time >= traded_at > 0
            assert close == 155_000
            assert 0 < low <= 150_100

    asyncio.run(scenario())


def test_what_is_subscribed_later_comes_in_its_mode_and_can_be_ended(paper: PaperControl) -> None:
    async def scenario() -> None:
        feed = feed_of(paper)
        async with aclosing(feed.events()) as events:
            await until(events, a(Connected))
            await feed.subscribe([INFY], Mode.LTP)
            await until(events, lambda event: _is_ltp(event) or None)
            await feed.unsubscribe([INFY])
            await feed.subscribe([738561])
            await asyncio.to_thread(paper.price, "NSE:INFY", "1.00")
            await asyncio.to_thread(paper.price, "NSE:RELIANCE", "2.00")
            seen: list[int] = []

            def collect(event: Event) -> bool | None:
                seen.extend(price[1] for price in (decode_prices(event.data) if isinstance(event, Frame) else []))
                return 200 in seen or None

            await until(events, collect)
            assert 100 not in seen

    asyncio.run(scenario())


def _is_ltp(event: Event) -> bool:
    packets = decode(event.data).packets if isinstance(event, Frame) else []
    return any(packet.mode is Mode.LTP for packet in packets)


def test_every_change_of_an_order_is_pushed(paper: PaperControl) -> None:
    broker = KiteConnector(paper.base_url, "paper-key", "paper-token")
    order = OrderRequest("PUSH1", "NSE:INFY", Side.BUY, 5, OrderType.MARKET, Product.INTRADAY)

    async def scenario() -> None:
        async with aclosing(feed_of(paper).events()) as events:
            await until(events, a(Connected))
            await asyncio.to_thread(broker.place, order, lambda: True)
            first = (await until(events, a(OrderUpdate))).entry
            second = (await until(events, a(OrderUpdate))).entry
            assert (first.tag, first.evidence.status) == ("PUSH1", OrderStatus.ACCEPTED)
            assert (second.evidence.status, second.evidence.filled_quantity) == (OrderStatus.FILLED, 5)

    asyncio.run(scenario())
    broker.close()


def test_a_cut_line_is_opened_again_and_resubscribed(paper: PaperControl) -> None:
    async def scenario() -> None:
        feed = feed_of(paper)
        await feed.subscribe([INFY])
        async with aclosing(feed.events()) as events:
            await until(events, a(Connected))
            await asyncio.to_thread(paper.disconnect)
            await until(events, a(Disconnected))
            await until(events, a(Connected))
            await asyncio.to_thread(paper.price, "NSE:INFY", "1503.00")
            assert await until(events, price_of(150300))

    asyncio.run(scenario())


def test_a_dead_token_is_told_apart_and_tried_again(paper: PaperControl) -> None:
    async def scenario() -> None:
        async with aclosing(feed_of(paper, "dead").events()) as events:
            for _ in range(2):
                assert (await until(events, a(Disconnected))).token_invalid

    asyncio.run(scenario())


async def _with_server(
    speak: Callable[[ServerConnection], Awaitable[None]], check: Callable[[str], Awaitable[None]]
) -> None:
    async def handler(connection: ServerConnection) -> None:
        await speak(connection)
        await connection.wait_closed()

    async with serve(handler, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        await check(f"ws://127.0.0.1:{port}/")


def test_a_silent_line_is_given_up() -> None:
    async def speak(connection: ServerConnection) -> None:
        await connection.send(b"\x00")

    async def check(url: str) -> None:
        async with aclosing(KiteFeed(url, "key", "token", silence_limit=0.3).events()) as events:
            assert "nothing received" in (await until(events, a(Disconnected))).reason
            await until(events, a(Connected))

    asyncio.run(_with_server(speak, check))


def test_text_that_cannot_be_read_is_reported_and_the_line_kept() -> None:
    async def speak(connection: ServerConnection) -> None:
        for text in ("{", "[]", '{"type":"order"}', '{"type":"order","data":[]}', '{"type":"order","data":{"tag":1}}'):
            await connection.send(text)
        await connection.send(json.dumps({"type": "message", "data": "hello"}))
        await connection.send(b"\x00\x00")

    async def check(url: str) -> None:
        kinds: list[type] = []
        async with aclosing(KiteFeed(url, "key", "token").events()) as events:
            async with asyncio.timeout(10):
                async for event in events:
                    kinds.append(type(event))
                    if isinstance(event, Frame):
                        break
        assert kinds == [Connected, *[Malformed] * 5, Notice, Frame]

    asyncio.run(_with_server(speak, check))


def test_the_control_interface_asks_for_its_token(paper: PaperControl) -> None:
    stranger = PaperControl(paper.base_url, "guess")
    with pytest.raises(ControlError, match="403"):
        stranger.health()
    stranger.close()
    assert paper.health()["ready"] is True


def test_market_time_stands_until_its_start_and_then_runs_at_its_speed() -> None:
    start = datetime.now(UTC) + timedelta(seconds=30)
    with paper_broker("--symbols", "INFY,TCS", "--seed", "7") as control:
        control.set_clock(start.isoformat(), "2026-11-23T09:15:00+05:30", 60)
        standing = control.health()
        assert (standing["started"], standing["market_time"][:19]) == (False, "2026-11-23T09:15:00")
        assert standing["ticks_total"] == 2 * 22_501
        control.set_clock((start - timedelta(minutes=1)).isoformat(), "2026-11-23T09:15:00+05:30", 60)
        running = control.health()
        assert running["started"] is True
        assert running["market_time"] > standing["market_time"]


def test_an_account_has_limits_of_its_own_and_keeps_its_book(paper: PaperControl) -> None:
    account = {"account_id": "SECOND", "api_key": "second-key", "access_token": "second-token"}
    paper.add_account(**account, limits={"day": 2})
    broker = KiteConnector(paper.base_url, "second-key", "second-token")
    order = OrderRequest("LIMITED", "NSE:INFY", Side.BUY, 5, OrderType.MARKET, Product.INTRADAY)
    causes = [broker.place(order, lambda: True).cause for _ in range(3)]
    assert causes == [None, None, RejectCause.RATE_LIMITED]
    paper.add_account(**account)
    assert len(broker.orders()) == 2
    assert [row["tag"] for row in paper.ledger() if row["account"] == "SECOND"] == ["LIMITED", "LIMITED"]
    broker.close()


def test_a_fresh_login_gives_a_token_that_works(paper: PaperControl) -> None:
    access_token = KiteConnector.login(paper.base_url, "paper-key", "paper-secret", "request-token")
    broker = KiteConnector(paper.base_url, "paper-key", access_token)
    assert broker.account_id() == "PAPER1"
    broker.close()


def test_scrambled_updates_come_newest_first_and_twice(paper: PaperControl) -> None:
    async def scenario() -> None:
        async with aclosing(feed_of(paper).events()) as events:
            await until(events, a(Connected))
            paper.fault("scramble", account="PAPER1")
            assert {"kind": "scramble", "account": "PAPER1"} in paper.faults()
            order = OrderRequest("SCRAMBLED", "NSE:INFY", Side.BUY, 5, OrderType.MARKET, Product.INTRADAY)
            await asyncio.to_thread(placed, paper, order)
            told = [(await until(events, a(OrderUpdate))).entry.evidence.status for _ in range(4)]
        assert told == [OrderStatus.FILLED, OrderStatus.FILLED, OrderStatus.ACCEPTED, OrderStatus.ACCEPTED]
        assert paper.faults() == []

    asyncio.run(scenario())


def test_an_order_in_limbo_stands_open_and_the_ledger_tells_when_it_ended(paper: PaperControl) -> None:
    paper.fault("limbo", account="PAPER1", seconds=0.5)
    placed(paper, OrderRequest("LIMBO", "NSE:INFY", Side.BUY, 5, OrderType.MARKET, Product.INTRADAY))
    placed(paper, OrderRequest("AFTER", "NSE:INFY", Side.BUY, 5, OrderType.MARKET, Product.INTRADAY))
    rows = {row["tag"]: row for row in paper.ledger()}
    assert (rows["LIMBO"]["status"], rows["LIMBO"]["ended_at"]) == ("accepted", None)
    assert rows["AFTER"]["status"] == "filled"
    assert rows["AFTER"]["ended_at"] == rows["AFTER"]["filled_at"]
    assert eventually(lambda: next(row for row in paper.ledger() if row["tag"] == "LIMBO")["status"] == "filled")


def test_faults_still_to_come_can_be_forgotten(paper: PaperControl) -> None:
    paper.fault("reject", account="PAPER1", times=2)
    assert [(fault["kind"], fault["met"]) for fault in paper.faults()] == [("reject", 0)]
    paper.clear_faults()
    assert paper.faults() == []


def placed(paper: PaperControl, order: OrderRequest) -> None:
    broker = KiteConnector(paper.base_url, "paper-key", "paper-token")
    assert broker.place(order, lambda: True).broker_order_id
    broker.close()
