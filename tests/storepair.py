"""The real store twice: every call goes to a server of its own and to the one in memory, and both must agree.

Time is the wall clock of both. What a call writes from it may differ by as long as the call took, and no more.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from engine.domain.account_positions import AccountReading
from engine.domain.broker import NetPosition
from engine.domain.events import EventType
from engine.domain.health import Heard
from engine.domain.orders import Evidence, Leg, Order, OrderStatus, Product
from engine.domain.routing import Alert
from engine.domain.run import SIDE_OF, Latch, Run, RunId, RunStatus, client_order_id
from engine.domain.ticks import Tick
from engine.ports import Breach, Denied, Glanced, Holding, LockLost, NoSlot, Note, Slot, Store, StoreClosed, WakeUp
from engine.runtime import codec, keys
from engine.runtime.store import RedisStore
from engine.simulation.livestate import LiveState as Memory
from tests.builders import BUY_AT, DAY, DEPLOYMENT, PATIENCE, event, run, strategy
from tests.livestate import ACCOUNT, EPOCH, LiveState, watched

SYMBOLS = ("NSE:SBIN", "NSE:INFY")
STOPS = (9500, 9500, 9400, 9600)
ACCOUNTS = (1, 1, 2, 1)
#: The runs there are, and one that is armed nowhere.
NUMBERS = range(1, len(STOPS) + 1)
STRANGER = 99
#: Rates are counted by the wall's second: an attempt this close to the next one waits for it, seconds.
EDGE = 0.05

_ENDED = (Glanced, LockLost, NoSlot, StoreClosed)
#: What a breach sends: only what it tells of its run.
_WOKEN = WakeUp("woken", "{reading}")
#: What two equal runs of the pair's first step may differ by: when a first fill latched them.
_FIRST_FILL = "first-fill-"


class Pair:
    """A live state and a memory, both open under one epoch. Each method is one step of a sequence."""

    def __init__(self, live: LiveState) -> None:
        self.live, self.started = live, datetime.now(UTC)
        self.memory = Memory(lambda: datetime.now(UTC))
        #: How long the longest call took, microseconds: how far times may be apart.
        self.slack = 0
        self.epoch_n = EPOCH
        self._held: dict[tuple[int, str], tuple[Holding, Holding]] = {}
        self._last: Callable[[], None] = lambda: None
        live.redis.flushall()
        live.store = RedisStore(live.client, live.epoch, lambda: datetime.now(UTC), _WOKEN)
        self.reopen()
        for number in set(ACCOUNTS):
            self.write_account(number, {})
        for number in NUMBERS:
            self.arm(number, 10, buying=True, latched=False)
        # Symbols are watched, and accounts have enough of them for every exit.
        for feeds in (self.live.store, self.memory):
            feeds.carry(ACCOUNT.market, "listener", 1, [(timedelta(days=-1), SYMBOLS)])
        for number in set(ACCOUNTS):
            self.cover(number, {0: 1000, 1: 1000}, 0)

    def at(self, seconds: float) -> datetime:
        """A moment of this sequence."""
        return self.started + timedelta(seconds=seconds)

    # The steps.

    def arm(self, number: int, due: int, *, buying: bool, latched: bool) -> None:
        what = run_of(number)
        if latched:
            what = replace(what, latch=Latch(STOPS[number - 1], BUY_AT, "sl:before"))
        self._both(lambda store, _: store.arm(what, self.at(due), buying=buying))

    def claim(self, number: int, token: str, slot: Slot) -> None:
        wanted = event(EventType.RETRY, f"e-{token}", run_id(number))
        mine, real = self._both(lambda store, _: store.claim(wanted, token, slot))
        self._keep(number, token, mine, real)

    def extend(self, holder: int, seconds: int) -> None:
        self._with(holder, lambda store, held: store.extend(held, timedelta(seconds=seconds)))

    def intend(self, holder: int, leg: Leg, attempt: int, due: int) -> None:
        def call(store: Store, held: Holding) -> Denied | None:
            order = order_of(held.run.id, leg, attempt, self.at(5))
            after = held.run.with_order(order)
            return store.intend(held, f"i{attempt}", held.run, after, order, self.at(due), Note("submitted"))

        _leave_edge()
        self._with(holder, call)

    def heard(self, account: int, version: str, what: Heard, leg: Leg, pause: int | None) -> Any:
        after = None if pause is None else timedelta(seconds=pause)
        _leave_edge()
        return self._both(lambda store, _: store.heard(account, version, what, leg, after))

    def commit(
        self,
        holder: int,
        step: int,
        change: str,
        due: int | None,
        *,
        release: bool,
        first_fill: int | None,
        finished: bool,
    ) -> None:
        note = None if change == "nothing" else Note("changed", event_id="e", outcome=change)

        def call(store: Store, held: Holding) -> Holding | None:
            return store.commit(
                held, f"c{step}", CHANGES[change](held.run), None if due is None else self.at(due), note,
                release=release, first_fill=None if first_fill is None else BUY_AT + timedelta(seconds=first_fill),
                finished=finished,
            )  # fmt: skip

        self._with(holder, call)

    def again(self) -> None:
        """The last step of a holder once more, as after a lost reply."""
        self._last()

    def signal(self, number: int, fields: dict[str, str], due: int) -> Any:
        return self._both(lambda store, _: store.signal(run_id(number), fields, self.at(due)))

    def tell(self, number: int, filled: int, due: int) -> Any:
        told = Evidence(
            client_order_id(DEPLOYMENT, run_id(number), Leg.ENTRY, 1), "B1",
            OrderStatus.PARTIALLY_FILLED, 10, filled, Decimal(100), BUY_AT,
        )  # fmt: skip
        return self._both(lambda store, _: store.tell(run_id(number), told, self.at(due)))

    def on_tick(self, ticks: Sequence[tuple[int, int, int | None]]) -> Any:
        frame = [
            Tick(SYMBOLS[symbol], price, None if second is None else BUY_AT + timedelta(seconds=second))
            for symbol, price, second in ticks
        ]
        answers = self._both(lambda store, _: store.on_tick(ACCOUNT.market, frame, self.started, "sl:x"))
        if isinstance(answers[0], list):
            self._glance_at(answers[0])
        return answers

    def _glance_at(self, breaches: Sequence[Breach]) -> None:
        """What the messages tell is read alike; from now on each is a holder that has no lock."""
        told: Any = self.live.redis.lrange(_WOKEN.queue, 0, -1)
        self.live.redis.delete(_WOKEN.queue)
        assert len(told) == len(breaches)
        for breach, text in zip(breaches, reversed(told), strict=True):
            number, readings = breach.run_id.strategy_id, (breach.reading, json.loads(text))
            woken = event(EventType.STOPLOSS, breach.event_id, breach.run_id)
            mine, real = self._both(lambda store, side: store.glance(woken, "glance", readings[side]))  # noqa: B023
            self._keep(number, "glance", mine, real)

    def sweep(self, limit: int) -> None:
        self._both(lambda store, _: store.sweep(limit))

    def dead_letter(self, reason: str, payload: str) -> None:
        self._both(lambda store, _: store.dead_letter("test", reason, payload))

    def note(self, number: int, token: str) -> None:
        wanted = event(EventType.STOPLOSS, f"e-{token}", run_id(number))
        self._both(lambda store, _: store.note(wanted, "lock_lost"))

    def cover(self, account: int, held: dict[int, int], second: int) -> None:
        positions = [NetPosition(SYMBOLS[symbol], Product.INTRADAY, units) for symbol, units in held.items()]
        positions.append(NetPosition(SYMBOLS[0], Product.DELIVERY, 77))
        self._both(lambda store, _: store.cover(account, AccountReading(BUY_AT + timedelta(seconds=second), positions)))

    def prolong(self, number: int, hours: int, due: int) -> None:
        self._both(lambda store, _: store.prolong(run_id(number), BUY_AT + timedelta(hours=hours), self.at(due)))

    def alert(self, code: str) -> None:
        self._both(lambda store, _: store.alert("tenant", Alert("critical", code, "message")))

    def write_account(self, number: int, limits: dict[str, int]) -> None:
        account = replace(ACCOUNT, id=number, limits=limits, version=f"v{len(limits)}")
        self.live.store.write_account(account)
        self.memory.write_account(account)

    def account(self, number: int) -> None:
        self._both(lambda store, _: store.account(number))

    def fall_due(self, number: int, seconds: int) -> None:
        """Let the run have been due for so long."""
        name, at = str(run_id(number)), codec.to_us(self.at(-seconds))
        for redis in (self.memory.client, self.live.redis):
            redis.zadd(keys.DUE, {name: at}, xx=True)

    def lease_runs_out(self, number: int) -> None:
        """What time does to a lock: it is gone on both sides."""
        name = str(run_id(number))
        for redis in (self.memory.client, self.live.redis):
            redis.delete(keys.lock(name))

    def outage(self, *, lost: bool) -> None:
        """The epoch is gone, and everything else too if `lost`: nobody gets in until it is opened again."""
        for redis in (self.memory.client, self.live.redis):
            if lost:
                redis.flushall()
            else:
                redis.delete(keys.EPOCH)
        self.claim(1, "shut out", Slot.NONE)
        self.signal(1, {"dirty": "1"}, 10)
        self.on_tick([(0, 1, 1)])
        self.sweep(1)
        self.dead_letter("shut", "out")
        self.again()
        self.reopen()

    def reopen(self) -> None:
        """Under the next epoch, the feed alive."""
        for redis in (self.live.redis, self.memory.client):
            watched(redis, ACCOUNT.market, *SYMBOLS)
        self.epoch_n += 1
        self.memory.open(self.epoch_n)
        self.live.epoch.open(self.epoch_n)

    # The comparison.

    def check(self) -> None:
        """Everything that can be read is the same on both sides."""
        mine, real = state_of(self.memory.client), state_of(self.live.redis)
        for part, expected in real.items():
            found = mine[part]
            if part in {"due", "leases", "slots"}:
                self._assert_near(part, found, expected)
            else:
                assert found == expected, part

    def _assert_near(self, part: str, mine: dict[Any, int], real: dict[Any, int]) -> None:
        assert list(mine) == list(real), part
        # Redis keeps leases in ms.
        apart = {name: (mine[name], real[name]) for name in real if abs(mine[name] - real[name]) > self.slack + 2_000}
        assert apart == {}, part

    def _both(self, call: Callable[[Store, int], object]) -> tuple[object, object]:
        """One call on each side, at one time; what they answer must be the same."""
        began = datetime.now(UTC)
        mine = _outcome(lambda: call(self.memory, 0))
        real = _outcome(lambda: call(self.live.store, 1))
        took = datetime.now(UTC) - began
        self.slack = max(self.slack, took // timedelta(microseconds=1))
        if isinstance(mine, Denied) and isinstance(real, Denied):
            # A pause began by each side's own clock, in an earlier call.
            assert abs(mine.retry_after - real.retry_after) <= took + timedelta(microseconds=self.slack)
            assert mine.by == real.by
        else:
            assert _plain(mine) == _plain(real)
        return mine, real

    def _with(self, holder: int, call: Callable[[Store, Holding], object]) -> None:
        """A step of one of those who ever held a run; most have let go of it, or lost it."""
        if not self._held:
            return
        key = list(self._held)[-1 - holder % len(self._held)]
        held = self._held[key]

        def step() -> None:
            self._keep(*key, *self._both(lambda store, side: call(store, held[side])))

        self._last = step
        step()

    def _keep(self, number: int, token: str, mine: object, real: object) -> None:
        if isinstance(mine, Holding) and isinstance(real, Holding):
            # The newest last: the steps count from the end.
            self._held.pop((number, token), None)
            self._held[number, token] = (mine, real)


def _leave_edge() -> None:
    left = 1.0 - time.time() % 1.0
    if left < EDGE:
        time.sleep(left)


def run_id(number: int) -> RunId:
    return RunId(number, DAY)


def run_of(number: int) -> Run:
    spec = strategy(id=number, symbol=SYMBOLS[number // 4], account_id=ACCOUNTS[number - 1])
    return run(spec=spec, stop_units=STOPS[number - 1])


def order_of(owner: RunId, leg: Leg, attempt: int, send_by: datetime) -> Order:
    name = client_order_id(DEPLOYMENT, owner, leg, attempt)
    return Order(name, leg, SIDE_OF[leg], attempt, 10, OrderStatus.SENDING, send_by, send_by + PATIENCE)


def _filled(what: Run) -> Run:
    entry = what.last_order(Leg.ENTRY)
    full = entry and replace(entry, status=OrderStatus.FILLED, filled_quantity=10, broker_order_id="B1")
    return what.with_order(full) if full else what


#: What a commit can make of a run.
CHANGES: dict[str, Callable[[Run], Run]] = {
    "nothing": lambda what: what,
    "fails": lambda what: replace(what, status=RunStatus.FAILED, failure="unsafe", abort_requested=""),
    "waits": lambda what: replace(what, entry_retry_at=BUY_AT),
    "waits no more": lambda what: replace(what, entry_retry_at=None),
    "asks the book": lambda what: replace(what, dirty=False, book_asked_at=BUY_AT),
    "fills": _filled,
}


def _outcome(call: Callable[[], object]) -> object:
    try:
        return call()
    except _ENDED as error:
        return type(error)


def _plain(answer: object) -> object:
    """An answer with what may differ left out: the order of evidence, when a first fill latched, why it failed."""
    match answer:
        case Holding():
            evidence = sorted(answer.evidence, key=lambda item: (item.client_order_id, item.filled_quantity))
            return replace(
                answer, run=_timeless(answer.run), evidence=tuple(evidence), consumed=tuple(sorted(answer.consumed))
            )
        case Run():
            return _timeless(answer)
        case list() | tuple():
            return [_plain(item) for item in answer]
    return answer


def _timeless(what: Run) -> Run:
    """A run without the moments each store took from its own clock."""
    if what.latch is None:
        return what
    seen_at = None if what.latch.event_id.startswith(_FIRST_FILL) else what.latch.seen_at
    return replace(what, latch=replace(what.latch, seen_at=seen_at, latched_at=None))


def state_of(redis: Any) -> dict[str, Any]:
    """Everything a server holds that an engine can read."""
    names: list[str] = sorted(redis.keys("*"))

    def under(prefix: str, suffix: str = "") -> dict[str, str]:
        found = [name for name in names if name.startswith(prefix) and name.endswith(suffix)]
        return {name[len(prefix) : len(name) - len(suffix)]: name for name in found}

    locks = under("lock_state:")
    return {
        "runtimes": {run: _settled(redis.hgetall(name)) for run, name in under("runtime:").items()},
        "tombstones": {run: redis.hgetall(name) for run, name in under("tombstone:").items()},
        "locks": {run: redis.get(name) for run, name in locks.items()},
        "armed": {
            symbol: {run: int(score) for run, score in redis.zrange(name, 0, -1, withscores=True)}
            for symbol, name in under(f"symbol:{ACCOUNT.market}:", ":strategies").items()
        },
        "latched": {symbol: redis.smembers(name) for symbol, name in under(f"latched:{ACCOUNT.market}:").items()},
        "prices": {
            symbol: tuple(int(value) for value in redis.hmget(name, "price", "time"))
            for symbol, name in under(f"price:{ACCOUNT.market}:").items()
        },
        "due": {run: int(score) for run, score in redis.zrange(keys.DUE, 0, -1, withscores=True)},
        "leases": {run: redis.pexpiretime(name) * 1000 for run, name in locks.items()},
        "slots": {
            (int(name.split(":")[1]), name.split(":")[3], run): int(score)
            for name in names
            if ":slots:" in name
            for run, score in sorted(redis.zrange(name, 0, -1, withscores=True))
        },
        "ledger": [
            (fields["run"], fields["epoch"], fields["seq"], bool(fields["repeated"]), _body(fields["body"]))
            for _, fields in redis.xrange(keys.LEDGER)
        ],
        "events": {run: redis.smembers(name) for run, name in under("events:").items()},
    }


def _settled(fields: dict[str, str]) -> dict[str, str]:
    """A run's fields but for when it was latched, and for when a first fill was seen to do so."""
    timed = {"latch_at", *(["latch_seen_at"] if fields.get("latch_event", "").startswith(_FIRST_FILL) else ())}
    return {name: value for name, value in fields.items() if name not in timed}


def _body(text: str) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(text)
    if latch := body.get("latch"):
        del latch["latched_at"]
        if latch["event"].startswith(_FIRST_FILL):
            del latch["seen_at"]
    return body
