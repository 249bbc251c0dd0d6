"""What is written to the live state is what is read back, and a commit writes no more than what changed."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain.orders import Evidence, OrderStatus
from engine.domain.recurrence import Recurrence, Weekday
from engine.domain.run import Run
from engine.domain.strategy import Strategy
from engine.ports import CorruptState
from engine.runtime import codec
from tests.builders import BUY_AT, run, strategy
from tests.runs import MAYBE, MOMENTS, PRICES, WORDS, runs

EVIDENCE = st.builds(
    Evidence, WORDS, WORDS, st.sampled_from(OrderStatus), st.integers(0, 99), st.integers(0, 99), PRICES, MAYBE, WORDS
)
RECURRENCES = st.builds(Recurrence, st.frozensets(st.sampled_from(Weekday), min_size=1), until=st.none() | st.dates())
STRATEGIES = st.builds(
    strategy,
    name=WORDS,
    tenant=WORDS,
    buy_time=st.times(),
    sell_time=st.times(),
    stop_loss=PRICES,
    trading_date=st.none() | st.dates(),
    repeat=st.none() | RECURRENCES,
)


def _stored(original: Run) -> dict[str, str]:
    return codec.run_to_fields(original)


@given(runs())
def test_a_run_survives_the_way_to_the_store_and_back(original: Run) -> None:
    assert codec.run_from_fields(_stored(original), original.strategy) == original


@given(STRATEGIES)
def test_a_strategy_survives_it(original: Strategy) -> None:
    assert codec.strategy_from_fields(codec.strategy_to_fields(original)) == original


@given(EVIDENCE)
def test_evidence_survives_it(original: Evidence) -> None:
    assert codec.evidence_from_json(codec.evidence_to_json(original)) == original


@given(runs())
def test_an_order_survives_it(original: Run) -> None:
    for order in original.orders:
        assert codec.order_from_json(codec.order_to_json(order)) == order


@given(MOMENTS)
def test_a_moment_survives_it_to_the_microsecond(moment: Any) -> None:
    assert codec.from_us(codec.to_us(moment)) == moment


@given(runs(), runs())
def test_changes_turn_one_state_into_the_other_but_for_what_scripts_own(before: Run, after: Run) -> None:
    stored = _stored(before)
    changed = codec.changes(before, after, consumed=("evidence:x",))
    assert not codec.SCRIPT_OWNED & {*changed["set"], *changed["del"]}
    assert "evidence:x" in changed["del"]
    applied = {name: value for name, value in (stored | changed["set"]).items() if name not in changed["del"]}
    expected = _stored(after)
    for owned in codec.SCRIPT_OWNED:
        expected.pop(owned, None)
        applied.pop(owned, None)
    assert applied == expected


@given(runs())
def test_a_state_that_stays_is_not_written_again(same: Run) -> None:
    assert codec.changes(same, same) == {"set": {}, "del": []}


@pytest.mark.parametrize("field", ["run", "buy_at", "sell_at", "stop_units", "status"])
def test_a_run_without_a_field_it_must_have_is_corrupt(field: str) -> None:
    stored = _stored(run())
    del stored[field]
    with pytest.raises(CorruptState):
        codec.run_from_fields(stored, strategy())


def test_a_strategy_written_before_strategies_could_repeat_trades_once() -> None:
    stored = codec.strategy_to_fields(strategy())
    del stored["repeat"], stored["until"]
    assert codec.strategy_from_fields(stored) == strategy()


@pytest.mark.parametrize("field", sorted(codec.strategy_to_fields(strategy()).keys() - {"repeat", "until"}))
def test_a_strategy_without_one_of_its_fields_is_corrupt(field: str) -> None:
    stored = codec.strategy_to_fields(strategy())
    del stored[field]
    with pytest.raises(CorruptState):
        codec.strategy_from_fields(stored)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("run", "x"),
        ("buy_at", "soon"),
        ("stop_units", "95.5"),
        ("status", "happy"),
        ("exit_reason", "boredom"),
        ("stop_requested", "maybe"),
        ("latch_time", "1"),
        ("order:X", "{"),
        ("order:X", "[]"),
        ("order:X", '{"leg": "entry"}'),
    ],
)
def test_a_run_with_a_field_that_cannot_be_read_is_corrupt(field: str, value: str) -> None:
    with pytest.raises(CorruptState):
        codec.run_from_fields(_stored(run(entry_retry_at=BUY_AT)) | {field: value}, strategy())
