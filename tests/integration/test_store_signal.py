"""signal and tell: what must happen is written into the run, locked or not, before anyone is woken."""

from datetime import timedelta

import pytest

from engine.domain.account_positions import AccountReading
from engine.domain.broker import NetPosition
from engine.domain.orders import OrderStatus, Product
from engine.domain.routing import Alert
from engine.domain.run import NetSeen
from engine.domain.schedule import Times
from engine.runtime import keys
from tests.builders import BUY_AT, SYMBOL, S, entry, evidence, run
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


def test_a_run_is_loaded_with_what_its_account_holds_and_nothing_older(live: LiveState) -> None:
    live.arm()
    later = BUY_AT + S

    def seen() -> NetSeen | None:
        holding = live.claim()
        live.commit(holding)
        return holding.run.net

    assert seen() is None
    held = [NetPosition(SYMBOL, Product.INTRADAY, 7), NetPosition(SYMBOL, Product.DELIVERY, 9)]
    live.store.cover(1, AccountReading(later, held))
    assert seen() == NetSeen(7, later)
    live.store.cover(1, AccountReading(BUY_AT, [NetPosition(SYMBOL, Product.INTRADAY, 3)]))
    live.store.cover(2, AccountReading(later + S, []))
    assert seen() == NetSeen(7, later)
    live.store.cover(1, AccountReading(later + S, []))
    assert seen() == NetSeen(0, later + S)


def test_an_account_no_longer_tells_runs_that_ended(live: LiveState) -> None:
    live.arm()
    live.commit(live.claim(), finished=True)
    live.store.cover(1, AccountReading(BUY_AT, []))
    assert live.fields() == {}
    assert live.redis.smembers(keys.account_runs(1)) == set()


def test_a_users_stop_is_recorded_and_another_session_is_not(live: LiveState) -> None:
    live.arm()
    assert live.store.prolong(run().id, BUY_AT + 60 * S, BUY_AT) == "ok"
    assert live.run().closes_at == BUY_AT + 60 * S
    assert live.store.signal(run().id, {"stop_requested": "leave"}, BUY_AT) == "ok"
    assert [record.get("stop_requested") for record in live.records()] == [None, "leave"]


def test_other_times_reach_a_run_and_its_holder(live: LiveState) -> None:
    live.arm()
    holding = live.claim()
    times = Times(BUY_AT, BUY_AT + 30 * S, BUY_AT + 60 * S)
    assert live.store.reschedule(run().id, times, BUY_AT) == "ok"
    again = live.commit(holding, release=True)
    assert again is not None
    assert Times.of(again.run) == Times.of(live.run()) == times


def test_an_alert_that_concerns_no_run_is_recorded_under_its_tenant(live: LiveState) -> None:
    live.store.alert("acme", Alert("critical", "code", "what to do"))
    (record,) = live.records()
    assert (record["run"], record["tenant"]) == ("", "acme")
    assert record["alerts"] == [{"severity": "critical", "code": "code", "message": "what to do"}]


def test_an_alert_that_is_told_once_is_recorded_once_a_name(live: LiveState) -> None:
    alert = Alert("warning", "test", "of what is told once")
    assert [live.store.alert_once("alpha", alert, name) for name in ("a", "b", "a")] == [True, True, False]
    assert len(live.records()) == 2
