"""Poison on the broker's WebSocket: an unreadable update is one dead letter, an unreadable tick is counted."""

import asyncio
import json
import struct
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from broker_connector.feed import KiteFeed
from broker_connector.ticker import Mode, TickPacket, encode_full, pack_frame
from engine import bootstrap, deafness
from engine.calendar import AlwaysOpenCalendar
from engine.domain.events import EventType
from engine.domain.feed import FeedPolicy, Refusal, SymbolGuard
from engine.domain.orders import Leg
from engine.domain.run import Position, client_order_id
from engine.domain.strategy import Session
from engine.listener import Listener
from engine.orderstream import OrderStream
from engine.processes import marketfeed, orderstream
from engine.processes.marketfeed import MarketFeed
from engine.runtime import keys
from tests.desk import ACCOUNT, SYMBOL, Desk, account_at
from tests.eager import bought, wake

TOKEN = 408065
OTHER = "NSE:ANOTHER"
Send = Callable[[ServerConnection], Awaitable[None]]
Reading = Callable[[str], Awaitable[Any]]
#: Each is one unreadable frame of text.
TEXTS = [
    "",
    "{nope",
    "[1]",
    "[" * 100_000,
    '{"type": "order"}',
    '{"type": "order", "data": {"quantity": Infinity}}',
    '{"type": "order", "data": {"quantity": 1e999999999, "filled_quantity": NaN}}',
    '{"type": "order", "data": "' + "x" * 1_000_000 + '"}',
]


def row(tag: str, filled: object = 10, **changes: object) -> dict[str, Any]:
    """An update of the broker's, as it is written."""
    return {
        "order_id": "B-1", "status": "COMPLETE", "quantity": 10, "filled_quantity": filled, "average_price": 1550.0,
        "exchange": "NSE", "tradingsymbol": "INFY", "transaction_type": "BUY", "tag": tag,
        "order_timestamp": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}", **changes,
    }  # fmt: skip


def update(tag: str, filled: object = 10, **changes: object) -> str:
    return json.dumps({"type": "order", "data": row(tag, filled, **changes)})


async def at_a_broker_that_says(send: Send, reading: Reading, until: Callable[[], bool]) -> None:
    """Let `reading` follow the WebSocket of a broker that says what `send` sends, until something is true."""

    async def speak(line: ServerConnection) -> None:
        await send(line)
        await line.wait_closed()

    async with serve(speak, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        task = asyncio.ensure_future(reading(f"ws://127.0.0.1:{port}"))
        async with asyncio.timeout(15):
            while not until():
                assert not task.done(), task
                await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def follow(desk: Desk, account: int = ACCOUNT) -> Reading:
    """The order stream's own reading of one account."""
    parts = desk.parts
    updates = OrderStream(parts.store, parts.publisher, parts.clock, parts.settings.deployment, parts.log)

    def reading(url: str) -> Awaitable[None]:
        known = replace(account_at(desk.paper), id=account, ws_url=url)
        return orderstream._follow(parts, known, updates, set())

    return reading


def test_each_unreadable_update_is_one_dead_letter_and_the_next_is_heard(desk: Desk) -> None:
    run = desk.arm()
    assert wake(run, EventType.BUY) == "submitted: accepted"
    mine = desk.live(run).orders[0].client_order_id
    poison = [*TEXTS, update(mine, float("nan")), update(mine, -5), update(mine, "ten"), update(mine, [10])]
    foreign = ["", "manual", "EE" + "0" * 16, "\x1b[2J", mine.lower(), mine[:-1]]
    harmless = ['{"type": "message", "data": "hello"}', '{"type": 7}']

    async def send(line: ServerConnection) -> None:
        for text in (*poison, *(update(tag) for tag in foreign), *harmless, update(mine)):
            await line.send(text)

    asyncio.run(at_a_broker_that_says(send, follow(desk), lambda: _evidence(desk, mine)))
    letters = desk.records("dead_letter")
    assert [letter["source"] for letter in letters] == ["order_update"] * len(poison)
    assert all(len(letter["payload"]) <= 2000 for letter in letters)
    wake(run, EventType.ORDER_UPDATE)
    assert desk.live(run).position is Position.BOUGHT


def test_a_frame_that_is_no_text_ends_the_line_and_no_more(desk: Desk) -> None:
    run = desk.arm()
    assert wake(run, EventType.BUY) == "submitted: accepted"
    mine = desk.live(run).orders[0].client_order_id
    lines: list[ServerConnection] = []

    async def send(line: ServerConnection) -> None:
        lines.append(line)
        if len(lines) == 1:
            # What says it is text and is none; a second line hears what is true.
            await line.send(b"\xff\xfe", text=True)
        else:
            await line.send(update(mine))

    asyncio.run(at_a_broker_that_says(send, follow(desk), lambda: _evidence(desk, mine)))
    assert len(lines) == 2


def test_no_accounts_stream_can_speak_of_another_accounts_run(desk: Desk) -> None:
    """Anyone can compute the tag of anyone's order, and give it to an order at his own broker."""
    run = desk.arm()
    assert wake(run, EventType.BUY) == "submitted: accepted"
    mine = desk.live(run).orders[0].client_order_id
    exit_of_mine = client_order_id(desk.parts.settings.deployment, run.id, Leg.EXIT, 1)
    before = desk.live(run)
    forged = [update(tag, status=status) for tag in (mine, exit_of_mine) for status in ("COMPLETE", "REJECTED")]

    async def send(line: ServerConnection) -> None:
        for text in forged:
            await line.send(text)

    heard = follow(desk, account=2)
    asyncio.run(at_a_broker_that_says(send, heard, lambda: len(desk.records("dead_letter")) >= len(forged)))
    assert not _evidence(desk, mine)
    assert wake(run, EventType.ORDER_UPDATE).startswith(("ignored", "waits"))
    assert replace(desk.live(run), book_asked_at=None, book_read_at=None) == before
    assert {letter["reason"] for letter in desk.records("dead_letter")} == {"account 2 names a run of another account"}


def _evidence(desk: Desk, tag: str) -> bool:
    names: Any = desk.parts.redis.keys("runtime:*")
    return any(field.startswith(f"evidence:{tag}") for name in names for field in _fields(desk, name))


def _fields(desk: Desk, name: str) -> list[str]:
    found: Any = desk.parts.redis.hkeys(name)
    return list(found)


@pytest.fixture
def watching(desk: Desk) -> MarketFeed:
    """The listener's own reading, in a session that is open now."""
    parts, now = desk.parts, datetime.now(UTC)
    session = Session(now.date(), now - timedelta(hours=2), now + timedelta(hours=2))
    judging = Listener(
        parts.store, desk.market, parts.clock, lambda _symbol: SymbolGuard(FeedPolicy(), session), parts.log
    )
    watch = MarketFeed("listener", parts, desk.market, judging, bootstrap.instruments(parts, AlwaysOpenCalendar()))
    watch._symbol_of, watch.accounts = {TOKEN: SYMBOL}, [account_at(desk.paper)]
    return watch


def test_symbols_no_line_has_room_for_are_alerted_once(desk: Desk, watching: MarketFeed) -> None:
    bought(desk)
    watching._feed = KiteFeed("ws://127.0.0.1:9", "key", "token", instruments_a_line=0, lines=1)
    watching._symbol_of.clear()
    for _ in range(2):
        asyncio.run(watching._subscribe())
    (alert,) = [alert for body in desk.records("alert") for alert in body["alerts"]]
    assert (alert["severity"], alert["code"]) == ("critical", "feed_full")
    assert SYMBOL in alert["message"]


def full(price: int, *, ahead: float = 0.0, at: int | None = None) -> bytes:
    stamp = int(datetime.now(UTC).timestamp() + ahead) if at is None else at
    return encode_full(TickPacket(TOKEN, Mode.FULL, price, exchange_time=stamp))


def test_poisoned_ticks_are_counted_and_have_no_effect_and_a_true_breach_is_seen(
    desk: Desk, watching: MarketFeed
) -> None:
    run = bought(desk)
    good = full(155_000)
    unreadable = [
        struct.pack(">H", 5),
        struct.pack(">HH", 1, 184) + b"short",
        struct.pack(">HH", 1, 7) + b"1234567",
        pack_frame([good])[:-1],
        struct.pack(">HH", 3, 0xFFFF) + good,
    ]
    sick = [full(-150_000), full(0), full(149_000, at=0), full(149_000, at=19_800), full(149_000, ahead=3600)]
    texts = ["{", "[" * 10_000]
    poison: list[bytes | str] = [*unreadable, b"", b"\0", *(pack_frame([body]) for body in sick), *texts]

    async def send(line: ServerConnection) -> None:
        await line.send(pack_frame([good]))
        for frame in poison:
            await line.send(frame)
        await line.send(pack_frame([full(149_000)]))

    def reading(url: str) -> Awaitable[None]:
        watching._feed = KiteFeed(url, "key", "token")
        return watching._read(watching._feed)

    asyncio.run(at_a_broker_that_says(send, reading, lambda: desk.live(run).latch is not None))
    # Five, one, one, one and three packets were declared and not there.
    assert watching._malformed == 11 + len(texts)
    refused = watching._listener.refused()
    assert (refused[Refusal.NOT_A_PRICE], refused[Refusal.FROM_THE_FUTURE]) == (2, 1)
    assert refused.total() == len(sick)
    assert len(desk.records("latched")) == 1
    assert desk.records("dead_letter") == []


def test_a_token_that_changed_overnight_is_subscribed_in_the_place_of_the_old_one(
    desk: Desk, watching: MarketFeed
) -> None:
    bought(desk)
    watching._symbol_of.clear()
    watching._feed = feed = KiteFeed("ws://127.0.0.1:9", "key", "token")
    asyncio.run(watching._subscribe())
    assert (watching._symbol_of, [*feed._home]) == ({TOKEN: SYMBOL}, [TOKEN])
    ((_, shelf),) = watching._instruments._shelves.items()
    shelf.listed = {SYMBOL: replace(shelf.listed[SYMBOL], token=77)}
    asyncio.run(watching._subscribe())
    assert (watching._symbol_of, [*feed._home]) == ({77: SYMBOL}, [77])


def test_a_renamed_symbol_that_keeps_its_token_is_watched_under_both_names(desk: Desk, watching: MarketFeed) -> None:
    bought(desk)
    watching._symbol_of.clear()
    watching._feed = KiteFeed("ws://127.0.0.1:9", "key", "token")
    asyncio.run(watching._subscribe())
    ((_, shelf),) = watching._instruments._shelves.items()
    renamed = f"{SYMBOL}-BE"
    shelf.listed = {renamed: replace(shelf.listed[SYMBOL], symbol=renamed)}
    desk.parts.redis.sadd(keys.symbols(desk.market), renamed)
    asyncio.run(watching._subscribe())
    watching._on_frame(pack_frame([full(155_000)]))
    told = [desk.parts.redis.hget(keys.price(desk.market, name), "price") for name in (SYMBOL, renamed)]
    assert told == ["155000", "155000"]
    assert watching._spoken([TOKEN]) == [SYMBOL, renamed]
    # Of what nobody has a run of any more the other name is left.
    desk.parts.redis.srem(keys.symbols(desk.market), SYMBOL)
    asyncio.run(watching._subscribe())
    assert watching._spoken([TOKEN]) == [SYMBOL, renamed]


def test_a_token_that_went_to_another_symbol_prices_the_one_that_is_gone_no_more(
    desk: Desk, watching: MarketFeed
) -> None:
    bought(desk)
    watching._symbol_of.clear()
    watching._feed = KiteFeed("ws://127.0.0.1:9", "key", "token")
    asyncio.run(watching._subscribe())
    ((_, shelf),) = watching._instruments._shelves.items()
    shelf.listed = {OTHER: replace(shelf.listed[SYMBOL], symbol=OTHER)}
    desk.parts.redis.sadd(keys.symbols(desk.market), OTHER)
    asyncio.run(watching._subscribe())
    watching._on_frame(pack_frame([full(50_000)]))
    told = [desk.parts.redis.hget(keys.price(desk.market, name), "price") for name in (SYMBOL, OTHER)]
    assert (told, watching._spoken([TOKEN])) == ([None, "50000"], [OTHER])


def test_a_symbol_that_nobody_has_a_run_of_makes_room_for_another_and_goes_for_no_other_reason(
    desk: Desk, watching: MarketFeed
) -> None:
    bought(desk)
    watching._symbol_of.clear()
    watching._feed = feed = KiteFeed("ws://127.0.0.1:9", "key", "token", instruments_a_line=1, lines=1)
    asyncio.run(watching._subscribe())
    desk.parts.redis.delete(keys.symbols(desk.market))
    asyncio.run(watching._subscribe())
    assert ([*watching._symbol_of], [*feed._home]) == ([TOKEN], [TOKEN])
    ((_, shelf),) = watching._instruments._shelves.items()
    other = "NSE:OTHER"
    shelf.listed = {**shelf.listed, other: replace(shelf.listed[SYMBOL], symbol=other, token=77)}
    desk.parts.redis.sadd(keys.symbols(desk.market), other)
    asyncio.run(watching._subscribe())
    assert (watching._symbol_of, [*feed._home]) == ({77: other}, [77])


def _is_vouched_for(desk: Desk) -> bool:
    return bool(desk.parts.redis.hexists(keys.feed(desk.market), SYMBOL))


def test_a_line_that_only_beats_vouches_for_no_symbol(desk: Desk, watching: MarketFeed) -> None:
    bought(desk)
    desk.parts.redis.delete(keys.feed(desk.market))
    watching._account = account_at(desk.paper)
    watching.connected = True

    class Beats:
        def proven(self) -> list[tuple[float, list[int]]]:
            return [(0.0, [TOKEN])]

    watching._feed = Beats()  # type: ignore[assignment]
    asyncio.run(watching._say_what_lives())
    assert not _is_vouched_for(desk)
    watching._on_frame(pack_frame([full(155_000)]))
    watching._carried_at = 0.0
    asyncio.run(watching._say_what_lives())
    assert _is_vouched_for(desk)


def test_a_line_that_lost_its_subscription_is_opened_anew_once_the_broker_tells_of_another_price(
    desk: Desk, watching: MarketFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = bought(desk)
    monkeypatch.setattr(deafness, "QUIET_FOR", 0.3)
    for name in ("WITNESS_EVERY", "ASK_EVERY", "ON_ITS_WAY"):
        monkeypatch.setattr(marketfeed, name, 0.2)
    # What is listed is read here, of the broker whose ticker another server plays then.
    watching._feed = KiteFeed("ws://127.0.0.1:9", "key", "token")
    asyncio.run(watching._subscribe())
    lines: list[ServerConnection] = []

    async def send(line: ServerConnection) -> None:
        """A packet for each subscription, and then a heartbeat and nothing else."""
        lines.append(line)
        await line.recv()
        await line.send(pack_frame([full(155_000 if len(lines) == 1 else 149_000)]))
        if len(lines) == 1:
            await asyncio.to_thread(desk.paper.price, SYMBOL, "1490")
        while True:
            await line.send(b"\0")
            await asyncio.sleep(0.1)

    async def reading(url: str) -> None:
        watching.accounts = [replace(account_at(desk.paper), ws_url=url)]
        await watching.run()

    asyncio.run(at_a_broker_that_says(send, reading, lambda: desk.live(run).latch is not None))
    assert len(lines) == 2
    assert [alert["code"] for body in desk.records("alert") for alert in body["alerts"]] == ["feed_deaf"]
