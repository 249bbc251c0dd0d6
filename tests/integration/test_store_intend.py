"""intend: only the worker it answers "granted" may send an attempt, and an account never sends more than it may."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from engine import lifecycle
from engine.domain.account_positions import AccountReading
from engine.domain.broker import NetPosition
from engine.domain.events import EventType
from engine.domain.health import DeniedBy
from engine.domain.moment import Moment
from engine.domain.orders import Leg, Order, OrderStatus, Product
from engine.domain.run import Run
from engine.ports import BookTold, Denied, Holding, LockLost, Note, Slot
from engine.runtime import keys
from tests.builders import BUY_AT, DEPLOYMENT, PATIENCE, SYMBOL, S, entry, evidence, latch, run, strategy
from tests.livestate import ACCOUNT, RUN, LiveState, microseconds, run_id

INTENDED = Note("entry_intended", outcome="intended")
BOUGHT = entry(OrderStatus.FILLED, 10)
FIELD = "order:EE00000077BX01E001"


def _wanted(held: Holding, leg: Leg = Leg.ENTRY) -> tuple[Run, Order]:
    order = lifecycle.next_order(held.run, leg, 10, DEPLOYMENT, Moment(BUY_AT, datetime.now(UTC)), PATIENCE)
    return replace(held.run.with_order(order), entry_retry_at=None), order


def _intend(live: LiveState, held: Holding, leg: Leg = Leg.ENTRY, step: str = "i0") -> Denied | None:
    after, order = _wanted(held, leg)
    return live.store.intend(held, step, held.run, after, order, order.send_by + 5 * S, INTENDED)


def test_a_granted_attempt_is_stored_recorded_and_due_before_it_is_sent(live: LiveState) -> None:
    live.arm(run(entry_retry_at=datetime.now(UTC)), buying=False)
    held = live.claim(EventType.BUY, Slot.ENTRY)
    after, order = _wanted(held)
    assert live.store.intend(held, "i0", held.run, after, order, order.send_by + 5 * S, INTENDED) is None
    assert live.run() == after
    assert live.due() == microseconds(order.send_by + 5 * S)
    record = live.records()[-1]
    assert (record["kind"], record["outcome"]) == ("entry_intended", "intended")
    assert [each["client_order_id"] for each in record["orders"]] == [order.client_order_id]


def test_a_reading_of_the_book_that_began_before_a_grant_tells_its_run_nothing_whatever_clock_stamped_it(
    live: LiveState,
) -> None:
    live.arm(run(spec=strategy(id=8)))
    live.arm(buying=False)
    reader = live.claim(run_id=run_id(8))
    now = datetime.now(UTC)
    assert live.store.read_book(reader, now, now - S, now - S, "part", EventType.RETRY) is None
    held = live.claim(EventType.BUY, Slot.ENTRY)
    assert _intend(live, held) is None
    live.store.tell_book(reader, now + 60 * S, {})
    assert live.store.read_book(held, now, now - S, now - S, "part", EventType.RETRY) is None
    live.store.tell_book(held, now, {})
    assert isinstance(live.store.read_book(held, now, now - S, now - S, "part", EventType.RETRY), BookTold)


def test_the_lease_outlives_the_deadline_and_the_answer(live: LiveState) -> None:
    live.arm()
    held = live.claim(EventType.BUY, Slot.ENTRY)
    before = live.now_us()
    assert _intend(live, held) is None
    assert 5_000 < int(live.redis.pttl(keys.lock(RUN))) <= 7_000
    slot = live.redis.zscore("account:1:slots:entry", RUN)
    assert slot is not None
    assert float(slot) > before + 5_000_000


def test_a_repeat_of_the_same_step_gets_the_first_answer_and_changes_nothing(live: LiveState) -> None:
    live.store.write_account(replace(ACCOUNT, limits={"rate_day": 1}))
    live.arm()
    held = live.claim()
    after, order = _wanted(held)
    for _ in range(3):
        assert live.store.intend(held, "i0", held.run, after, order, order.send_by, INTENDED) is None
    assert len(live.records("entry_intended")) == 1


def test_one_attempt_is_granted_to_one_holder_only(live: LiveState) -> None:
    live.arm()
    first = live.claim()
    assert _intend(live, first) is None
    live.lease_runs_out()
    second = live.claim()
    # It read the run before the attempt was there, as a worker with an old reading would have.
    stale = replace(second, run=first.run)
    before = live.fields()
    with pytest.raises(LockLost, match="taken"):
        _intend(live, stale)
    assert live.fields() == before


def test_the_same_attempt_is_not_granted_to_another_step_of_its_holder(live: LiveState) -> None:
    live.arm()
    held = live.claim()
    assert _intend(live, held) is None
    with pytest.raises(LockLost, match="taken"):
        _intend(live, held, step="i1")


def test_a_holder_whose_lease_ran_out_is_granted_nothing(live: LiveState) -> None:
    live.arm()
    held = live.claim()
    before = live.fields()
    live.lease_runs_out()
    with pytest.raises(LockLost, match="lost"):
        _intend(live, held)
    assert live.fields() == before
    assert not live.records("entry_intended")


def test_what_a_step_learns_of_the_position_is_known_to_its_market_should_the_holder_die(live: LiveState) -> None:
    live.arm(buying=False)
    live.store.cover(1, AccountReading(BUY_AT, [NetPosition(SYMBOL, Product.INTRADAY, 10)]))
    held = live.claim()
    after, order = _wanted(replace(held, run=held.run.with_order(BOUGHT)), Leg.EXIT)
    assert live.store.intend(held, "i0", held.run, after, order, order.send_by, INTENDED) is None
    assert live.redis.smembers(keys.holding(ACCOUNT.market)) == {RUN}


def test_evidence_the_holder_has_absorbed_is_dropped_and_newer_evidence_stays(live: LiveState) -> None:
    armed = live.arm(run(BOUGHT))
    live.store.tell(armed.id, evidence(BOUGHT, OrderStatus.FILLED, 10), armed.buy_at)
    held = live.claim()
    late = evidence(BOUGHT, OrderStatus.FILLED, 11)
    live.store.tell(armed.id, late, armed.buy_at)
    assert _intend(live, held, Leg.EXIT) is None
    live.lease_runs_out()
    assert live.claim().evidence == (late,)


@pytest.mark.parametrize(
    ("leg", "latched", "armed"), [("entry", False, {RUN}), ("entry", True, {RUN}), ("exit", False, set())]
)
def test_an_entry_arms_the_stop_also_where_it_is_latched(
    live: LiveState, leg: str, latched: bool, armed: set[str]
) -> None:
    live.arm(run(*([BOUGHT] if leg == "exit" else []), latch=latch() if latched else None), buying=False)
    assert _intend(live, live.claim(), Leg(leg)) is None
    assert live.armed(SYMBOL) == armed


def test_a_latch_set_during_the_hold_is_not_written_over(live: LiveState) -> None:
    armed = live.arm(run(BOUGHT))
    held = live.claim()
    live.redis.hset(keys.runtime(RUN), mapping={"latch_price": "9400", "latch_time": "1", "latch_event": "sl:9"})
    assert _intend(live, held, Leg.EXIT) is None
    assert live.run().latch is not None
    assert armed.latch is None


def _exhaust(live: LiveState, leg: Leg, most: int) -> tuple[int, Denied | None]:
    """How many attempts of how many runs are granted one after the other, and the first denial."""
    for number in range(most):
        orders = [entry(OrderStatus.FILLED, 10)] if leg is Leg.EXIT else []
        live.arm(run(*orders, spec=strategy(id=100 + number)))
        if denied := _intend(live, live.claim(run_id=run_id(100 + number)), leg):
            return number, denied
    return most, None


@pytest.mark.parametrize(("window", "seconds"), [("minute", 60), ("day", 86_400)])
def test_a_used_up_window_denies_until_it_ends(live: LiveState, window: str, seconds: int) -> None:
    live.store.write_account(replace(ACCOUNT, limits={f"rate_{window}": 3}))
    granted, denied = _exhaust(live, Leg.ENTRY, 8)
    assert denied is not None
    assert (granted, denied.by) == (3, window) or granted > 3
    assert 0 < denied.retry_after.total_seconds() <= seconds


def test_a_second_counts_by_the_servers_calendar_second(live: LiveState) -> None:
    live.store.write_account(replace(ACCOUNT, limits={"rate_second": 2}))
    while live.now_us() % 1_000_000 > 500_000:
        pass
    granted, denied = _exhaust(live, Leg.ENTRY, 4)
    assert (granted, denied is not None and denied.by) == (2, "second")
    assert denied is not None
    assert denied.retry_after.total_seconds() <= 1


def test_a_reserve_is_kept_for_exits(live: LiveState) -> None:
    live.store.write_account(replace(ACCOUNT, limits={"rate_day": 5, "reserve_day": 2}))
    assert _exhaust(live, Leg.ENTRY, 8)[0] == 3
    live.arm(run(BOUGHT))
    assert _intend(live, live.claim(), Leg.EXIT) is None


@pytest.mark.parametrize(("ends_in", "denied"), [(-1, Denied(DeniedBy.TOKEN, timedelta(0))), (60, None)])
def test_a_token_past_its_end_buys_nothing_and_sells(live: LiveState, ends_in: int, denied: Denied | None) -> None:
    ends = datetime.now(UTC) + timedelta(seconds=ends_in)
    live.store.write_account(replace(ACCOUNT, token_ends=ends))
    live.arm()
    assert _intend(live, live.claim()) == denied
    live.arm(run(BOUGHT, spec=strategy(id=8)))
    assert _intend(live, live.claim(run_id=run_id(8)), Leg.EXIT) is None


def test_a_denial_changes_nothing_and_another_account_is_not_denied(live: LiveState) -> None:
    live.store.write_account(replace(ACCOUNT, limits={"rate_day": 0}))
    live.arm()
    before = live.fields()
    assert isinstance(_intend(live, live.claim()), Denied)
    assert live.fields() == before
    live.arm(run(spec=strategy(id=8, account_id=2, tenant="beta")))
    assert _intend(live, live.claim(run_id=run_id(8))) is None
    assert FIELD not in live.fields()
