"""Kite's postback: read as the book's orders are, believed only with the right checksum."""

import hashlib
import json
from typing import Any

import pytest

from broker_connector.base import Forged
from broker_connector.kite_postback import read
from engine.domain.orders import OrderStatus

SECRET = "an-api-secret"
ORDER = {
    "order_id": "220303000308932", "status": "COMPLETE", "status_message": None,
    "order_timestamp": "2022-03-03 09:24:25", "exchange_update_timestamp": "2022-03-03 09:24:25",
    "exchange": "NSE", "tradingsymbol": "SBIN", "transaction_type": "BUY", "quantity": 1, "average_price": 470,
    "filled_quantity": 1, "tag": "EE00001",
}  # fmt: skip


def signed(**changed: Any) -> bytes:
    told = ORDER | changed
    text = f"{told.get('order_id')}{told.get('order_timestamp')}{SECRET}"
    return json.dumps({"checksum": hashlib.sha256(text.encode()).hexdigest()} | told).encode()


def test_a_signed_postback_is_an_order_of_the_book() -> None:
    told = read(signed(), SECRET)
    assert (told.tag, told.symbol) == ("EE00001", "NSE:SBIN")
    assert (told.evidence.status, told.evidence.filled_quantity) == (OrderStatus.FILLED, 1)


@pytest.mark.parametrize(
    "body", [signed(checksum="0" * 64), signed(checksum="not hexadecimal, and short"), signed(checksum="\u0660" * 64)]
)
def test_another_checksum_is_refused(body: bytes) -> None:
    with pytest.raises(Forged):
        read(body, SECRET)


def test_a_signature_counts_for_one_secret() -> None:
    with pytest.raises(Forged):
        read(signed(), "another")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "postback"),
        (b"[]", "postback"),
        (b"\xff", "postback"),
        (signed(checksum=None), "postback"),
        (json.dumps(ORDER).encode(), "checksum"),
        (signed(filled_quantity="many"), "order"),
        (signed(status=7), "order"),
    ],
)
def test_what_cannot_be_read_says_where(body: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read(body, SECRET)
