"""A broker's malformed words: a row, an answer or a frame is what it proves, or unreadable; nothing raises."""

import json
import struct
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_connector import kite, kite_errors, reads
from broker_connector import kite_words as words
from broker_connector.feed_line import Malformed, OrderUpdate, event_of
from broker_connector.http import Answer
from broker_connector.kite_book import book_entry
from broker_connector.ticker import Mode, TickPacket, decode_prices, encode_full, pack_frame, undecoded
from engine.domain.broker import BrokerUnreachable, Outcome
from engine.domain.orders import OrderStatus

ROW: dict[str, Any] = {
    "order_id": "1", "status": "COMPLETE", "quantity": 10, "filled_quantity": 10, "average_price": 100.05,
    "exchange": "NSE", "tradingsymbol": "INFY", "transaction_type": "BUY", "tag": "T",
    "order_timestamp": "2026-01-05 09:30:00", "exchange_timestamp": "2026-01-05 09:30:00",
}  # fmt: skip
#: What no field may be; as JSON says it, so that what a parser makes of it is poison too.
NUMBERS = ["NaN", "Infinity", "-Infinity", "1e999", "1e999999999", "-1", "1.5", "null", '"x"', "[]", "{}", "9" * 4000]
WORDS = ["7", "null", '""', "[]", '"a\\u0000b"', '"\\ud800"', '"\\u001b[2J"', json.dumps("x" * 1_000_000)]
POISON = (
    [(name, value) for name in ("quantity", "filled_quantity") for value in NUMBERS]
    + [("average_price", value) for value in NUMBERS if value != "1.5"]
    + [(name, value) for name in ("order_id", "status", "exchange", "tradingsymbol") for value in WORDS]
    + [("transaction_type", value) for value in (*WORDS, '"buy"')]
    + [("order_timestamp", value) for value in ("7", '"soon"', '"0001-01-01 00:00:00"', "[1]", "1e999")]
)


def written(name: str, value: str) -> str:
    """The row as JSON, one of its fields poisoned."""
    fields = {key: json.dumps(each) for key, each in ROW.items()} | {name: value}
    if name == "order_timestamp":
        fields["exchange_timestamp"] = "null"
    return "{" + ",".join(f'"{key}": {each}' for key, each in fields.items()) + "}"


def answer(body: str | bytes, status: int = 200) -> Answer:
    return Answer(status, body.encode() if isinstance(body, str) else body, {})


@pytest.mark.parametrize(("name", "value"), POISON, ids=lambda each: each[:20])
def test_a_poisoned_update_is_one_malformed_frame(name: str, value: str) -> None:
    event = event_of(f'{{"type": "order", "data": {written(name, value)}}}')
    assert isinstance(event, Malformed)
    assert len(event.payload) <= 2000
    assert len(event.reason) <= 500


@pytest.mark.parametrize("value", [value for value in NUMBERS if value != "1.5"])
def test_a_limit_nobody_can_read_hides_no_fill(value: str) -> None:
    told = book_entry(json.loads(written("price", value))).evidence
    assert (told.filled_quantity, told.limit_price) == (10, None)


@pytest.mark.parametrize(("name", "value"), POISON, ids=lambda each: each[:20])
def test_a_poisoned_row_makes_the_book_unreadable_and_nothing_else(name: str, value: str) -> None:
    connector = kite.KiteConnector("http://127.0.0.1:9", "k", "t")
    body = answer(f'{{"data": [{json.dumps(ROW)}, {written(name, value)}]}}')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reads, "READ_ATTEMPTS", 1)
        patch.setattr(connector._line, "send", lambda *_: body)
        with pytest.raises(BrokerUnreachable):
            connector.orders()


@pytest.mark.parametrize(
    "text",
    ["", "{", "null", "[]", "7", "[" * 100_000, '{"type": "order"}', '{"type": "order", "data": []}', "\ud800"],
)
def test_a_text_frame_that_is_no_update_is_malformed_or_nothing(text: str) -> None:
    assert isinstance(event_of(text), Malformed | None)
    assert not isinstance(event_of(text), OrderUpdate)


def test_a_complete_order_of_nothing_is_no_end() -> None:
    entry = book_entry(ROW | {"quantity": 0, "filled_quantity": 0})
    assert entry.evidence.status is OrderStatus.ACCEPTED


def test_what_a_broker_explains_is_kept_in_storable_characters_and_bounds() -> None:
    entry = book_entry(ROW | {"status_message": "\ud800" + "x" * 10_000})
    assert len(entry.evidence.reason) == words.LONGEST_REASON
    assert entry.evidence.reason.encode()


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "null",
        "[]",
        "7",
        "[" * 100_000,
        b"\xff\x00",
        '{"status": "success"}',
        '{"status": "success", "data": 7}',
    ]
    + [f'{{"status": "success", "data": {{"order_id": {word}}}}}' for word in WORDS],
)
def test_an_unreadable_answer_to_an_order_is_doubt(body: str | bytes) -> None:
    assert kite._reply_of(answer(body)).outcome is Outcome.TIMEOUT
    assert kite._reply_of(answer(body, 400)).outcome is Outcome.TIMEOUT


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_no_amount_is_without_end(word: str) -> None:
    with pytest.raises(ValueError, match="not a finite number"):
        words.amount(word)


@pytest.mark.parametrize("asked", ["inf", "nan", "-5", "1e300", "soon", "99999999"])
def test_no_answer_holds_an_exit_for_longer_than_its_backoff(asked: str) -> None:
    pause = kite_errors.error_reply(429, {"error_type": "NetworkException"}, asked).retry_after
    assert pause is None or pause <= kite_errors.LONGEST_PAUSE


@pytest.mark.parametrize(
    "dump",
    [b"\xff\xfe", b"instrument_token\n1\x00", b"instrument_token\nx", b'a,b\n1,"' + b"x" * 200_000 + b'"',
     b"instrument_token,exchange,tradingsymbol,tick_size,lot_size\n1,NSE,INFY,NaN,1"],
)  # fmt: skip
def test_an_instrument_dump_that_cannot_be_read_is_an_answer_that_did_not_come(dump: bytes) -> None:
    connector = kite.KiteConnector("http://127.0.0.1:9", "k", "t")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connector._line, "send", lambda *_: answer(dump))
        with pytest.raises(BrokerUnreachable):
            connector.instruments("NSE")


@given(st.binary(max_size=400))
def test_any_frame_of_bytes_gives_prices_and_a_count_and_never_raises(frame: bytes) -> None:
    found = decode_prices(frame)
    assert undecoded(frame, len(found)) >= 0


def test_a_frame_that_was_cut_is_counted_by_what_is_missing() -> None:
    body = encode_full(TickPacket(408065, Mode.FULL, -150_000, exchange_time=1))
    frame = pack_frame([body, body, body])
    assert undecoded(frame, len(decode_prices(frame))) == 0
    cut = frame[: 2 + 2 * (len(body) + 2) + 50]
    assert undecoded(cut, len(decode_prices(cut))) == 1
    strange = struct.pack(">HH", 1, 7) + b"1234567"
    assert (decode_prices(strange), undecoded(strange, 0)) == ([], 1)
    assert Decimal(decode_prices(frame)[0][1]) < 0
