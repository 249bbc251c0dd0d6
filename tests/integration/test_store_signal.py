"""signal and tell: what must happen is written into the run, locked or not, before anyone is woken."""

from datetime import timedelta

import pytest

from engine.domain.orders import OrderStatus
from tests.builders import BUY_AT, S, entry, evidence, run
from tests.livestate import LiveState, microseconds, run_id

ACCEPTED = entry(OrderStatus.ACCEPTED)


@pytest.mark.parametrize("locked", [False, True])
@pytest.mark.parametrize(
    ("field", "value", "read"),
    [
        ("stop_requested", "close", "close"),
        ("stop_requested", "leave", "leave"),
        ("abort_requested", "unsafe", "unsafe"),
        ("dirty", "1", True),
    ],
)
def test_a_signal_is_a_field_of_the_run_locked_or_not(
    live: LiveState, field: str, value: str, read: object, locked: bool
) -> None:
    armed = live.arm()
    if locked:
        live.claim()
    assert live.store.signal(armed.id, {field: value}, BUY_AT) == "ok"
    assert getattr(live.run(), field) == read
    assert live.fields()["signal_seq"] == "1"


@pytest.mark.parametrize(("due", "expected"), [(BUY_AT - S, BUY_AT - S), (BUY_AT + S, BUY_AT)])
def test_a_signal_makes_a_run_due_earlier_never_later(live: LiveState, due: object, expected: object) -> None:
    armed = live.arm()
    live.store.signal(armed.id, {"dirty": "1"}, due)  # type: ignore[arg-type]
    assert live.due() == microseconds(expected)


def test_a_run_that_was_due_never_becomes_due_by_a_signal(live: LiveState) -> None:
    armed = live.arm()
    held = live.claim()
    live.store.commit(held, "c0", armed, None, None, release=True)
    live.store.signal(armed.id, {"dirty": "1"}, BUY_AT)
    assert live.due() == microseconds(BUY_AT)


def test_a_run_nobody_knows_is_told_nothing(live: LiveState) -> None:
    assert live.store.signal(run_id(9), {"dirty": "1"}, BUY_AT) == "unknown"
    assert live.due("9-20260105-1") is None


def test_repeated_evidence_falls_on_the_same_place(live: LiveState) -> None:
    armed = live.arm(run(ACCEPTED))
    told = evidence(ACCEPTED, OrderStatus.PARTIALLY_FILLED, 4)
    for _ in range(10):
        assert live.store.tell(armed.id, told, BUY_AT) == "ok"
    assert live.store.tell(armed.id, evidence(ACCEPTED, OrderStatus.PARTIALLY_FILLED, 5), BUY_AT) == "ok"
    assert len(live.claim().evidence) == 2


def _flood(live: LiveState) -> list[str]:
    armed = live.arm(run(ACCEPTED))
    return [
        live.store.tell(armed.id, evidence(ACCEPTED, OrderStatus.PARTIALLY_FILLED, filled), BUY_AT)
        for filled in range(500)
    ]


def test_a_flood_of_evidence_is_cut_off_and_the_book_is_to_be_asked(live: LiveState) -> None:
    answers = _flood(live)
    assert answers[0] == "ok"
    assert answers[-1] == "full"
    assert len(live.fields()) <= 402
    held = live.claim()
    assert held.run.dirty
    assert len(held.evidence) == answers.count("ok")


@pytest.mark.parametrize(("field", "value"), [("stop_requested", "close"), ("abort_requested", "unsafe")])
def test_a_flood_of_evidence_shuts_out_no_request(live: LiveState, field: str, value: str) -> None:
    _flood(live)
    assert live.store.signal(run_id(7), {field: value}, BUY_AT + timedelta(days=1)) == "ok"
    assert getattr(live.run(), field) == value
