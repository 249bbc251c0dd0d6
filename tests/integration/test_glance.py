"""A breach's message tells the run it found: its exit is granted without a claim if, and only if, that is still so."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from engine.clock import RealTime
from engine.domain.account_positions import AccountReading
from engine.domain.events import Event, EventType
from engine.domain.orders import Side
from engine.domain.ticks import Tick
from engine.ports import Slot, WakeUp
from engine.runtime import keys
from engine.runtime.store import RedisStore
from tests.builders import QUANTITY, STOP, SYMBOL, event, run, strategy
from tests.livestate import ACCOUNT, EPOCH, RUN, LiveState
from tests.world import World

QUEUE = "woken"
SOLD = [(Side.BUY, QUANTITY), (Side.SELL, QUANTITY)]


class Breached:
    """A run that holds and whose stop was breached, and the message that told a worker so."""

    def __init__(self, live: LiveState) -> None:
        live.store = RedisStore(live.client, live.epoch, RealTime().now, WakeUp(QUEUE, '["{event}", {reading}]'))
        self.live, self.world = live, World(live)
        self.world.buy()
        self.world.cover()
        self.world.clock.advance(5)
        self.world.breach(STOP)
        name, self.reading = json.loads(str(live.redis.rpop(QUEUE)))
        self.event = Event(name, EventType.STOPLOSS, run().id)

    def serve(self) -> str:
        return self.world.pipeline.process(self.event.as_wire(), self.reading)


@pytest.fixture
def breached(live: LiveState) -> Breached:
    return Breached(live)


def _nobody_may(*_: object, **__: object) -> None:
    raise AssertionError("it was asked for")


def _claims(monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    """The events that are claimed from now on."""
    claimed: list[Event] = []
    claim = RedisStore.claim

    def counted(store: RedisStore, event: Event, token: str, slot: Slot) -> object:
        claimed.append(event)
        return claim(store, event, token, slot)

    monkeypatch.setattr(RedisStore, "claim", counted)
    return claimed


def test_an_exit_needs_no_claim_where_nothing_has_changed(breached: Breached, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RedisStore, "claim", _nobody_may)
    assert breached.serve() == "submitted: accepted"
    assert breached.world.sides() == SOLD
    assert breached.world.outcomes(breached.event.id) == ["submitted: accepted"]
    # Given back, lock and slot.
    assert not breached.live.redis.exists(keys.lock(RUN), "account:1:slots:exit")


def _a_signal(breached: Breached) -> None:
    breached.live.store.signal(run().id, {}, datetime.now(UTC))


def _a_step(breached: Breached) -> None:
    held = breached.live.claim()
    breached.live.commit(held)


def _a_reading_of_the_holdings(breached: Breached) -> None:
    breached.live.store.cover(1, AccountReading(datetime.now(UTC), breached.world.broker.held(), []))


def _a_login(breached: Breached) -> None:
    breached.live.store.write_account(replace(ACCOUNT, version="v2"))


CHANGES = [_a_signal, _a_step, _a_reading_of_the_holdings, _a_login]


@pytest.mark.parametrize("change", CHANGES, ids=[change.__name__.strip("_") for change in CHANGES])
def test_whatever_has_changed_since_has_it_claimed(
    breached: Breached, change: Callable[[Breached], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    change(breached)
    claimed = _claims(monkeypatch)
    assert breached.serve() == "submitted: accepted"
    assert breached.world.sides() == SOLD
    assert len(claimed) == 1


def test_a_run_that_is_held_is_left_to_its_holder(breached: Breached) -> None:
    held = breached.live.claim()
    assert breached.serve() == "busy"
    assert breached.live.redis.get(keys.lock(RUN)) == held.token


def test_without_a_slot_the_run_is_parked_as_ever(breached: Breached) -> None:
    breached.live.store.write_account(replace(ACCOUNT, limits={"exit_slots": 0}))
    assert breached.serve() == "parked"
    assert not breached.live.redis.exists(keys.lock(RUN))


def test_a_repeat_of_the_message_sells_nothing_more(breached: Breached) -> None:
    assert [breached.serve(), breached.serve()][0] == "submitted: accepted"
    assert breached.world.sides() == SOLD


def test_a_run_of_another_epoch_is_not_believed(breached: Breached) -> None:
    breached.live.redis.hset(keys.runtime(RUN), "epoch", EPOCH - 1)
    # As after any loss, the book is asked first.
    assert breached.serve().startswith("book read")


def test_what_is_no_order_is_not_done_at_a_glance(live: LiveState, monkeypatch: pytest.MonkeyPatch) -> None:
    live.store = RedisStore(live.client, live.epoch, RealTime().now, WakeUp(QUEUE, "{reading}"))
    world = World(live)
    world.buy(quantity=0)
    world.breach(STOP)
    woken = event(EventType.STOPLOSS, "sl", run().id)
    reading = json.loads(str(live.redis.rpop(QUEUE)))
    claimed = _claims(monkeypatch)
    # Its entry that rests is taken back.
    assert world.pipeline.process(woken.as_wire(), reading) == "cancel: accepted"
    assert claimed == [woken]


@pytest.mark.parametrize(
    "reading",
    [
        "text",
        7,
        [],
        [[], [], "", 0],
        [["run"], [], "", 0],
        [[1, 2], [3, 4], "", 0],
        [["run", RUN], ["id", "x"], "v1", "none"],
        {"run": RUN},
    ],
)
def test_a_reading_that_cannot_be_read_is_none(breached: Breached, reading: Any) -> None:
    breached.reading = reading
    assert breached.serve() == "submitted: accepted"


def test_a_reading_of_another_run_is_none(breached: Breached) -> None:
    woken = event(EventType.STOPLOSS, "sl", replace(run().id, strategy_id=8))
    assert breached.live.store.glance(woken, "token", breached.reading) is None


def test_a_long_run_is_not_told(live: LiveState) -> None:
    live.store = RedisStore(live.client, live.epoch, RealTime().now, WakeUp(QUEUE, "{reading}"))
    live.arm()
    live.redis.hset(keys.runtime(RUN), mapping={f"evidence:{number}": "{}" for number in range(61)})
    live.store.on_tick(ACCOUNT.market, [Tick(SYMBOL, STOP, run().buy_at)], datetime.now(UTC), "sl")
    assert live.redis.rpop(QUEUE) == "null"


def test_a_run_that_cannot_be_read_keeps_back_no_other(live: LiveState) -> None:
    live.store = RedisStore(live.client, live.epoch, RealTime().now, WakeUp(QUEUE, "{run} {reading}"))
    for number in (7, 8, 9):
        live.arm(run(spec=strategy(id=number)))
    broken = replace(run().id, strategy_id=8)
    live.redis.hdel(keys.runtime(str(broken)), "account_id", "strategy_id")
    assert len(live.store.on_tick(ACCOUNT.market, [Tick(SYMBOL, STOP, run().buy_at)], datetime.now(UTC), "sl")) == 3
    told: Any = live.redis.lrange(QUEUE, 0, -1)
    assert [text.endswith(" null") for text in reversed(told)] == [False, True, False]


def test_a_slot_taken_so_is_the_exits(breached: Breached, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RedisStore, "commit", _nobody_may)
    with pytest.raises(AssertionError):
        breached.serve()
    assert breached.live.redis.zcard(f"account:1:slots:{Slot.EXIT}") == 1
    assert breached.live.redis.exists(keys.lock(RUN)) == 1
