"""Messages off the wire: which are events, and what each other one is refused for."""

from typing import Any

import pytest

from engine.domain.events import LONGEST_ID, Event, EventType, MalformedEvent, parse_event
from engine.domain.run import RunId
from tests.builders import DAY

GOOD = {"id": "buy:7", "type": "BUY", "run": "7-20260105-1"}


@pytest.mark.parametrize("kind", EventType)
def test_an_event_survives_the_wire(kind: EventType) -> None:
    sent = Event("e1", kind, RunId(7, DAY))
    assert parse_event(sent.as_wire()) == sent


#: What is wrong with the message, and the field its refusal must begin with.
MALFORMED: list[tuple[Any, str]] = [
    (None, "event"),
    ("BUY", "event"),
    (7, "event"),
    ([GOOD], "event"),
    ({}, "id"),
    ({**GOOD, "id": ""}, "id"),
    ({**GOOD, "id": 7}, "id"),
    ({**GOOD, "id": None}, "id"),
    ({**GOOD, "id": "x" * (LONGEST_ID + 1)}, "id"),
    ({**GOOD, "id": "a\nb"}, "id"),
    ({**GOOD, "id": "a\x00b"}, "id"),
    ({"id": "e", "run": "7-20260105-1"}, "type"),
    ({**GOOD, "type": "buy"}, "type"),
    ({**GOOD, "type": "HOLD"}, "type"),
    ({**GOOD, "type": ["BUY"]}, "type"),
    ({"id": "e", "type": "BUY"}, "run"),
    ({**GOOD, "run": "7"}, "run"),
    ({**GOOD, "run": "7-20261332-1"}, "run"),
    ({**GOOD, "run": "seven-20260105-1"}, "run"),
    ({**GOOD, "run": {"id": 7}}, "run"),
    ({**GOOD, "price": 90}, "price"),
    ({**GOOD, 5: "x"}, "5"),
]


@pytest.mark.parametrize(("message", "field"), MALFORMED)
def test_a_malformed_message_is_refused_naming_its_field(message: Any, field: str) -> None:
    with pytest.raises(MalformedEvent) as caught:
        parse_event(message)
    assert str(caught.value).startswith(f"{field}:")


def test_an_id_of_the_longest_allowed_length_is_taken() -> None:
    assert parse_event({**GOOD, "id": "x" * LONGEST_ID}).id == "x" * LONGEST_ID
