"""The binary ticker of Kite Connect v3: frames of bytes to values and back, pure.

Layout: kite.trade/docs/connect/v3/websocket. Big-endian; uint16 packet count, then uint16 length + body each.
Knows no socket and no symbol names; prices are integer units and nothing here divides them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from struct import Struct
from typing import NamedTuple


class Mode(StrEnum):
    """How much of an instrument a packet tells."""

    LTP = "ltp"
    QUOTE = "quote"
    FULL = "full"


#: Integer price units in 1 of money, by segment (`token & 0xff`); the other segments use DEFAULT_SCALE.
SCALES: dict[int, int] = {3: 10_000_000, 6: 10_000}
DEFAULT_SCALE = 100
#: The segment of indices, which cannot be traded.
INDEX_SEGMENT = 9

#: Body lengths, bytes.
LTP_SIZE, INDEX_QUOTE_SIZE, INDEX_FULL_SIZE, QUOTE_SIZE, FULL_SIZE = 8, 28, 32, 44, 184
#: What a frame shorter than this carries is a heartbeat, bytes.
FRAME_HEADER_SIZE = 2

INT32_MIN, INT32_MAX, UINT32_MAX, UINT16_MAX = -(2**31), 2**31 - 1, 2**32 - 1, 2**16 - 1

_U16 = Struct(">H")
_LTP = Struct(">Ii")
_INDEX_QUOTE = Struct(">I5i4x")
_INDEX_FULL = Struct(">I5i4xI")
_QUOTE = Struct(">IiIiIII4i")
_FULL_TAIL = Struct(">IIIII")
_DEPTH = Struct(">IiH2x")
_DEPTH_OFFSET, _DEPTH_ROWS = 64, 10

# Only what a price listener needs: token, price, low, close, times of last trade and packet, where each body has them.
_PRICE_INDEX_QUOTE = Struct(">Ii4xi4xi")
_PRICE_INDEX_FULL = Struct(">Ii4xi4xi4xI")
_PRICE_QUOTE = Struct(">Ii28xii")
_PRICE_FULL = Struct(">Ii28xiiI12xI")


class Ohlc(NamedTuple):
    """Open, high and low of the day and the close of the day before, units."""

    open: int
    high: int
    low: int
    close: int


_NO_OHLC = Ohlc(0, 0, 0, 0)


class DepthRow(NamedTuple):
    """One level of the order book; `price` in units."""

    quantity: int
    price: int
    orders: int


@dataclass(frozen=True, slots=True)
class TickPacket:
    """One packet; what its mode does not carry is 0 or empty. Prices in units, times in epoch seconds."""

    token: int
    mode: Mode
    price: int
    last_quantity: int = 0
    average_price: int = 0
    volume: int = 0
    buy_quantity: int = 0
    sell_quantity: int = 0
    ohlc: Ohlc = _NO_OHLC
    last_trade_time: int = 0
    open_interest: int = 0
    open_interest_high: int = 0
    open_interest_low: int = 0
    exchange_time: int = 0
    bids: tuple[DepthRow, ...] = ()
    asks: tuple[DepthRow, ...] = ()

    @property
    def tradable(self) -> bool:
        """Whether orders can be placed for it; indices have none."""
        return self.token & 0xFF != INDEX_SEGMENT


class Decoded(NamedTuple):
    """The packets of one frame that are whole, and how many were not."""

    packets: list[TickPacket]
    malformed: int


def scale_of(token: int) -> int:
    """Integer price units in 1 of money for `token`."""
    return SCALES.get(token & 0xFF, DEFAULT_SCALE)


def is_heartbeat(frame: bytes) -> bool:
    """Whether the frame only says that the line lives."""
    return len(frame) < FRAME_HEADER_SIZE


def decode(frame: bytes) -> Decoded:
    """Every whole packet of `frame`; never raises, whatever the bytes."""
    if is_heartbeat(frame):
        return Decoded([], 0)
    packets: list[TickPacket] = []
    for offset, length in _bodies(frame):
        decoder = _DECODERS.get(length)
        if decoder is not None:
            packets.append(decoder(frame, offset))
    (declared,) = _U16.unpack_from(frame)
    return Decoded(packets, max(declared - len(packets), 0))


#: (token, price, exchange time, close, when the price was traded, the day's low): units, epoch seconds, 0: not told.
PricePacket = tuple[int, int, int, int, int, int]


def decode_prices(frame: bytes) -> list[PricePacket]:
    """The price of every whole packet.

    The listener's path: no objects, no depth. Never raises; what `decode` calls malformed is left out.
    """
    size = len(frame)
    if size < FRAME_HEADER_SIZE:
        return []
    prices: list[PricePacket] = []
    (declared,) = _U16.unpack_from(frame)
    offset = FRAME_HEADER_SIZE
    for _ in range(declared):
        if offset + 2 > size:
            break
        length = frame[offset] << 8 | frame[offset + 1]
        offset += 2
        if offset + length > size:
            break
        if length == FULL_SIZE:
            token, price, low, close, traded_at, at = _PRICE_FULL.unpack_from(frame, offset)
            prices.append((token, price, at, close, traded_at, low))
        elif length == LTP_SIZE:
            token, price = _LTP.unpack_from(frame, offset)
            prices.append((token, price, 0, 0, 0, 0))
        elif length == QUOTE_SIZE:
            token, price, low, close = _PRICE_QUOTE.unpack_from(frame, offset)
            prices.append((token, price, 0, close, 0, low))
        elif length == INDEX_FULL_SIZE:
            token, price, low, close, at = _PRICE_INDEX_FULL.unpack_from(frame, offset)
            prices.append((token, price, at, close, 0, low))
        elif length == INDEX_QUOTE_SIZE:
            token, price, low, close = _PRICE_INDEX_QUOTE.unpack_from(frame, offset)
            prices.append((token, price, 0, close, 0, low))
        offset += length
    return prices


def undecoded(frame: bytes, found: int) -> int:
    """How many of the packets `frame` declares are not among the `found` ones: cut off, or of no known length."""
    return 0 if is_heartbeat(frame) else max(_U16.unpack_from(frame)[0] - found, 0)


def _bodies(frame: bytes) -> Iterator[tuple[int, int]]:
    """(offset, length) of every body the frame holds in full; ends at the first that is cut off."""
    (declared,) = _U16.unpack_from(frame)
    offset = FRAME_HEADER_SIZE
    for _ in range(declared):
        if offset + 2 > len(frame):
            return
        (length,) = _U16.unpack_from(frame, offset)
        offset += 2
        if offset + length > len(frame):
            return
        yield offset, length
        offset += length


def _decode_ltp(frame: bytes, offset: int) -> TickPacket:
    token, price = _LTP.unpack_from(frame, offset)
    return TickPacket(token, Mode.LTP, price)


def _decode_index_quote(frame: bytes, offset: int) -> TickPacket:
    token, price, high, low, open_, close = _INDEX_QUOTE.unpack_from(frame, offset)
    return TickPacket(token, Mode.QUOTE, price, ohlc=Ohlc(open_, high, low, close))


def _decode_index_full(frame: bytes, offset: int) -> TickPacket:
    token, price, high, low, open_, close, at = _INDEX_FULL.unpack_from(frame, offset)
    return TickPacket(token, Mode.FULL, price, ohlc=Ohlc(open_, high, low, close), exchange_time=at)


def _decode_quote(frame: bytes, offset: int) -> TickPacket:
    token, price, last, average, volume, buy, sell, *ohlc = _QUOTE.unpack_from(frame, offset)
    return TickPacket(token, Mode.QUOTE, price, last, average, volume, buy, sell, Ohlc(*ohlc))


def _decode_full(frame: bytes, offset: int) -> TickPacket:
    token, price, last, average, volume, buy, sell, *ohlc = _QUOTE.unpack_from(frame, offset)
    traded, interest, interest_high, interest_low, at = _FULL_TAIL.unpack_from(frame, offset + QUOTE_SIZE)
    rows = [
        DepthRow(*_DEPTH.unpack_from(frame, offset + _DEPTH_OFFSET + row * _DEPTH.size)) for row in range(_DEPTH_ROWS)
    ]
    half = _DEPTH_ROWS // 2
    return TickPacket(
        token, Mode.FULL, price, last, average, volume, buy, sell, Ohlc(*ohlc),
        traded, interest, interest_high, interest_low, at, tuple(rows[:half]), tuple(rows[half:]),
    )  # fmt: skip


_DECODERS = {
    LTP_SIZE: _decode_ltp,
    INDEX_QUOTE_SIZE: _decode_index_quote,
    INDEX_FULL_SIZE: _decode_index_full,
    QUOTE_SIZE: _decode_quote,
    FULL_SIZE: _decode_full,
}


def encode_ltp(token: int, price: int) -> bytes:
    """The 8-byte body of a price alone."""
    return _LTP.pack(token, price)


def encode_quote(packet: TickPacket) -> bytes:
    """The 44-byte body; what full mode adds is left out."""
    return _QUOTE.pack(
        packet.token, packet.price, packet.last_quantity, packet.average_price, packet.volume,
        packet.buy_quantity, packet.sell_quantity, *packet.ohlc,
    )  # fmt: skip


def encode_full(packet: TickPacket) -> bytes:
    """The 184-byte body; absent depth rows are zeros. Its head is the quote body, whose head is ltp."""
    half = _DEPTH_ROWS // 2
    empty = DepthRow(0, 0, 0)
    rows = [*_padded(packet.bids, half, empty), *_padded(packet.asks, half, empty)]
    return b"".join(
        (
            encode_quote(packet),
            _FULL_TAIL.pack(
                packet.last_trade_time,
                packet.open_interest,
                packet.open_interest_high,
                packet.open_interest_low,
                packet.exchange_time,
            ),
            *(_DEPTH.pack(*row) for row in rows),
        )
    )


def _padded(rows: tuple[DepthRow, ...], count: int, filler: DepthRow) -> list[DepthRow]:
    return [*rows[:count], *[filler] * (count - len(rows))]


def pack_frame(bodies: Iterable[bytes]) -> bytes:
    """One frame of `bodies`, at most UINT16_MAX of them."""
    parts = list(bodies)
    framed = [_U16.pack(len(parts))]
    for body in parts:
        framed += (_U16.pack(len(body)), body)
    return b"".join(framed)
