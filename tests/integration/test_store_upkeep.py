"""arm, sweep, dead letters and accounts; and the epoch, without which no script does anything."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from engine.domain.account_positions import AccountReading
from engine.domain.events import EventType
from engine.domain.health import Heard
from engine.domain.orders import Leg, Order, OrderStatus
from engine.ports import Armed, CorruptState, Slot, StoreClosed
from engine.runtime import keys
from engine.runtime.store import load_scripts
from tests.builders import BUY_AT, SYMBOL, S, entry, event, exit_, latch, run, strategy, tick
from tests.livestate import ACCOUNT, EPOCH, NOTE, RUN, LiveState, microseconds, run_id

LIVED = run(
    entry(OrderStatus.FILLED, 10, filled_at=BUY_AT, updated_at=BUY_AT, reason="r"),
    exit_(OrderStatus.UNKNOWN, given_up=True),
    latch=replace(latch(), seen_at=BUY_AT, latched_at=BUY_AT),
    failure="why",
    entry_retry_at=BUY_AT,
    book_asked_at=BUY_AT,
)


def test_an_armed_run_is_stored_as_it_was_told(live: LiveState) -> None:
    live.arm(LIVED)
    assert live.run() == LIVED
    assert live.due() == microseconds(BUY_AT)
    assert live.store.symbols(ACCOUNT.market) == {SYMBOL}
    record = live.records("armed")[0]
    assert (record["run"], record["tenant"], len(record["orders"])) == (RUN, "alpha", 2)


def test_arming_a_run_that_exists_changes_nothing(live: LiveState) -> None:
    live.arm(LIVED)
    before, ledger = live.fields(), live.records()
    assert live.store.arm(run(failure="other"), BUY_AT + S, buying=True) is Armed.EXISTS
    assert (live.fields(), live.records(), live.due()) == (before, ledger, microseconds(BUY_AT))


@pytest.mark.parametrize(
    ("buying", "breached", "holds", "armed", "latched"),
    [
        (True, False, False, {RUN}, set()),
        (False, False, False, set(), set()),
        # Its first fill decides what counts: until then it hears of every breach.
        (True, True, False, {RUN}, {RUN}),
        (True, True, True, set(), {RUN}),
        (False, True, False, set(), set()),
    ],
)
def test_only_a_run_that_may_hold_or_buy_is_armed_at_its_stop(
    live: LiveState, buying: bool, breached: bool, holds: bool, armed: set[str], latched: set[str]
) -> None:
    live.arm(
        run(*([entry(OrderStatus.FILLED, 10)] if holds else []), latch=latch() if breached else None), buying=buying
    )
    assert (live.armed(SYMBOL), live.latched(SYMBOL)) == (armed, latched)


def _due(live: LiveState, number: int, seconds_ago: float) -> None:
    """Arm run `number` and make it due so long ago by the server's clock."""
    live.arm(run(spec=strategy(id=number)))
    live.redis.zadd(keys.DUE, {str(run_id(number)): live.now_us() - int(seconds_ago * 1e6)})


def test_a_sweep_takes_what_is_due_and_leaves_timers_half_a_second(live: LiveState) -> None:
    for number, seconds_ago in ((1, 60), (2, 1), (3, 0), (4, -60)):
        _due(live, number, seconds_ago)
    assert {(swept.id.strategy_id, nudges) for swept, nudges in live.store.sweep(100)} == {(1, 1), (2, 1)}


def test_a_sweep_takes_no_more_than_its_limit_and_the_longest_due_first(live: LiveState) -> None:
    for number in range(1, 6):
        _due(live, number, 60 - number)
    assert [swept.id.strategy_id for swept, _ in live.store.sweep(2)] == [1, 2]
    assert [swept.id.strategy_id for swept, _ in live.store.sweep(2)] == [3, 4]
    assert [swept.id.strategy_id for swept, _ in live.store.sweep(2)] == [5]


def test_each_nudge_moves_a_run_further_ahead_up_to_half_a_minute(live: LiveState) -> None:
    _due(live, 7, 1)
    for expected in (1, 2, 4, 8, 16, 30, 30, 30):
        before = live.now_us()
        assert len(live.store.sweep(10)) == 1
        due = live.due()
        assert due is not None
        assert expected * 1_000_000 <= due - before < (expected + 1) * 1_000_000
        assert live.store.sweep(10) == []
        live.redis.zadd(keys.DUE, {RUN: before - 1_000_000})


def test_a_commit_ends_the_backoff(live: LiveState) -> None:
    _due(live, 7, 1)
    assert [nudges for _, nudges in live.store.sweep(10)] == [1]
    live.commit(live.claim())
    live.redis.zadd(keys.DUE, {RUN: 1})
    assert [nudges for _, nudges in live.store.sweep(10)] == [1]


def test_what_is_due_but_has_no_runtime_is_forgotten(live: LiveState) -> None:
    live.redis.zadd(keys.DUE, {"9-20260105-1": 1})
    assert live.store.sweep(10) == []
    assert live.due("9-20260105-1") is None


@pytest.mark.parametrize("broken", ["field", "strategy"])
def test_a_run_that_cannot_be_read_keeps_no_other_from_being_swept(live: LiveState, broken: str) -> None:
    for number in (1, 2, 3):
        _due(live, number, 1)
    if broken == "field":
        live.redis.hset(keys.runtime(str(run_id(2))), "status", "nonsense")
    else:
        live.redis.delete(keys.strategy(2))
    assert {swept.id.strategy_id for swept, _ in live.store.sweep(10)} == {1, 3}
    (letter,) = live.records("dead_letter")
    assert letter["payload"] == str(run_id(2))


#: The orders of a run that cannot be read, and whether its tenant must hear of it.
UNREADABLE: list[tuple[tuple[Order, ...], int]] = [
    ((), 0),
    ((entry(OrderStatus.ACCEPTED),), 1),
    ((entry(OrderStatus.FILLED, 10),), 1),
    ((entry(OrderStatus.FILLED, 10), exit_(OrderStatus.FILLED, 10)), 0),
]


@pytest.mark.parametrize("broken", ["field", "strategy"])
@pytest.mark.parametrize(("orders", "alerts"), UNREADABLE)
def test_a_run_that_cannot_be_read_and_may_hold_something_is_told_to_its_tenant_once(
    live: LiveState, orders: tuple[Order, ...], alerts: int, broken: str
) -> None:
    live.arm(run(*orders))
    # It was nudged before it could not be read.
    live.redis.hset(keys.runtime(RUN), "nudges", "3")
    if broken == "strategy":
        live.redis.delete(keys.strategy(7))
    else:
        live.redis.hset(keys.runtime(RUN), "status", "nonsense")
    for _ in range(3):
        live.redis.zadd(keys.DUE, {RUN: 1})
        assert live.store.sweep(10) == []
    told = [(record["tenant"], alert) for record in live.records("alert") for alert in record["alerts"]]
    assert [(tenant, alert["severity"], alert["code"]) for tenant, alert in told] == [
        ("alpha", "critical", "state_unreadable")
    ] * alerts
    assert all(RUN in alert["message"] for _, alert in told)


def test_a_run_that_cannot_be_read_is_corrupt_and_says_which(live: LiveState) -> None:
    live.arm()
    live.redis.hset(keys.runtime(RUN), "status", "nonsense")
    with pytest.raises(CorruptState, match=RUN):
        live.claim()


def test_a_dead_letter_is_recorded_under_no_run_and_cut_to_a_readable_length(live: LiveState) -> None:
    live.store.dead_letter("queue", "type: missing", "x" * 5000)
    (record,) = live.records()
    assert (record["kind"], record["run"], record["tenant"]) == ("dead_letter", "", "")
    assert (record["source"], record["reason"], len(record["payload"])) == ("queue", "type: missing", 2000)


def test_an_account_is_read_as_it_was_written(live: LiveState) -> None:
    account = replace(ACCOUNT, id=3, limits={"rate_second": 10, "reserve_day": 5, "exit_slots": 4})
    live.store.write_account(account)
    assert live.store.account(3) == account
    assert live.store.account(4) is None


def test_every_live_run_can_be_looked_at(live: LiveState) -> None:
    armed = [live.arm(run(spec=strategy(id=number))) for number in (1, 2)]
    assert sorted(live.store.runs(), key=lambda each: each.id) == armed
    assert live.store.run("9-20260105-1") is None


def _calls(live: LiveState) -> dict[str, Callable[[], Any]]:
    """Every script as the store calls it, on a run that is held."""
    held = live.claim()
    order = entry(OrderStatus.SENDING, send_by=datetime.now(UTC))
    after = held.run.with_order(order)
    store = live.store
    return {
        "claim": lambda: store.claim(event(EventType.BUY), "t", Slot.NONE),
        "extend": lambda: store.extend(held, timedelta(seconds=9)),
        "intend": lambda: store.intend(held, "i0", held.run, after, order, BUY_AT, NOTE),
        "commit": lambda: store.commit(held, "c0", after, None, NOTE, release=True, finished=True),
        "signal": lambda: store.signal(held.run.id, {"dirty": "1"}, BUY_AT),
        "account": lambda: store.write_account(ACCOUNT),
        "carry": lambda: store.carry(ACCOUNT.market, "listener", 1, [(timedelta(0), [SYMBOL])]),
        "watch": lambda: store.watch(ACCOUNT.market, BUY_AT),
        "looked": lambda: store.may_judge(ACCOUNT.market),
        "traded": lambda: store.traded(ACCOUNT.market, {SYMBOL: BUY_AT}),
        "on_tick": lambda: store.on_tick(ACCOUNT.market, [tick(1)], BUY_AT, "sl"),
        "sweep": lambda: store.sweep(10),
        "arm": lambda: store.arm(run(spec=strategy(id=8)), BUY_AT, buying=True),
        "note": lambda: store.note(event(EventType.BUY), "lost"),
        "cover": lambda: store.cover(1, AccountReading(BUY_AT, [])),
        "tell": lambda: store.dead_letter("a", "b", "c"),
        "heard": lambda: store.heard(1, ACCOUNT.version, Heard.TOKEN_DEAD, Leg.EXIT, None),
        "read_book": lambda: store.read_book(held, BUY_AT, BUY_AT, BUY_AT, "part", EventType.RETRY),
        "tell_book": lambda: store.tell_book(held, BUY_AT, {}),
    }


def _everything(live: LiveState) -> dict[str, bytes]:
    names: Any = live.redis.keys("*")
    return {name: live.redis.dump(name) for name in names if name != keys.EPOCH}  # type: ignore[misc]


@pytest.mark.parametrize(
    "stored", ["", f"{EPOCH + 1}:same", f"{EPOCH}:other"], ids=["none", "next", "of another server"]
)
@pytest.mark.parametrize("script", sorted(load_scripts()))
def test_no_script_does_anything_under_another_epoch_or_none(live: LiveState, script: str, stored: str) -> None:
    live.arm()
    live.redis.zadd(keys.DUE, {RUN: 1})
    call = _calls(live)[script]
    before = _everything(live)
    if stored:
        live.redis.set(keys.EPOCH, stored.replace("same", live.epoch.run_id()))
    else:
        live.redis.delete(keys.EPOCH)
    with pytest.raises(StoreClosed):
        call()
    assert _everything(live) == before


def test_runs_that_are_forgotten_leave_no_symbol_and_no_word_of_its_line(live: LiveState) -> None:
    live.arm()
    assert live.store.symbols(ACCOUNT.market)
    live.store.forget_runs()
    assert live.store.symbols(ACCOUNT.market) == set()
    assert not live.redis.exists(keys.feed(ACCOUNT.market), keys.runs_of(7))
