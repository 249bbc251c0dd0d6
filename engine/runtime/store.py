"""The live state behind the `Store` port: one Lua script a step, under one epoch.

Every script is given the epoch and may be repeated after a lost reply; nothing here decides anything.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from functools import partial
from importlib import resources
from typing import Any

from redis.client import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from engine.domain.account_positions import AccountReading, PoolChange, pool_change, pool_key
from engine.domain.broker import BookEntry
from engine.domain.events import Event, EventType
from engine.domain.health import EXIT_PROBE_US, OPENS_AFTER, PAUSE_US, Change, DeniedBy, Health, Heard
from engine.domain.orders import Evidence, Leg, Order
from engine.domain.routing import Alert
from engine.domain.run import NetSeen, Run, RunId
from engine.domain.schedule import Times
from engine.domain.ticks import Tick
from engine.ports import (
    NO_WAKE_UP,
    AccountState,
    Armed,
    BookTold,
    BookWaits,
    Breach,
    CorruptState,
    Denied,
    Ended,
    Glanced,
    Holding,
    LockLost,
    NoSlot,
    Note,
    Refused,
    Slot,
    StoreClosed,
    StoreFault,
    WakeUp,
)
from engine.runtime import codec, keys
from engine.runtime.epoch import EpochGuard
from engine.runtime.feeds import Feeds
from engine.runtime.readings import ended_of, glanced, holding_of, may_hold, pairs
from engine.runtime.records import alert_object, as_json, record_body
from engine.runtime.scripts import Scripts, is_fault

#: How long a claim holds a run, ms; `intend` extends it past the order's deadline.
LEASE_MS = 1000
#: Beyond `send_by`: the socket timeout of an order call and a margin, ms.
LEASE_MARGIN_MS = 5000
#: How long a parked event waits before the sweeper looks again, us.
PARKED_US = 200_000
#: Longest backoff between two nudges of one run, us.
LONGEST_NUDGE_US = 30_000_000
#: How long the sweeper leaves a due run to the timer, the listener or the order stream, us.
SWEEP_SLACK_US = 500_000
#: How long a tombstone outlives its run, ms: past the longest session and the drain behind it.
TOMBSTONE_MS = 20 * 3600 * 1000
#: How long a reader has its account's book to itself: past that it may be dead, and an exit waits.
READS_WITHIN = timedelta(seconds=4)
#: How long it is remembered that something was told, ms.
TOLD_MS = 2 * 24 * 3600 * 1000
#: How often a script whose reply was lost is repeated; scripts answer a repeat with their first reply.
REPEATS = 2

_SCRIPTS = (
    "claim", "extend", "intend", "commit", "signal", "on_tick", "sweep", "arm", "note", "cover", "tell",
    "heard", "account", "carry", "watch", "looked", "traded", "read_book", "tell_book",
)  # fmt: skip

#: Fields of an account's hash: those that begin so are numbers, and these are texts.
_LIMITS = ("rate_", "reserve_", "entry_slots", "exit_slots", "update_slots")
_ACCOUNT_TEXTS = ("tenant", "name", "broker", "base_url", "ws_url", "secrets", "version")


def load_scripts() -> dict[str, str]:
    """Each script's source under its name, behind the shared prelude."""
    folder = resources.files("engine.runtime").joinpath("lua")
    prelude = folder.joinpath("_prelude.lua").read_text()
    return {name: prelude + folder.joinpath(f"{name}.lua").read_text() for name in _SCRIPTS}


def _pool_json(change: PoolChange) -> str:
    """A change of an account's pool as the scripts take it."""
    fills = [
        [o.client_order_id, o.filled_quantity, 1 if o.leg is Leg.ENTRY else -1, "1" if o.has_ended else "0"]
        for o in change.fills
    ]
    return as_json(
        {
            "key": change.key,
            "net": change.net,
            "held": change.held,
            "out": change.out,
            "fills": fills,
            "past": change.past,
            "bought": change.bought if change.bought_at else 0,
            "bought_at": codec.to_us(change.bought_at) if change.bought_at else 0,
        }
    )


class RedisStore(Feeds):
    """The `Store` port on one Redis or Valkey primary."""

    def __init__(
        self, redis: "Redis", epoch: EpochGuard, now: Callable[[], datetime], wake_up: WakeUp = NO_WAKE_UP
    ) -> None:
        """`now`: this process's real time, by which leases end and `due` is told. `wake_up`: what a breach sends."""
        self._redis = redis
        self._epoch = epoch
        self._now = now
        self._wake_up = wake_up
        self._scripts = Scripts(redis, load_scripts())
        #: Closes the connections of the scripts; one that is in use is not among them.
        self.close = self._scripts.close

    def claim(self, event: Event, token: str, slot: Slot) -> Holding | Refused:
        run = str(event.run_id)
        names = [keys.lock(run), keys.runtime(run), keys.tombstone(run), keys.DUE]
        parked_until = self._now_us() + PARKED_US
        reply = self._call("claim", names, [token, LEASE_MS, run, event.id, event.type.value, slot.value, parked_until])
        if reply[0] != "held":
            return Refused(reply[0])
        return holding_of(token, pairs(reply[1]), pairs(reply[2]), reply[3], is_troubled=int(reply[4]) > 0)

    def glance(self, event: Event, token: str, reading: object) -> Holding | None:
        return glanced(event, token, reading)

    def extend(self, holding: Holding, lease: timedelta) -> None:
        run = str(holding.run.id)
        lease_ms = lease // timedelta(milliseconds=1)
        reply = self._call("extend", [keys.lock(run), keys.runtime(run)], [holding.token, lease_ms, run])
        if reply == "full":
            raise NoSlot(run)
        if reply == "lost":
            raise LockLost(f"run {run}: the lease ran out before it was extended")

    def intend(
        self, holding: Holding, step: str, before: Run, after: Run, order: Order, due: datetime, note: Note
    ) -> Denied | None:
        run = str(after.id)
        lease = (codec.to_us(order.send_by) - self._now_us()) // 1000 + LEASE_MARGIN_MS
        entry = order.side == "buy"
        changed = codec.changes(before, after, holding.consumed)
        changed["set"].pop(f"order:{order.client_order_id}", None)
        reply = self._call(
            "intend",
            [keys.lock(run), keys.runtime(run), keys.DUE],
            [
                holding.token,
                step,
                run,
                order.client_order_id,
                codec.order_to_json(order),
                max(lease, LEASE_MS),
                as_json(changed),
                codec.to_us(due),
                Slot.ENTRY if entry else Slot.EXIT,
                record_body(before, after, note),
                after.strategy.symbol if entry else "",
                OPENS_AFTER,
                PAUSE_US,
                holding.glanced_at,
                order.quantity,
                _pool_json(pool_change(before, after, market_time=note.market_time)),
                EXIT_PROBE_US,
            ],
        )
        match reply[0]:
            case "granted":
                return None
            case "denied":
                by, amount = DeniedBy(reply[1]), int(reply[2])
                if by is DeniedBy.COVER:
                    return Denied(by, timedelta(0), amount)
                return Denied(by, timedelta(microseconds=amount))
            case "full":
                raise NoSlot(run)
            case "lost" if holding.glanced_at:
                raise Glanced(run)
            case _:
                raise LockLost(f"run {run}: attempt {order.client_order_id} was {reply[0]}")

    def read_book(
        self, holding: Holding, now: datetime, since: datetime, never_before: datetime, part: str, kind: EventType
    ) -> BookTold | BookWaits | None:
        run, account = str(holding.run.id), holding.run.strategy.account_id
        names = [keys.runtime(run), keys.reading(account), keys.book(account), keys.awaits(account)]
        times = [codec.to_us(at) for at in (since, now, now + READS_WITHIN)]
        arguments = [holding.token, run, *times, part, kind.value, codec.to_us(never_before)]
        reply = self._call("read_book", names, arguments)
        match reply[0]:
            case "told":
                return BookTold(codec.from_us(reply[1]), codec.entries_from_json(reply[2]))
            case "waits":
                return BookWaits(failed=reply[1] == "1")
            case _:
                return None

    def tell_book(
        self, holding: Holding, at: datetime | None, parts: Mapping[str, Sequence[BookEntry]]
    ) -> Sequence[Event]:
        account = holding.run.strategy.account_id
        names = [keys.reading(account), keys.book(account), keys.awaits(account)]
        told = {part: codec.entries_to_json(entries) for part, entries in parts.items()}
        asked = "" if at is None else codec.to_us(at)
        reply = self._call("tell_book", names, [holding.token, asked, as_json(told)])
        return [
            Event(f"book:{run}:{asked}", EventType(kind), RunId.parse(run))
            for run, kind in zip(reply[0::2], reply[1::2], strict=True)
        ]

    def commit(
        self,
        holding: Holding,
        step: str,
        after: Run,
        due: datetime | None,
        note: Note | None,
        *,
        release: bool,
        first_fill: datetime | None = None,
        finished: bool = False,
        unsent: bool = False,
    ) -> Holding | None:
        run = str(after.id)
        reply = self._call(
            "commit",
            [keys.lock(run), keys.runtime(run), keys.DUE, keys.tombstone(run)],
            [
                holding.token,
                step,
                run,
                holding.signal_seq,
                "1" if release else "0",
                LEASE_MS,
                as_json(codec.changes(holding.run, after, holding.consumed)),
                "" if due is None else codec.to_us(due),
                record_body(holding.run, after, note) if note else "",
                "" if first_fill is None else codec.to_us(first_fill),
                TOMBSTONE_MS if finished else "",
                note.event_id if note else "",
                "1" if note and note.tells_only_of_its_event(holding.run, after) else "",
                _pool_json(
                    pool_change(holding.run, after, finished=finished, market_time=note.market_time if note else None)
                ),
                "1" if unsent else "",
                "1" if after.attempts(Leg.ENTRY) > holding.run.attempts(Leg.ENTRY) else "",
                "" if (granted_at := after.granted_at) is None else codec.to_us(granted_at),
            ],
        )
        if reply[0] == "lost":
            raise LockLost(f"run {run}: the lease ran out before step {step} was committed")
        if reply[0] == "released":
            return None
        strategy = codec.strategy_to_fields(after.strategy)
        return holding_of(
            holding.token, pairs(reply[1]), strategy, holding.account_version, is_troubled=holding.is_troubled
        )

    def signal(self, run_id: RunId, fields: Mapping[str, str], due: datetime) -> str:
        return self._signal(run_id, fields, due)

    def tell(self, run_id: RunId, evidence: Evidence, due: datetime) -> str:
        told = {codec.evidence_field(evidence): codec.evidence_to_json(evidence)}
        return self._signal(run_id, told, due, evidence="1")

    def prolong(self, run_id: RunId, closes_at: datetime, due: datetime) -> str:
        return self._signal(run_id, {"closes_at": str(codec.to_us(closes_at))}, due)

    def reschedule(self, run_id: RunId, times: Times, due: datetime) -> str:
        """Give a run other times and have it looked at; answers as `signal`."""
        fields = {name: str(codec.to_us(at)) for name, at in asdict(times).items()}
        return self._signal(run_id, fields, due)

    def _signal(self, run_id: RunId, fields: Mapping[str, str], due: datetime, evidence: str = "") -> str:
        run = str(run_id)
        names = [keys.runtime(run), keys.DUE, keys.tombstone(run)]
        changes = as_json({"set": dict(fields)})
        answer: str = self._call("signal", names, [run, changes, codec.to_us(due), evidence])
        return answer

    def account_of(self, run_id: RunId) -> int | None:
        stored = self._ask(partial(self._redis.hget, keys.runtime(str(run_id)), "account_id"))
        return int(stored) if stored else None

    def remains(self, run_id: RunId) -> Ended | None:
        stone = self._ask(partial(self._redis.hgetall, keys.tombstone(str(run_id))))
        return ended_of(stone) if "account_id" in stone else None

    def on_tick(self, market: str, ticks: Sequence[Tick], seen_at: datetime, prefix: str) -> Sequence[Breach]:
        flat: list[Any] = [codec.to_us(seen_at), prefix, self._wake_up.text, self._now_us(), market]
        for tick in ticks:
            if tick.exchange_time is not None:
                traded_at = "" if tick.traded_at is None else codec.to_us(tick.traded_at)
                flat += (tick.symbol, tick.price, codec.to_us(tick.exchange_time), traded_at)
        reply = self._call("on_tick", [keys.DUE, self._wake_up.queue], flat)
        triples = zip(reply[0::3], reply[1::3], reply[2::3], strict=True)
        return [Breach(RunId.parse(run), int(price), event_id) for run, price, event_id in triples]

    def sweep(self, limit: int) -> Sequence[tuple[Run, int]]:
        swept = self._call("sweep", [keys.DUE], [limit, LONGEST_NUDGE_US, SWEEP_SLACK_US, self._now_us()])
        found: list[tuple[Run, int]] = []
        for name, runtime, strategy, nudges in swept:
            try:
                spec = codec.strategy_from_fields(pairs(strategy))
                found.append((codec.run_from_fields(pairs(runtime), spec), int(nudges)))
            except CorruptState as error:
                # One run that cannot be read must not keep the others waiting; it is told once.
                if int(nudges) == 1:
                    self.dead_letter("sweep", str(error), name)
                self.unreadable(name, str(error))
        return found

    def unreadable(self, run: str, reason: str) -> None:
        stored = self._ask(partial(self._redis.hgetall, keys.runtime(run)))
        if may_hold(stored):
            message = f"run {run} may hold something and cannot be read, so that nothing sells it: {reason[:200]}"
            alert = Alert("critical", "state_unreadable", f"{message}. Look at the account, and sell by hand")
            self.alert_once(stored.get("tenant", ""), alert, f"state_unreadable:{run}")

    def arm(self, run: Run, due: datetime, *, buying: bool) -> Armed:
        name, strategy_id = str(run.id), run.id.strategy_id
        state = codec.run_to_fields(run) | {"signal_seq": "0"}
        reply = self._call(
            "arm",
            [
                keys.runtime(name),
                keys.tombstone(name),
                keys.strategy(strategy_id),
                keys.DUE,
                keys.runs_of(strategy_id),
            ],
            [
                name,
                as_json(state),
                as_json(codec.strategy_to_fields(run.strategy)),
                codec.to_us(due),
                run.strategy.symbol,
                record_body(run, run, Note("armed")),
                "1" if buying else "",
                _pool_json(pool_change(None, run)),
                "" if (since := run.held_since) is None else codec.to_us(since),
                "1" if run.filled(Leg.ENTRY) else "",
                "" if (granted_at := run.granted_at) is None else codec.to_us(granted_at),
            ],
        )
        return Armed(reply)

    def note(self, event: Event, outcome: str) -> None:
        self._call("note", [], [str(event.run_id), event.id, event.type.value, outcome])

    def pool_mark(self, account_id: int) -> str:
        epoch = self._epoch.current()
        changes: str | None = self._ask(partial(self._redis.hget, keys.pool(account_id), "changes"))
        return f"{epoch} {changes or 0}"

    def cover(self, account_id: int, reading: AccountReading, of: Run | None = None) -> NetSeen | None:
        orders = reading.orders
        told = {
            "positions": [[pool_key(each.symbol, each.product), each.quantity] for each in reading.positions],
            "orders": [
                [o.client_order_id, o.before, o.after, str(int(o.is_over)), o.after if o.at_most is None else o.at_most]
                for o in orders or ()
            ],
            "is_book_read": orders is not None,
            "keep": [pool_key(each.symbol, each.product) for each in reading.positions if each.unread],
        }
        names = [
            keys.account(account_id),
            keys.held(account_id),
            keys.pool(account_id),
            keys.fills(account_id),
            keys.DUE,
        ]
        key = pool_key(of.strategy.symbol, of.strategy.product) if of else ""
        arguments = [codec.to_us(reading.at), as_json(told), key, self._now_us(), reading.begun or ""]
        reply = self._call("cover", names, [*arguments, str(of.id) if of else ""])
        return NetSeen(int(reply[0]), codec.from_us(reply[2]), int(reply[1]), int(reply[3])) if reply else None

    def alert(self, tenant: str, alert: Alert) -> None:
        self._tell({"kind": "alert", "alerts": [alert_object(alert)]}, tenant)

    def alert_once(self, tenant: str, alert: Alert, name: str) -> bool:
        return self._tell({"kind": "alert", "alerts": [alert_object(alert)]}, tenant, name)

    def dead_letter(self, source: str, reason: str, payload: str) -> None:
        body = {"kind": "dead_letter", "source": source, "reason": reason[:500], "payload": payload[:2000]}
        self._tell(body, "")

    def _tell(self, body: Mapping[str, Any], tenant: str, once: str = "") -> bool:
        return bool(self._call("tell", [], [as_json(body), tenant, once, TOLD_MS]))

    def first_trade(self, account_id: int) -> datetime | None:
        """When the first of an account's live runs buys or bought, market time; None where it has none."""

        def ask() -> list[str | None]:
            with self._redis.pipeline(transaction=False) as pipe:
                for run in self._redis.smembers(keys.account_runs(account_id)):
                    pipe.hget(keys.runtime(str(run)), "buy_at")
                return list(pipe.execute())

        times: list[str | None] = self._ask(ask)
        return min((codec.from_us(each) for each in times if each is not None), default=None)

    def account(self, account_id: int) -> AccountState | None:
        stored = self._ask(partial(self._redis.hgetall, keys.account(account_id)))
        if not stored:
            return None
        limits = {name: int(value) for name, value in stored.items() if name.startswith(_LIMITS)}
        texts = {name: stored[name] for name in _ACCOUNT_TEXTS}
        ends = stored.get("token_ends")
        return AccountState(id=account_id, limits=limits, token_ends=codec.from_us(ends) if ends else None, **texts)

    def heard(
        self, account_id: int, version: str, heard: Heard, leg: Leg, retry_after: timedelta | None
    ) -> Sequence[Change]:
        pause = "" if retry_after is None else retry_after // timedelta(microseconds=1)
        names = [keys.account(account_id), keys.health(account_id)]
        changes = self._call("heard", names, [version, heard.value, leg.value, pause, OPENS_AFTER, PAUSE_US])
        return [Change(each) for each in changes]

    def health(self, account_id: int) -> Health:
        """What is known of an account's line to its broker, for people."""
        stored = self._ask(partial(self._redis.hgetall, keys.health(account_id)))
        numbers = {name: int(text) for name, text in stored.items() if name != "dead_version"}
        return Health(**numbers, dead_version=stored.get("dead_version", ""))

    def write_account(self, account: AccountState) -> None:
        """Put what an order needs to know of an account where workers read it."""
        details: dict[str, Any] = {name: getattr(account, name) for name in (*_ACCOUNT_TEXTS, "market")}
        details |= account.limits
        if account.token_ends is not None:
            # As text: a script's number has not this many digits.
            details["token_ends"] = str(codec.to_us(account.token_ends))
        names = [keys.account(account.id), keys.account_runs(account.id), keys.ACCOUNTS, keys.DUE]
        self._call("account", names, [account.id, as_json(details)])

    def forget_runs(self) -> None:
        """Drop every live run, but not the tombstones of those that ended; only while the store is closed."""
        for pattern in keys.OF_RUNS:
            names = self._ask(partial(self._redis.keys, pattern))
            if names:
                self._ask(partial(self._redis.unlink, *names))

    def follow(self, symbols: Collection[tuple[str, str]]) -> None:
        """Have listeners follow these symbols, each with its market first; also while the store is closed."""
        for market, symbol in symbols:
            self._ask(partial(self._redis.sadd, keys.MARKETS, market))
            self._ask(partial(self._redis.sadd, keys.symbols(market), symbol))

    def runs(self) -> list[Run]:
        """Every live run, for people and for recovery."""
        names: list[str] = self._ask(partial(self._redis.zrange, keys.DUE, 0, -1))
        return [run for run in map(self.run, names) if run is not None]

    def run(self, name: str) -> Run | None:
        """One live run, unlocked: a reading for people, never for a decision."""
        stored = self._ask(partial(self._redis.hgetall, keys.runtime(name)))
        if not stored:
            return None
        strategy = self._ask(partial(self._redis.hgetall, keys.strategy(int(stored["strategy_id"]))))
        return codec.run_from_fields(stored, codec.strategy_from_fields(strategy)) if strategy else None

    def covered(self, run: Run) -> Run:
        """`run` with what its account has of its symbol: for people, never for a decision."""
        # A reading as old as this one changes nothing and is answered all the same.
        never = AccountReading(codec.from_us(0), ())
        net = self.cover(run.strategy.account_id, never, run)
        return replace(run, net=net) if net is not None and net.at > never.at else run

    def ended(self, name: str) -> tuple[str, str] | None:
        """(status, position) of a run that is over, for people; None while it lives, or where nobody knows it."""
        status, position = self._ask(partial(self._redis.hmget, keys.tombstone(name), "status", "position"))
        return (status, position) if status is not None else None

    def _now_us(self) -> int:
        return codec.to_us(self._now())

    def _call(self, script: str, names: Sequence[str], arguments: Sequence[Any]) -> Any:
        """One script, repeated where its reply was lost: a repeat is answered with the first reply."""
        epoch = self._epoch.current()
        return self._ask(partial(self._scripts.call, script, (keys.EPOCH, *names), (epoch, *arguments)))

    def _ask(self, call: Any) -> Any:
        for attempt in range(REPEATS + 1):
            try:
                return call()
            except (RedisConnectionError, RedisTimeoutError) as error:
                if attempt == REPEATS:
                    raise StoreClosed(f"Redis does not answer: {error}") from error
            except RedisError as error:
                if is_fault(error):
                    raise StoreFault(str(error)) from error
                # Whatever a server refuses with (full, read-only, busy, not allowed ...), it is away until it does not.
                if str(error).startswith("EPOCH"):
                    self._epoch.forget()
                raise StoreClosed(f"Redis refuses: {error}") from error
        raise AssertionError("unreachable")
