"""What of a message says that two of them ask for the same."""

import pytest

from tasks.execution import look_asked_for

WIRE = {"id": "sweep:1", "type": "BUY", "run": "17-20260105-1"}


def test_the_same_look_has_the_same_name_whoever_asks() -> None:
    assert look_asked_for(WIRE) == look_asked_for(WIRE | {"id": "timer:1"}) == ("BUY", "17-20260105-1")
    assert (
        look_asked_for(WIRE | {"type": "SELL"})
        != look_asked_for(WIRE)
        != look_asked_for(WIRE | {"run": "18-20260105-1"})
    )


@pytest.mark.parametrize("event", [None, "BUY", {}, WIRE | {"id": ""}, WIRE | {"run": ["17"]}, WIRE | {"more": "1"}])
def test_what_is_no_event_is_like_nothing_else(event: object) -> None:
    assert look_asked_for(event) is None
