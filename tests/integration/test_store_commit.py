"""commit: all of a transition or nothing, and nothing that came meanwhile is lost."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from engine.domain.events import EventType
from engine.domain.orders import Order, OrderStatus
from engine.domain.run import RunStatus
from engine.domain.ticks import Tick
from engine.ports import Armed, LockLost, Refused, Slot
from engine.runtime import keys
from tests.builders import BUY_AT, STOP, SYMBOL, S, entry, event, evidence, exit_, latch, run, strategy
from tests.livestate import ACCOUNT, NOTE, RUN, LiveState, microseconds, run_id

ACCEPTED = entry(OrderStatus.ACCEPTED)
BOUGHT = entry(OrderStatus.FILLED, 10)
FILL_TIME = BUY_AT + 2 * S


def _tick(price: int, at: datetime = BUY_AT + S) -> Tick:
    return Tick(SYMBOL, price, at)


def test_a_commit_applies_records_and_lets_go(live: LiveState) -> None:
    live.arm()
    held = live.claim(EventType.BUY, Slot.ENTRY)
    after = replace(held.run.with_order(ACCEPTED), failure="why", entry_retry_at=BUY_AT + S, book_read_at=BUY_AT)
    assert live.store.commit(held, "c0", after, BUY_AT + 9 * S, NOTE, release=True) is None
    assert live.run() == after
    assert live.due() == microseconds(BUY_AT + 9 * S)
    assert live.redis.exists(keys.lock(RUN), "account:1:slots:entry") == 0
    record = live.records("test")[0]
    assert (record["run"], record["tenant"], record["event_id"], record["outcome"]) == (RUN, "alpha", "e1", "done")
    assert record["state"]["failure"] == "why"


def test_who_keeps_a_run_keeps_its_slot_as_long(live: LiveState) -> None:
    live.arm()
    held = live.claim(EventType.BUY, Slot.ENTRY)
    slots = "account:1:slots:entry"
    live.redis.zadd(slots, {RUN: live.now_us() + 100_000})
    assert live.commit(held, release=False) is not None
    ends = live.redis.zscore(slots, RUN)
    assert ends is not None
    assert abs(float(ends) - live.now_us() - int(live.redis.pttl(keys.lock(RUN))) * 1_000) < 300_000


def test_fields_set_back_to_nothing_are_gone(live: LiveState) -> None:
    live.arm(run(entry_retry_at=BUY_AT, abort_requested="x", dirty=True, failure="y"))
    held = live.claim()
    live.commit(held, replace(held.run, entry_retry_at=None, abort_requested="", dirty=False, failure=""))
    assert live.run() == run()


def test_a_run_nothing_waits_for_is_not_due(live: LiveState) -> None:
    live.arm()
    held = live.claim()
    live.store.commit(held, "c0", held.run, None, None, release=True)
    assert live.due() is None
    assert not live.records("test")


def test_a_holder_whose_lease_ran_out_commits_nothing(live: LiveState) -> None:
    live.arm()
    held = live.claim()
    live.lease_runs_out()
    before, ledger = live.fields(), live.records()
    with pytest.raises(LockLost):
        live.commit(held, replace(held.run, failure="late"))
    assert (live.fields(), live.records()) == (before, ledger)


def test_a_holder_that_goes_on_keeps_the_lock(live: LiveState) -> None:
    live.arm()
    held = live.claim()
    kept = live.commit(held, replace(held.run, failure="why"), release=False)
    assert kept is not None
    assert (kept.token, kept.run.failure, kept.account_version) == (held.token, "why", "v1")
    assert live.store.claim(event(EventType.BUY), "other", Slot.NONE) is Refused.BUSY


def test_a_signal_during_the_hold_keeps_the_lock_and_brings_the_fresh_state(live: LiveState) -> None:
    live.arm()
    held = live.claim()
    assert live.store.signal(held.run.id, {"stop_requested": "close"}, BUY_AT) == "ok"
    kept = live.commit(held, replace(held.run, failure="mine"))
    assert kept is not None
    assert (kept.run.stop_requested, kept.run.failure) == ("close", "mine")
    assert live.commit(kept) is not None or live.store.commit(kept, "c1", kept.run, None, None, release=True) is None


def test_a_tick_during_the_hold_keeps_the_lock_and_brings_the_latch(live: LiveState) -> None:
    live.arm(run(BOUGHT))
    held = live.claim()
    live.store.on_tick(ACCOUNT.market, [_tick(STOP)], BUY_AT, "sl")
    kept = live.commit(held)
    assert kept is not None
    assert kept.run.latch is not None
    assert live.store.commit(kept, "c1", kept.run, None, None, release=True) is None


@pytest.mark.parametrize("due", [BUY_AT + 9 * S, None])
def test_what_came_during_the_hold_stays_due_should_its_holder_die(live: LiveState, due: datetime | None) -> None:
    live.arm(run(BOUGHT))
    held = live.claim()
    live.store.signal(held.run.id, {"stop_requested": "close"}, BUY_AT - S)
    assert live.store.commit(held, "c0", held.run, due, NOTE, release=True) is not None
    assert live.due() == microseconds(BUY_AT - S)


@pytest.mark.parametrize("before", [0, 1, 3])
def test_a_hint_that_came_during_the_hold_survives_the_answer_to_an_older_one(live: LiveState, before: int) -> None:
    armed = live.arm(run(ACCEPTED, dirty=True))
    for _ in range(before):
        live.store.signal(armed.id, {"dirty": "1"}, BUY_AT)
    held = live.claim()
    live.store.signal(held.run.id, {"dirty": "1"}, BUY_AT)
    kept = live.commit(held, replace(held.run, dirty=False))
    assert kept is not None
    assert kept.run.dirty


def test_evidence_absorbed_is_dropped_and_evidence_that_came_meanwhile_stays(live: LiveState) -> None:
    armed = live.arm(run(ACCEPTED))
    live.store.tell(armed.id, evidence(ACCEPTED, OrderStatus.PARTIALLY_FILLED, 4), BUY_AT)
    held = live.claim()
    later = evidence(ACCEPTED, OrderStatus.FILLED, 10)
    live.store.tell(armed.id, later, BUY_AT)
    kept = live.commit(held)
    assert kept is not None
    assert kept.evidence == (later,)


def test_a_repeat_of_a_commit_is_harmless(live: LiveState) -> None:
    live.arm()
    held = live.claim()
    after = replace(held.run, failure="why")
    for _ in range(3):
        assert live.commit(held, after) is None
    assert len(live.records("test")) == 1


def test_a_repeat_of_a_commit_that_keeps_the_lock_keeps_it(live: LiveState) -> None:
    live.arm()
    held = live.claim()
    first = live.commit(held, release=False)
    assert live.commit(held, release=False) == first
    assert len(live.records("test")) == 1


def test_a_finished_run_leaves_a_tombstone_and_nothing_else(live: LiveState) -> None:
    live.arm(run(BOUGHT, exit_(OrderStatus.FILLED, 10)))
    live.store.on_tick(ACCOUNT.market, [_tick(STOP)], BUY_AT, "sl")
    held = live.claim(EventType.SELL, Slot.EXIT)
    for _ in range(2):
        assert live.commit(held, replace(held.run, status=RunStatus.STOPPED), finished=True) is None
    gone = [keys.runtime(RUN), keys.lock(RUN), "account:1:slots:exit"]
    assert live.redis.exists(*gone) == 0
    assert (live.due(), live.armed(SYMBOL), live.latched(SYMBOL)) == (None, set(), set())
    stone: dict[str, str] = live.redis.hgetall(keys.tombstone(RUN))  # type: ignore[assignment]
    assert (stone["status"], stone["position"], stone["tenant"]) == ("stopped", "sold", "alpha")
    assert int(live.redis.pttl(keys.tombstone(RUN))) > 19 * 3600 * 1000
    assert len(live.records("test")) == 1


def test_a_finished_run_refuses_everything_and_is_not_armed_again(live: LiveState) -> None:
    armed = live.arm()
    live.commit(live.claim(), finished=True)
    assert live.store.signal(armed.id, {"dirty": "1"}, BUY_AT) == "gone"
    assert live.store.tell(armed.id, evidence(ACCEPTED, OrderStatus.FILLED, 10), BUY_AT) == "gone"
    assert live.store.arm(armed, BUY_AT, buying=True) is Armed.ENDED
    assert live.store.on_tick(ACCOUNT.market, [_tick(1)], BUY_AT, "sl") == []
    assert live.fields() == {}


def test_another_run_of_the_strategy_lives_on(live: LiveState) -> None:
    tomorrow = replace(run(), id=replace(run().id, n=2))
    live.arm()
    live.arm(tomorrow)
    live.commit(live.claim(), finished=True)
    assert live.run(str(tomorrow.id)) == tomorrow
    assert live.claim(run_id=tomorrow.id).run == tomorrow


def test_a_strategys_instruction_ends_with_its_last_run_and_no_sooner(live: LiveState) -> None:
    tomorrow = replace(run(), id=replace(run().id, n=2))
    live.arm()
    live.arm(tomorrow)
    live.commit(live.claim(), finished=True)
    assert live.redis.ttl(keys.strategy(7)) == -1
    live.commit(live.claim(run_id=tomorrow.id), finished=True)
    assert 0 < int(live.redis.ttl(keys.strategy(7))) <= 20 * 3600
    assert live.redis.exists(keys.runs_of(7)) == 0


@pytest.mark.parametrize("lost", ["ending", "gone"])
def test_a_run_that_lives_has_its_instruction_kept_or_written_again_as_it_is_looked_for(
    live: LiveState, lost: str
) -> None:
    first = live.arm()
    # As an engine before this one left it: the end of another run has set an end, and nobody counted this one.
    live.redis.delete(keys.runs_of(7))
    if lost == "ending":
        live.redis.expire(keys.strategy(7), 60)
    else:
        live.redis.delete(keys.strategy(7))
    assert live.store.arm(first, BUY_AT, buying=True) is Armed.EXISTS
    assert live.redis.ttl(keys.strategy(7)) == -1
    assert live.claim().run == first
    tomorrow = live.arm(replace(run(), id=replace(run().id, n=2)))
    live.commit(live.claim(run_id=tomorrow.id), finished=True)
    assert live.redis.ttl(keys.strategy(7)) == -1


def test_one_tenants_commit_touches_no_other_tenants_run(live: LiveState) -> None:
    live.arm()
    other = live.arm(run(spec=strategy(id=8, tenant="beta", account_id=2)))
    before = live.fields(str(other.id))
    live.commit(live.claim(), finished=True)
    assert live.fields(str(other.id)) == before
    assert live.armed(SYMBOL) == {str(run_id(8))}


#: A latch's time and the last price's (seconds after buying; None is none), the price, and what the first fill at 2 s
#: leaves: the latch it had, none, or a new one at the price.
FIRST_FILL: list[tuple[str, float | None, float | None, int, str]] = [
    ("no breach, no price", None, None, 0, "none"),
    ("price above the stop", None, 1, STOP + 1, "none"),
    ("price at the stop", None, 1, STOP, "new"),
    ("price below the stop, told after the fill", None, 3, STOP - 50, "new"),
    ("yesterday's price proves nothing", None, -86_400, STOP - 50, "none"),
    ("a breach before the fill, price back above", 1, 1.5, STOP + 1, "none"),
    ("a breach before the fill, no price", 1, None, 0, "none"),
    ("a breach before the fill, price still there", 1, 1.5, STOP, "kept"),
    ("a breach before the fill, yesterday's price", 1, -86_400, STOP - 50, "none"),
    ("a breach at the fill", 2, 3, STOP + 1, "kept"),
    ("a breach after the fill, price back above", 3, 4, STOP + 1, "kept"),
]


@pytest.mark.parametrize("found", [ACCEPTED, BOUGHT])
def test_an_entry_that_only_the_book_remembers_arms_the_stop(live: LiveState, found: Order) -> None:
    # The server went back to before the grant, and its book was read before it showed the order.
    live.arm(buying=False)
    held = live.claim()
    live.commit(held, held.run.with_order(found), first_fill=FILL_TIME if found.filled_quantity else None)
    assert live.armed(SYMBOL) == {RUN}


@pytest.mark.parametrize(
    ("latched", "priced", "price", "left"), [row[1:] for row in FIRST_FILL], ids=[row[0] for row in FIRST_FILL]
)
def test_the_first_fill_decides_whether_a_breach_counts(
    live: LiveState, latched: float | None, priced: float | None, price: int, left: str
) -> None:
    old = None if latched is None else latch(STOP - 10, BUY_AT + timedelta(seconds=latched))
    live.arm(run(ACCEPTED, latch=old))
    if priced is not None:
        told = {"price": price, "time": microseconds(BUY_AT + timedelta(seconds=priced))}
        live.redis.hset(keys.price(ACCOUNT.market, SYMBOL), mapping=told)  # type: ignore[arg-type]
    held = live.claim()
    kept = live.commit(held, held.run.with_order(BOUGHT), first_fill=FILL_TIME)
    now = live.run().latch
    if left == "kept":
        assert (now, live.latched(SYMBOL), live.armed(SYMBOL)) == (old, {RUN}, set())
        assert kept is None
    elif left == "new":
        assert kept is not None
        assert now is not None
        assert kept.run.latch == now
        assert (now.price, now.event_id) == (price, f"first-fill-{RUN}")
        assert (live.latched(SYMBOL), live.armed(SYMBOL)) == ({RUN}, set())
    else:
        assert (now, live.latched(SYMBOL), live.armed(SYMBOL)) == (None, set(), {RUN})
        assert (kept is not None) == (old is not None)


@pytest.mark.parametrize(("traded", "left"), [(-60, False), (-1, False), (0, True), (1, True)])
def test_a_price_repeated_after_the_first_fill_proves_nothing_where_it_was_traded_before(
    live: LiveState, traded: int, left: bool
) -> None:
    live.arm(run(ACCEPTED))
    repeated = replace(_tick(STOP), exchange_time=FILL_TIME + S, traded_at=FILL_TIME + traded * S)
    live.store.on_tick(ACCOUNT.market, [repeated], BUY_AT, "sl:x")
    held = live.claim()
    live.commit(held, held.run.with_order(BOUGHT), first_fill=FILL_TIME)
    assert (live.run().latch is not None) is left
    assert live.armed(SYMBOL) == (set() if left else {RUN})


@pytest.mark.parametrize(("breaches", "left"), [([-1], False), ([-2, -1], False), ([-1, 1], True), ([-1, 2, 1], True)])
def test_of_the_breaches_while_the_run_was_buying_the_last_counts(
    live: LiveState, breaches: list[int], left: bool
) -> None:
    live.arm(run(ACCEPTED))
    for place, after in enumerate(breaches):
        found = live.store.on_tick(ACCOUNT.market, [_tick(STOP - 10, FILL_TIME + after * S)], BUY_AT, f"sl:{place}")
        assert len(found) == (1 if place == 0 else 0)
    live.store.on_tick(ACCOUNT.market, [_tick(STOP + 100, FILL_TIME + 5 * S)], BUY_AT, "sl:back")
    held = live.claim()
    live.commit(held, held.run.with_order(BOUGHT), first_fill=FILL_TIME)
    assert (live.run().latch is not None) is left
    assert (live.armed(SYMBOL), live.latched(SYMBOL)) == ((set(), {RUN}) if left else ({RUN}, set()))


@pytest.mark.parametrize(("traded", "left"), [(-60, False), (-1, False), (0, True), (1, True)])
def test_a_breach_while_the_run_was_buying_counts_by_when_it_was_traded(
    live: LiveState, traded: int, left: bool
) -> None:
    live.arm(run(ACCEPTED))
    live.redis.zadd(keys.armed(ACCOUNT.market, SYMBOL), {RUN: STOP})
    repeated = replace(_tick(STOP), exchange_time=FILL_TIME + S, traded_at=FILL_TIME + traded * S)
    assert len(live.store.on_tick(ACCOUNT.market, [repeated], BUY_AT, "sl:x")) == 1
    held = live.claim()
    live.commit(held, held.run.with_order(BOUGHT), first_fill=FILL_TIME)
    assert (live.run().latch is not None) is left
