"""Nothing that can come off a queue does more than be refused."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from engine.domain.events import Event, EventType, MalformedEvent, parse_event

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
)
IDS = st.from_regex(r"[0-9]{1,12}-[0-9]{7,9}-[0-9]{1,5}", fullmatch=True)
#: Messages close to an event, so that every check is reached.
ALMOST = st.fixed_dictionaries(
    {},
    optional={
        "id": st.text(max_size=90) | SCALARS,
        "type": st.sampled_from([kind.value for kind in EventType]) | SCALARS,
        "run": IDS | SCALARS,
        "more": SCALARS,
    },
)


@given(JSON | ALMOST)
def test_any_json_is_an_event_or_malformed_and_nothing_else(message: Any) -> None:
    try:
        event = parse_event(message)
    except MalformedEvent:
        return
    assert isinstance(event, Event)
    assert parse_event(event.as_wire()) == event
