"""The fault table: every fault, how it is put in, when, and how soon everything must be well after it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from broker_connector.paper.faults import FAULTS, REFUSE
from engine.chaos import courses, worlds
from engine.chaos.courses import Put, broker, kill, stop
from engine.chaos.fault import ALL_STYLES, OTHER_BOUND, WORKER_BOUND, Fault, Scope, When
from engine.chaos.points import around
from engine.chaos.trial import Style

_REJECTED = {"kind": "reject", "side": "BUY"}
#: It stands open and silent until the book is asked; it stands open until it is withdrawn; it never arrived.
_SILENT = {"kind": "limbo", "side": "BUY", "seconds": 8.0}
_RESTING = {"kind": "limbo", "side": "BUY", "seconds": 60.0}
_IN_DOUBT = {"kind": "hang", "side": "BUY", "seconds": 4.0}
#: The planned sale rests when a stronger cause asks for another price.
_SALE_RESTING = {"kind": "limbo", "side": "SELL", "seconds": 30.0}

#: Who can be met where the entry is led astray, and how much longer such strategies are held.
_LED_STYLES: Mapping[str, tuple[tuple[Style, ...], float]] = {
    "canceling": ((Style.FORCE_STOP, Style.FORCE_STOP), 0.0),
    "asking": ((Style.SCHEDULE, Style.LATE), 8.0),
    "nudging": ((Style.SCHEDULE, Style.LATE), 8.0),
    "repricing": ((Style.OVERTAKEN, Style.OVERTAKEN), 0.0),
}


#: Seconds further ahead at which a timer waits in a bucket of beat's.
_PAST_BEATS = 5.0
#: Seconds a strategy is held longer so that a process killed at its entry is back before its exit.
_HOLDS = {"worker-orders": 5.0}
#: Faults of the broker that leave an entry in doubt: it is to be sent again before its sell_time.
_LEAVES_DOUBT = frozenset(
    {"hang", "late_accept", "unavailable", "reset", "bad_gateway", "forbidden_page", "vanish", "refused_but_placed"}
)


#: Both do the same, or one does what the other is ready to do.
TWINS: Mapping[str, Sequence[str]] = {"listener": ("listener", "listener-2"), "beat": courses.BEATS}


@dataclass(frozen=True, slots=True)
class _Reached:
    """Methods a process reaches, when, and what leads it there."""

    process: str
    methods: str
    when: tuple[When, ...]
    led_by: Mapping[str, Any] | None = None
    afresh: bool = False
    #: A fault of the whole system that leads it there.
    first: Put | None = None
    #: What sets these apart from the process's other points.
    led: str = ""

    @property
    def processes(self) -> Sequence[str]:
        """Those of its kind: whichever comes there first is killed."""
        return TWINS.get(self.process, (self.process,))


_E, _H, _X, _S = (When.ENTRY,), (When.HOLDING,), (When.EXIT,), (When.START,)
_UPDATE = "orderstream.on_update store.account_of store.tell publisher.publish"
_ORDER = "store.claim store.intend broker.place store.commit"
#: What a worker does for a breach whose message tells the run: `intend` locks it.
_EXIT_AT_A_GLANCE = "store.glance store.intend broker.place store.commit"

#: Where a worker is stopped until its lease has run out, or what it read is old: it has no right to what it does next.
_STOPPED_AT = ("store.intend.after", "broker.place.before", "broker.place.after", "store.commit.before")
_STOPPED_EARLIER = {"worker-orders": "store.claim.after", "worker-stoploss": "store.glance.after"}

#: Which points each process reaches.
REACHED: Sequence[_Reached] = (
    _Reached("worker-orders", _ORDER, (When.ENTRY, When.EXIT)),
    _Reached("worker-orders", "publisher.publish", _E, led_by=_REJECTED, led="retrying"),
    _Reached("worker-orders", "store.account", _E, afresh=True, led="just started"),
    _Reached(
        "worker-orders", "store.note", _E, first=stop("worker-orders", "store.claim.after"), led="its lease lost"
    ),
    _Reached("worker-stoploss", _EXIT_AT_A_GLANCE, _X),
    _Reached(
        "worker-stoploss", "store.claim", _X, first=kill(("worker-stoploss",), "store.glance.before"), led="nudged"
    ),
    _Reached("worker-safety", _ORDER, _X),
    _Reached("worker-safety", "store.extend broker.cancel", _X, led_by=_RESTING, led="canceling"),
    _Reached("worker-safety", "broker.quote broker.modify", _X, led_by=_SALE_RESTING, led="repricing"),
    _Reached("worker-maintenance", "store.claim store.commit", (When.ENTRY, When.EXIT)),
    _Reached("worker-maintenance", "timers.cancel", _X),
    _Reached(
        "worker-maintenance", "store.extend store.read_book store.pool_mark broker.orders store.tell_book", _E,
        led_by=_SILENT, led="asking",
    ),
    _Reached("listener", "listener.on_frame store.on_tick", (When.ENTRY, When.HOLDING, When.EXIT)),
    _Reached("orderstream", _UPDATE, (When.ENTRY, When.EXIT)),
    _Reached("orderstream", "store.pool_mark broker.orders broker.positions store.cover", (When.HOLDING, When.EXIT),
             led="reconciling"),
    _Reached("sweeper", "store.sweep", (When.ENTRY, When.HOLDING, When.EXIT)),
    _Reached("sweeper", "publisher.publish", _E, led_by=_SILENT, led="nudging"),
    _Reached("drainer", "drainer.read drainer.apply drainer.trim", (When.ENTRY, When.EXIT)),
    _Reached("recoverer", "durable.accounts durable.unarmed durable.missed durable.create_runs durable.open_runs", _S),
    _Reached("recoverer", "store.arm timers.schedule", _S),
    _Reached("recoverer", "broker.instruments", _S, afresh=True, led="just started"),
    _Reached(
        "recoverer",
        "epoch.stored epoch.run_id durable.epoch durable.advance_epoch durable.drain store.forget_runs store.follow "
        "epoch.open store.write_account broker.orders",
        (When.ENTRY, When.HOLDING, When.EXIT),
        first=courses.redis_flushed,
        led="rebuilding",
    ),
    _Reached("beat", "buckets.take buckets.publish buckets.forget", _S),
)  # fmt: skip


def _kills() -> Iterator[Fault]:
    for reached in REACHED:
        for method in reached.methods.split():
            for point in around(*method.split(".")):
                styles, hold = _LED_STYLES.get(reached.led, (ALL_STYLES, _HOLDS.get(reached.process, 0.0)))
                put = kill(reached.processes, point, afresh=reached.afresh)
                yield Fault(
                    name=f"kill {reached.process} at {point}" + (f" ({reached.led})" if reached.led else ""),
                    family=f"kill {reached.process}",
                    put=put if reached.first is None else courses.after(reached.first, put),
                    whens=reached.when,
                    bound=WORKER_BOUND if reached.process.startswith("worker") else OTHER_BOUND,
                    styles=styles,
                    led_by=reached.led_by,
                    hold=max(hold, 4.0) if reached.first or reached.afresh else hold,
                    ahead=_PAST_BEATS if reached.process == "beat" else 0.0,
                )


def _stops() -> Iterator[Fault]:
    for process, when in (("worker-orders", (When.ENTRY, When.EXIT)), ("worker-stoploss", _X)):
        for point in (_STOPPED_EARLIER[process], *_STOPPED_AT):
            yield Fault(f"stop {process} at {point}", "stop a worker", stop(process, point), when, hold=8.0)


#: Seconds a strategy is held longer so that it can still be bought after the live state was rebuilt.
_REBUILT = 14.0

#: Faults of the broker that take time: how long until they are over, and their words.
_TAKING_TIME: Mapping[str, tuple[float, Mapping[str, float]]] = {
    "late_accept": (8.0, {"seconds": 8.0}),
    "limbo": (8.0, {"seconds": 8.0}),
    "refused_but_placed": (8.0, {"seconds": 8.0}),
    "slow": (2.0, {"seconds": 2.0}),
    "rate_limit": (2.0, {"seconds": 2.0}),
    "hang": (4.0, {"seconds": 4.0}),
    "accept_then_hang": (4.0, {"seconds": 4.0}),
}


def _brokers() -> Iterator[Fault]:
    for kind in FAULTS:
        lasts, words = _TAKING_TIME.get(kind, (0.0, {}))
        for side, when in (("BUY", When.ENTRY), ("SELL", When.EXIT)):
            put = broker(kind, side, lasts=lasts, **words)
            name = f"broker: {kind} on {when}"
            hold = 25.0 if side == "BUY" and kind in _LEAVES_DOUBT else 0.0
            yield Fault(name, name, put, (when,), Scope.ACCOUNT, styles=(Style.SCHEDULE,), hold=hold)
    for name, put, when in (
        ("broker: updates repeated and reordered", courses.scrambled, When.ENTRY),
        ("broker: order stream cut", courses.line_cut, When.HOLDING),
        ("broker: book unreadable in doubt", broker("unavailable", operation="orders", times=3), When.ENTRY),
        ("token dead before an entry", courses.token_dead, When.ENTRY),
        ("token dead with a position", courses.token_dead, When.HOLDING),
        ("token dead during an unknown", courses.token_dead_in_doubt, When.EXIT),
    ):
        led_by, hold = (_IN_DOUBT, 25.0) if "in doubt" in name else (None, 2.0)
        yield Fault(name, name, put, (when,), Scope.ACCOUNT, styles=(Style.SCHEDULE,), led_by=led_by, hold=hold)


def _systems() -> Iterator[Fault]:
    any_time = (When.ENTRY, When.HOLDING, When.EXIT)
    for name, put, whens, hold in (
        ("Redis killed", courses.redis_killed, any_time, _REBUILT),
        ("Redis flushed", courses.redis_flushed, any_time, _REBUILT),
        ("Redis' last second lost", courses.last_second_lost, any_time, _REBUILT),
        ("PostgreSQL down 30 s", courses.postgres_down, any_time, 0.0),
        ("both beats dead past a buy time", courses.beats_dead, _S, 0.0),
        (f"broker: {REFUSE}", courses.not_listening, (When.ENTRY, When.EXIT), 0.0),
        ("one message 10,000 times", courses.repeated, _H, 4.0),
    ):
        yield Fault(name, name, put, whens, hold=hold, ahead=_PAST_BEATS if "beats" in name else 0.0)
    name = "SELL, STOPLOSS and FORCE_STOP at once"
    yield Fault(name, name, courses.all_at_once, _H, styles=(Style.TRIPLE,))
    name = "5,000 orders queued before a STOPLOSS"
    styles = (Style.STOP_LOSS, Style.SCHEDULE, Style.FORCE_STOP)
    yield Fault(name, name, courses.backlog, _H, styles=styles, hold=10.0)


TABLE: tuple[Fault, ...] = (*_systems(), *worlds.ROWS, *_stops(), *_brokers(), *_kills())
