"""The gate before Celery: what the engine itself sends passes, whatever else lies there is refused with a reason."""

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.dispatch import TASK_OF
from tasks.intake import HOUSEKEEPING, LARGEST, Refused, check
from tests.poison import GOOD, NOTHING_MORE, message, refused_by_the_engine, refused_by_the_gate

TASKS = {*TASK_OF.values(), *HOUSEKEEPING}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize("name", refused_by_the_gate())
def test_what_is_no_message_of_this_engine_is_refused_with_a_short_reason(name: str) -> None:
    with pytest.raises(Refused) as refusal:
        check(refused_by_the_gate()[name], "orders", TASKS)
    assert 0 < len(str(refusal.value)) < 100


@pytest.mark.parametrize("name", refused_by_the_engine())
def test_what_a_well_formed_message_says_is_not_the_gates_to_judge(name: str) -> None:
    assert check(refused_by_the_engine()[name], "orders", TASKS).task in TASKS


@pytest.mark.parametrize("ahead", [0.0, 10.0, -20.0])
def test_a_message_may_ask_to_be_run_soon(ahead: float) -> None:
    eta = (datetime.now(UTC) + timedelta(seconds=ahead)).isoformat()
    assert check(message(headers={"eta": eta}), "orders", TASKS) == ("execution.buy", [GOOD], {})


def test_a_body_may_be_the_text_it_is() -> None:
    whole = json.dumps([[GOOD], {}, NOTHING_MORE])
    plain = message(properties={"body_encoding": None}, over={"body": whole})
    assert check(plain, "orders", TASKS) == check(message(), "orders", TASKS) == ("execution.buy", [GOOD], {})


def test_celerys_own_housekeeping_passes() -> None:
    headers = {"task": "celery.backend_cleanup"}
    asked = check(message("maintenance", body=[[], {}, NOTHING_MORE], headers=headers), "maintenance", TASKS)
    assert asked == ("celery.backend_cleanup", [], {})


def test_the_largest_message_is_looked_at_and_a_larger_one_is_not() -> None:
    room = LARGEST - len(message(headers={"origin": ""}))
    check(message(headers={"origin": "x" * room}), "orders", TASKS)
    with pytest.raises(Refused, match="larger"):
        check(message(headers={"origin": "x" * (room + 1)}), "orders", TASKS)


@given(
    part=st.sampled_from(("headers", "properties", "body", "content-type", "content-encoding")),
    within=st.none() | st.sampled_from(("task", "id", "eta", "delivery_info", "delivery_tag", "priority", "stamps")),
    value=JSON,
)
def test_any_value_in_any_place_is_passed_or_refused_and_raises_nothing_else(
    part: str, within: str | None, value: Any
) -> None:
    changed = json.loads(message())
    if within and isinstance(changed[part], dict):
        changed[part][within] = value
    else:
        changed[part] = value
    with suppress(Refused):
        check(json.dumps(changed).encode(), "orders", TASKS)


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(raw: bytes) -> None:
    with pytest.raises(Refused):
        check(raw, "orders", TASKS)
