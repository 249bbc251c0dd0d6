"""claim: one holder a run, and an outcome for everyone else."""

import time
from dataclasses import replace
from datetime import timedelta

import pytest

from engine.domain.events import Event, EventType
from engine.domain.orders import OrderStatus
from engine.ports import Holding, LockLost, Refused, Slot
from engine.runtime import keys
from tests.builders import BUY_AT, S, entry, event, evidence, latch, run, strategy
from tests.livestate import ACCOUNT, EPOCH, RUN, LiveState, run_id

BUY = event(EventType.BUY)
STOPLOSS = event(EventType.STOPLOSS, "sl")


def test_a_claimed_run_is_loaded_whole(live: LiveState) -> None:
    armed = live.arm(run(entry(OrderStatus.FILLED, 10), latch=latch(), failure="why", dirty=True))
    held = live.store.claim(BUY, "t1", Slot.ENTRY)
    assert isinstance(held, Holding)
    assert (held.token, held.run, held.evidence) == ("t1", armed, ())
    assert held.account_version == "v1"


def test_a_claim_carries_the_evidence_left_in_the_run(live: LiveState) -> None:
    armed = live.arm(run(entry(OrderStatus.ACCEPTED)))
    told = evidence(armed.orders[0], OrderStatus.FILLED, 10, filled_at=BUY_AT)
    assert live.store.tell(armed.id, told, BUY_AT) == "ok"
    held = live.claim()
    assert held.evidence == (told,)
    assert len(held.consumed) == 1


def test_a_held_run_is_busy_and_the_event_stays_in_it(live: LiveState) -> None:
    live.arm()
    held = live.claim()
    assert live.store.claim(STOPLOSS, "t2", Slot.EXIT) is Refused.BUSY
    assert live.fields()["signal_seq"] == str(int(held.signal_seq) + 1)
    (record,) = live.records("event")
    assert (record["event_id"], record["event_type"], record["outcome"]) == ("sl", "STOPLOSS", "coalesced")
    # The holder is told: it keeps the lock and looks again.
    assert live.commit(held) is not None


def test_a_repeat_with_the_same_token_answers_the_same(live: LiveState) -> None:
    live.arm()
    first = live.store.claim(BUY, "t1", Slot.ENTRY)
    assert live.store.claim(BUY, "t1", Slot.ENTRY) == first
    assert live.fields()["signal_seq"] == "0"
    assert live.redis.zcard("account:1:slots:entry") == 1


def test_a_lease_runs_out_by_itself_and_the_next_one_holds_the_run(live: LiveState) -> None:
    live.arm()
    first = live.claim()
    assert 0 < int(live.redis.pttl(keys.lock(RUN))) <= 1000
    live.redis.pexpire(keys.lock(RUN), 1)
    time.sleep(0.01)
    second = live.claim()
    assert second.token != first.token
    with pytest.raises(LockLost):
        live.commit(first)
    assert live.commit(second) is None


def test_a_run_that_ended_is_gone(live: LiveState) -> None:
    live.arm()
    assert live.commit(live.claim(), finished=True) is None
    late = event(EventType.BUY, "late")
    assert live.store.claim(late, "t2", Slot.ENTRY) is Refused.GONE
    last = live.records("event")[-1]
    assert (last["run"], last["event_id"], last["outcome"]) == (RUN, "late", "ignored: run_ended")


def test_an_event_has_one_terminal_record_however_often_it_is_delivered(live: LiveState) -> None:
    live.arm()
    held = live.claim()
    for _ in range(3):
        assert live.store.claim(STOPLOSS, "t2", Slot.EXIT) is Refused.BUSY
    assert live.commit(held) is not None
    live.store.note(STOPLOSS, "lock_lost")
    assert [record["outcome"] for record in live.records() if record["event_id"] == "sl"] == ["coalesced"]


def test_a_run_nobody_knows_is_one_dead_letter_and_is_never_built(live: LiveState) -> None:
    assert live.store.claim(BUY, "t1", Slot.ENTRY) is Refused.UNKNOWN
    (record,) = live.records()
    assert (record["kind"], record["run"], record["reason"]) == ("dead_letter", "", "unknown run")
    assert record["payload"] == f"BUY e1 {RUN}"
    assert live.fields() == {}


def _arm_two(live: LiveState) -> tuple[Event, Event]:
    for number in (7, 8):
        live.arm(run(spec=strategy(id=number)))
    return event(EventType.BUY, "b7", run_id(7)), event(EventType.BUY, "b8", run_id(8))


@pytest.mark.parametrize(("slot", "limit"), [(Slot.ENTRY, "entry_slots"), (Slot.EXIT, "exit_slots")])
def test_an_account_without_a_free_slot_parks_the_run(live: LiveState, slot: Slot, limit: str) -> None:
    live.store.write_account(replace(ACCOUNT, limits={limit: 1}))
    first, second = _arm_two(live)
    held = live.store.claim(first, "t1", slot)
    assert isinstance(held, Holding)
    before = live.now_us()
    assert live.store.claim(second, "t2", slot) is Refused.PARKED
    due = live.due(str(second.run_id))
    assert due is not None
    assert before + 200_000 <= due <= live.now_us() + 200_000
    assert live.records("event")[-1]["outcome"] == "parked"
    assert live.redis.exists(keys.lock(str(second.run_id))) == 0
    # The slot comes back with the commit.
    assert live.store.commit(held, "c0", held.run, None, None, release=True) is None
    assert isinstance(live.store.claim(second, "t3", slot), Holding)


def test_exits_have_slots_of_their_own(live: LiveState) -> None:
    live.store.write_account(replace(ACCOUNT, limits={"entry_slots": 1, "exit_slots": 1}))
    first, second = _arm_two(live)
    assert isinstance(live.store.claim(first, "t1", Slot.ENTRY), Holding)
    assert isinstance(live.store.claim(second, "t2", Slot.EXIT), Holding)


def test_what_takes_no_slot_is_never_parked(live: LiveState) -> None:
    live.store.write_account(replace(ACCOUNT, limits={"entry_slots": 0, "exit_slots": 0}))
    live.arm()
    assert live.store.claim(BUY, "t1", Slot.ENTRY) is Refused.PARKED
    assert isinstance(live.store.claim(BUY, "t2", Slot.NONE), Holding)


def test_a_slot_nobody_gave_back_is_free_again_after_its_lease(live: LiveState) -> None:
    live.store.write_account(replace(ACCOUNT, limits={"entry_slots": 1}))
    first, second = _arm_two(live)
    assert isinstance(live.store.claim(first, "t1", Slot.ENTRY), Holding)
    live.redis.zadd("account:1:slots:entry", {str(first.run_id): live.now_us() - 1})
    assert isinstance(live.store.claim(second, "t2", Slot.ENTRY), Holding)


def test_an_extended_lease_keeps_lock_and_slot(live: LiveState) -> None:
    live.arm()
    held = live.claim(EventType.SELL, Slot.EXIT)
    before = live.now_us()
    live.store.extend(held, 15 * S)
    assert int(live.redis.pttl(keys.lock(RUN))) > 14_000
    slot = live.redis.zscore("account:1:slots:exit", RUN)
    assert slot is not None
    assert float(slot) >= before + 15_000_000


def test_a_lost_lease_cannot_be_extended(live: LiveState) -> None:
    live.arm()
    held = live.claim()
    live.lease_runs_out()
    with pytest.raises(LockLost):
        live.store.extend(held, S)


def test_a_run_last_held_under_another_epoch_is_not_believed_until_its_book_was_read(live: LiveState) -> None:
    live.arm()
    assert live.commit(live.claim()) is None
    live.redis.hset(keys.runtime(RUN), "epoch", EPOCH - 1)
    held = live.claim()
    assert held.run.dirty
    assert live.commit(held, replace(held.run, dirty=False)) is None
    assert not live.claim().run.dirty


def test_a_run_keeps_the_slot_of_whoever_holds_it_not_of_one_who_lost_it(live: LiveState) -> None:
    live.store.write_account(replace(ACCOUNT, limits={"entry_slots": 1, "exit_slots": 1}))
    first, second = _arm_two(live)
    held = live.store.claim(first, "t1", Slot.ENTRY)
    assert isinstance(held, Holding)
    live.store.extend(held, timedelta(seconds=15))
    live.lease_runs_out(str(first.run_id))
    held = live.store.claim(replace(first, type=EventType.STOPLOSS), "t2", Slot.EXIT)
    assert isinstance(held, Holding)
    live.store.extend(held, timedelta(seconds=15))
    assert live.store.claim(replace(second, type=EventType.SELL), "t3", Slot.EXIT) is Refused.PARKED
    assert isinstance(live.store.claim(second, "t4", Slot.ENTRY), Holding)
