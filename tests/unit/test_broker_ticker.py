"""The binary ticker: the broker's own samples, a round trip, and bytes that are no frame."""

import base64
import json
import os
import struct
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_connector.kite_words import IST
from broker_connector.ticker import (
    INDEX_FULL_SIZE,
    INDEX_QUOTE_SIZE,
    LTP_SIZE,
    DepthRow,
    Mode,
    Ohlc,
    TickPacket,
    decode,
    decode_prices,
    encode_full,
    encode_ltp,
    encode_quote,
    pack_frame,
    scale_of,
)

MOCKS = Path(os.environ.get("TEST_DATA", Path(__file__).parents[2].parent / "shared" / "data")) / "kite_mocks"

int32 = st.integers(-(2**31), 2**31 - 1)
uint32 = st.integers(0, 2**32 - 1)
uint16 = st.integers(0, 2**16 - 1)
tradable = uint32.filter(lambda token: token & 0xFF != 9)
depth = st.tuples(*[st.builds(DepthRow, uint32, int32, uint16)] * 5)
packets = st.builds(
    TickPacket,
    token=tradable,
    mode=st.just(Mode.FULL),
    price=int32,
    last_quantity=uint32,
    average_price=int32,
    volume=uint32,
    buy_quantity=uint32,
    sell_quantity=uint32,
    ohlc=st.builds(Ohlc, int32, int32, int32, int32),
    last_trade_time=uint32,
    open_interest=uint32,
    open_interest_high=uint32,
    open_interest_low=uint32,
    exchange_time=uint32,
    bids=depth,
    asks=depth,
)


def sample(name: str) -> tuple[TickPacket, dict[str, Any]]:
    packet = MOCKS / f"{name}.packet"
    if not packet.exists():
        pytest.skip("the broker's sample packets are not here")
    # The samples are bodies, without a frame's header.
    decoded = decode(pack_frame([base64.b64decode(packet.read_text())]))
    assert decoded.malformed == 0
    (tick,) = decoded.packets
    return tick, json.loads((MOCKS / f"{name}.json").read_text())


def as_told(tick: TickPacket) -> dict[str, Any]:
    """A packet in the shape of the broker's samples."""

    def money(units: int) -> float:
        return units / scale_of(tick.token)

    def rows(levels: tuple[DepthRow, ...]) -> list[dict[str, Any]]:
        return [{"price": money(row.price), "quantity": row.quantity, "orders": row.orders} for row in levels]

    def at(seconds: int) -> str:
        return datetime.fromtimestamp(seconds, IST).isoformat()

    quote = {
        "mode": tick.mode.value,
        "tradable": tick.tradable,
        "instrument_token": tick.token,
        "last_price": money(tick.price),
        "last_quantity": tick.last_quantity,
        "average_price": money(tick.average_price),
        "volume": tick.volume,
        "buy_quantity": tick.buy_quantity,
        "sell_quantity": tick.sell_quantity,
        "ohlc": {name: money(units) for name, units in tick.ohlc._asdict().items()},
    }
    full = {
        "last_trade_time": at(tick.last_trade_time),
        "timestamp": at(tick.exchange_time),
        "oi": tick.open_interest,
        "oi_day_high": tick.open_interest_high,
        "oi_day_low": tick.open_interest_low,
        "depth": {"buy": rows(tick.bids), "sell": rows(tick.asks)},
    }
    return quote | full if tick.mode is Mode.FULL else quote


@pytest.mark.parametrize("name", ["ticker_quote", "ticker_full"])
def test_the_brokers_own_samples_are_read_as_it_says_to_the_last_field(name: str) -> None:
    tick, told = sample(name)
    # What its samples call the change contradicts their own prices.
    del told["change"]
    assert as_told(tick) == told


def test_the_brokers_sample_of_a_price_alone_is_the_head_of_its_quote() -> None:
    path = MOCKS / "ticker_ltp.json"
    if not path.exists():
        pytest.skip("the broker's sample packets are not here")
    told = json.loads(path.read_text())
    tick, _ = sample("ticker_quote")
    (head,), _ = decode(pack_frame([encode_quote(tick)[:LTP_SIZE]]))
    assert as_told(head).items() >= told.items()


def test_a_full_body_is_laid_out_as_documented() -> None:
    head = struct.pack(">16i", 408065, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16)
    rows = b"".join(struct.pack(">iihh", 100 + row, 200 + row, 300 + row, 0) for row in range(10))
    depth_rows = [DepthRow(100 + row, 200 + row, 300 + row) for row in range(10)]
    (packet,), malformed = decode(pack_frame([head + rows]))
    assert malformed == 0
    assert packet == TickPacket(
        408065, Mode.FULL, price=2, last_quantity=3, average_price=4, volume=5, buy_quantity=6, sell_quantity=7,
        ohlc=Ohlc(open=8, high=9, low=10, close=11), last_trade_time=12, open_interest=13, open_interest_high=14,
        open_interest_low=15, exchange_time=16, bids=tuple(depth_rows[:5]), asks=tuple(depth_rows[5:]),
    )  # fmt: skip


@given(st.lists(packets, max_size=5))
def test_full_packets_survive_the_wire(sent: list[TickPacket]) -> None:
    frame = pack_frame([encode_full(packet) for packet in sent])
    assert decode(frame) == (sent, 0)
    assert decode_prices(frame) == [
        (p.token, p.price, p.exchange_time, p.ohlc.close, p.last_trade_time, p.ohlc.low) for p in sent
    ]


@given(packets)
def test_shorter_bodies_are_heads_of_the_full_one(packet: TickPacket) -> None:
    full = encode_full(packet)
    assert encode_quote(packet) == full[:44]
    assert encode_ltp(packet.token, packet.price) == full[:8]
    (quote,), _ = decode(pack_frame([full[:44]]))
    (ltp,), _ = decode(pack_frame([full[:8]]))
    assert (quote.mode, quote.price, quote.ohlc) == (Mode.QUOTE, packet.price, packet.ohlc)
    assert decode_prices(pack_frame([full[:44]])) == [
        (packet.token, packet.price, 0, packet.ohlc.close, 0, packet.ohlc.low)
    ]
    assert (ltp.mode, ltp.price) == (Mode.LTP, packet.price)


@pytest.mark.parametrize(
    ("size", "body", "exchange_time"),
    [
        (INDEX_QUOTE_SIZE, struct.pack(">I6i", 256265, 100, 130, 90, 95, 98, 2), 0),
        (INDEX_FULL_SIZE, struct.pack(">I6iI", 256265, 100, 130, 90, 95, 98, 2, 1_600_000_000), 1_600_000_000),
    ],
)
def test_an_index_has_a_layout_of_its_own(size: int, body: bytes, exchange_time: int) -> None:
    assert len(body) == size
    frame = pack_frame([body])
    (packet,), malformed = decode(frame)
    assert malformed == 0
    assert not packet.tradable
    assert packet.ohlc == Ohlc(open=95, high=130, low=90, close=98)
    assert decode_prices(frame) == [(256265, 100, exchange_time, 98, 0, 90)]


@given(st.binary(max_size=400))
def test_no_bytes_raise(data: bytes) -> None:
    decoded = decode(data)
    assert len(decode_prices(data)) == len(decoded.packets)


@given(st.lists(packets, min_size=1, max_size=3), st.data())
def test_a_frame_cut_off_anywhere_yields_its_whole_packets(sent: list[TickPacket], data: st.DataObject) -> None:
    frame = pack_frame([encode_full(packet) for packet in sent])
    cut = frame[: data.draw(st.integers(2, len(frame)))]
    whole = (len(cut) - 2) // 186
    assert decode(cut) == (sent[:whole], len(sent) - whole)
    assert len(decode_prices(cut)) == whole


def test_a_body_of_unknown_length_is_counted_and_the_next_one_read() -> None:
    frame = pack_frame([b"x" * 13, encode_ltp(408065, 5), b""])
    assert decode(frame) == ([TickPacket(408065, Mode.LTP, 5)], 2)


def test_bytes_after_the_declared_packets_change_nothing() -> None:
    assert decode(pack_frame([encode_ltp(1, 5)]) + b"more") == ([TickPacket(1, Mode.LTP, 5)], 0)


@pytest.mark.parametrize("frame", [b"", b"\x00"])
def test_a_heartbeat_holds_nothing(frame: bytes) -> None:
    assert decode(frame) == ([], 0)
    assert decode_prices(frame) == []


@pytest.mark.parametrize(("segment", "scale"), [(1, 100), (2, 100), (3, 10_000_000), (6, 10_000), (9, 100)])
def test_prices_are_scaled_by_segment(segment: int, scale: int) -> None:
    assert scale_of(1000 << 8 | segment) == scale
