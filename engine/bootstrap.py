"""The composition root: the only place that joins ports to adapters, one function for each kind of process."""

import gc
import os
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, partial

from cryptography.fernet import Fernet
from redis.client import Redis
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from broker_connector.registry import BROKERS, Reading
from engine.actions import Actions
from engine.blindness import BlindWatch
from engine.brokers import BrokerPool
from engine.calendar import AlwaysOpenCalendar, Calendar
from engine.chaos.tap import Gate, tapped
from engine.clock import MarketIsReal, MarketIsScaled, RealTime
from engine.clockwatch import ClockWatch, of_broker, of_redis
from engine.config import CalendarKind, MarketClock, Settings, settings
from engine.dispatch import BatchPublisher, CeleryPublisher, lists_of, wake_up, ways_of
from engine.domain.action import Policy
from engine.domain.broker import BrokerProfile
from engine.domain.events import EventType
from engine.domain.feed import FeedPolicy, SymbolGuard
from engine.domain.orders import SEND_WITHIN
from engine.domain.run import RunId, parse_client_order_id
from engine.domain.strategy import Session, UnconfirmedYear
from engine.exporter import Exporter, lengths
from engine.instruments import Instruments
from engine.ledger import Carrier, Drainer, LedgerCarrier, Observe, stored_up_to, unobserved
from engine.listener import AFTER_CLOSE, Listener
from engine.logs import configure
from engine.orderstream import OrderStream, Unjudged
from engine.overnight import Overnight
from engine.pipeline import Pipeline
from engine.ports import AccountState, Broker, Ended, Log
from engine.postbacks import Postbacks
from engine.reads import AT_ONCE
from engine.recovery import Durable, EpochKeeper, Recoverer
from engine.rescheduling import Rescheduler
from engine.runtime import keys
from engine.runtime.atwork import AtWork
from engine.runtime.backlog import Backlog, Teller
from engine.runtime.connect import connect
from engine.runtime.epoch import EpochGuard
from engine.runtime.owners import Owners
from engine.runtime.store import RedisStore
from engine.runtime.word import CalendarWord
from engine.schedule import Buckets, RedBeatTimers
from engine.store_outage import StoreOutage
from engine.sweeper import Sweeper
from engine.telling import Told
from engine.warming import Warmer
from models.database import Sessions, open_database, sessions_of
from models.durable import DurableState
from models.lock import AdvisoryLock
from models.repositories.bookkeeping import CalendarTable
from models.secrets import Encrypted
from tasks.app import app, app_at

#: The recoverer's advisory lock: any number, as long as every recoverer of a database uses it.
RECOVERER_LOCK = 0x45454E47


@dataclass(frozen=True, slots=True)
class Parts:
    """What every process of the engine shares."""

    settings: Settings
    redis: "Redis"
    epoch: EpochGuard
    store: RedisStore
    real: RealTime
    clock: MarketIsReal | MarketIsScaled
    brokers: BrokerPool
    publisher: CeleryPublisher
    timers: RedBeatTimers
    policy: Policy
    log: Log
    #: Where this process can be struck; None but in a fault trial.
    gate: Gate | None

    def announce(self, name: str) -> None:
        """Leave a sign that the process called `name` is ready."""
        self.redis.set(keys.process(name), str(self.real.now().timestamp()))

    def decrypt(self, sealed: str) -> str:
        """The plain text of stored credentials."""
        return decrypt(self.settings, sealed)


def parts(process: str, chosen: Settings | None = None) -> Parts:
    """Compose what `process` needs of the live state; connects on first use."""
    current = chosen or settings()
    log = configure(current, process)
    redis = connect(current.redis_url)
    epoch = EpochGuard(redis)
    gate = Gate.of(current.kill_points, process)
    real = RealTime()
    store = tapped(gate, "store", RedisStore(redis, epoch, real.now))
    publisher = tapped(gate, "publisher", CeleryPublisher(app, connect(current.redis_url, repeats=1), log))

    def around_broker(broker: Broker) -> Broker:
        return tapped(gate, "broker", broker)

    def reading(account: AccountState) -> Reading:
        return Reading(
            lambda tag: parse_client_order_id(current.deployment, tag) is not None,
            lambda what, number: log("row_skipped", account=account.id, what=what, number=number),
        )

    return Parts(
        settings=current,
        redis=redis,
        epoch=epoch,
        store=store,
        real=real,
        clock=market_clock(current, real, redis),
        brokers=BrokerPool(store.account, partial(decrypt, current), around_broker, reading),
        publisher=publisher,
        timers=tapped(gate, "timers", RedBeatTimers(app, redis, publisher)),
        policy=current.policy(),
        log=log,
        gate=gate,
    )


def market_clock(current: Settings, real: RealTime, redis: "Redis") -> MarketIsReal | MarketIsScaled:
    """The market's clock as the settings choose it."""
    if current.market_clock is MarketClock.REAL:
        return MarketIsReal(real)

    def read() -> dict[str, str]:
        stored: dict[str, str] = {}
        # While Redis is away it is not announced.
        with suppress(RedisError):
            stored = redis.hgetall(keys.MARKET_CLOCK)  # type: ignore[assignment]
        return stored

    return MarketIsScaled(real, read)


def decrypt(current: Settings, sealed: str) -> str:
    """The plain text of credentials sealed with the deployment's key."""
    return Fernet(current.secret_key.get_secret_value()).decrypt(sealed).decode()


def database(current: Settings) -> Sessions:
    """Sessions on the durable state, its stored credentials readable with the deployment's key."""
    if key := current.secret_key.get_secret_value():
        Encrypted.use(key)
    return sessions_of(open_database(current.database_url))


def calendar(current: Settings, sessions: Sessions) -> Calendar:
    """Which sessions there are, with the operator's word on them."""
    days = _calendar(current)
    relearn(days, sessions)
    return days


def _calendar(current: Settings) -> Calendar:
    """Which sessions there are, without the operator's word on them."""
    kind = AlwaysOpenCalendar if current.calendar is CalendarKind.ALWAYS_OPEN else Calendar
    return kind(square_off=timedelta(minutes=current.square_off), no_auction=current.no_auction)


def relearn(days: Calendar, sessions: Sessions) -> bool:
    """Read the operator's word on the calendar again; whether it is another."""
    table = CalendarTable(sessions)
    return days.learn(table.overrides(), table.confirmed_years())


def pipeline(shared: Parts) -> Pipeline:
    """The ten steps on real parts."""
    actions = Actions(shared.store, shared.brokers, shared.clock, shared.timers, shared.settings.deployment, shared.log)
    return Pipeline(shared.store, actions, shared.clock, shared.publisher, shared.policy, shared.log)


def listener(shared: Parts, market: str, days: Calendar) -> Listener:
    """The listener of one market, judging ticks by today's session."""

    def guard_for(symbol: str) -> SymbolGuard:
        exchange, now = symbol.split(":", maxsplit=1)[0], shared.clock.now().market
        day = days.today(exchange, now)
        try:
            today = days.session(symbol, day)
            current = today if today is not None and now < today.closes + AFTER_CLOSE else None
            return SymbolGuard(FeedPolicy(), current or days.next_session(symbol, now))
        except UnconfirmedYear:
            # Nobody knows whether it is traded: no tick is believed. Whoever arms tells the operator.
            return SymbolGuard(FeedPolicy(), Session(day, now, now))

    waking = RedisStore(shared.redis, shared.epoch, shared.real.now, wake_up(app, EventType.STOPLOSS))
    heard = Listener(tapped(shared.gate, "store", waking), market, shared.clock, guard_for, shared.log)
    return tapped(shared.gate, "listener", heard)


def instruments(shared: Parts, days: Calendar) -> Instruments:
    """What brokers list."""
    return Instruments(shared.brokers, days.today, shared.store, shared.log)


def watch_clock(shared: Parts) -> None:
    """Hold this process's clock against others, now and every second: it follows a host that was set right."""
    witnesses = {"the broker": partial(of_broker, shared.real), "Redis": partial(of_redis, shared.real, shared.redis)}
    ClockWatch(shared.real, witnesses, shared.store, shared.log).start()


def calendar_word(shared: Parts) -> CalendarWord:
    """The operator's word on the calendar, in the live state."""
    return CalendarWord(shared.redis)


def overnight(shared: Parts) -> Overnight:
    """What gives a run that was left holding its next session."""
    days, told = _calendar(shared.settings), Told(shared.store, shared.log)
    learn = partial(calendar_word(shared).teach, days)
    return Overnight(shared.store, days, learn, shared.clock, told, shared.log)


def blind_watch(shared: Parts) -> BlindWatch:
    """What tells tenants that what they hold is not watched."""
    return BlindWatch(shared.store, shared.log)


@dataclass(frozen=True, slots=True)
class _Past:
    """The history of runs, as the order stream asks for it."""

    durable: DurableState

    def ended(self, run_id: RunId) -> Ended | None:
        try:
            return self.durable.ended(run_id)
        except SQLAlchemyError as error:
            raise Unjudged(str(error)) from error


def orderstream(shared: Parts, durable: DurableState) -> OrderStream:
    """The order stream, for every account."""
    stream = OrderStream(
        shared.store, shared.publisher, shared.clock, shared.settings.deployment, shared.log, _Past(durable)
    )
    return tapped(shared.gate, "orderstream", stream)


def postbacks(shared: Parts) -> Postbacks:
    """What brokers post, for every account."""
    return Postbacks(shared.store, shared.publisher, shared.clock, shared.settings.deployment, shared.log)


def sweeper(shared: Parts) -> Sweeper:
    """The sweeper."""
    backlog = Backlog(shared.redis, shared.real.now, ways_of(app))
    return Sweeper(shared.store, shared.publisher, backlog, shared.clock, shared.policy)


def drainer(shared: Parts, sessions: Sessions, epoch: int, observe: Observe = unobserved) -> Drainer:
    """The drainer, working under `epoch`."""
    carrier: Carrier = LedgerCarrier(shared.redis, sessions, epoch)
    return Drainer(tapped(shared.gate, "drainer", carrier), stored_up_to(sessions, epoch), observe)


def metrics(shared: Parts) -> Observe:
    """What measures the records it is told, and serves /metrics from now on; nothing where no port is set."""
    host, port = shared.settings.metrics_host, shared.settings.metrics_port
    if not port:
        return unobserved
    exporter = Exporter(partial(lengths, shared.redis, lists_of(app)))
    exporter.serve(host, port, shared.log)
    return exporter.observe


def recoverer_lock(current: Settings) -> AdvisoryLock:
    """What makes the recoverer the only one of its deployment."""
    return AdvisoryLock(open_database(current.database_url, pool_size=1), RECOVERER_LOCK)


def rescheduler(shared: Parts, sessions: Sessions, days: Calendar) -> Rescheduler:
    """What makes runs follow their session where it changes."""
    return Rescheduler(DurableState(sessions), shared.store, shared.timers, days, shared.clock, shared.log)


def store_outage(shared: Parts, sessions: Sessions) -> StoreOutage:
    """What tells of a live state that is away."""
    return StoreOutage(DurableState(sessions), shared.real.now, shared.log)


def _profile_of(broker: str) -> BrokerProfile | None:
    """What a broker promises; nothing is known of one that is not in the table."""
    return BROKERS[broker].profile if broker in BROKERS else None


def recoverer(shared: Parts, sessions: Sessions, days: Calendar) -> Recoverer:
    """The recoverer."""
    stored = DurableState(sessions, lambda n: drainer(shared, sessions, n).drain_all(), _profile_of)
    struck = tapped(shared.gate, "durable", stored)
    durable: Durable = struck
    epoch: EpochKeeper = shared.epoch
    return Recoverer(
        durable,
        shared.store,
        tapped(shared.gate, "epoch", epoch),
        shared.brokers,
        shared.timers,
        days,
        shared.clock,
        shared.settings.deployment,
        SEND_WITHIN + max(broker.profile.settles_after for broker in BROKERS.values()),
        shared.log,
        threads=AT_ONCE,
        missed=struck,
        policy=shared.policy,
    )


@dataclass(frozen=True, slots=True)
class Beat:
    """What a beat process holds."""

    parts: Parts
    buckets: Buckets
    name: str

    def announce(self) -> None:
        """Leave a sign that this beat is ready."""
        self.parts.announce(self.name)


@cache
def beat() -> Beat:
    """This beat process's part of the engine."""
    # Several may run, each under the name it has in the Procfile.
    shared = parts(name := settings().process or "beat")
    buckets = Buckets(shared.redis, BatchPublisher(app))
    return Beat(shared, tapped(shared.gate, "buckets", buckets), name)


@dataclass(frozen=True, slots=True)
class Remote:
    """What a command beside a running engine needs of the live state."""

    store: RedisStore
    publisher: CeleryPublisher
    real: RealTime


def remote(current: Settings, log: Log) -> Remote:
    """Compose what a command beside the engine needs; its queue is the one of `current`."""
    redis = connect(current.redis_url)
    publisher = CeleryPublisher(app_at(current.redis_url), connect(current.redis_url, repeats=1), log)
    real = RealTime()
    return Remote(RedisStore(redis, EpochGuard(redis), real.now), publisher, real)


def settle() -> None:
    """Say that what is loaded by now stays: the collector looks at it no more, and so stops the process for less."""
    gc.collect()
    gc.freeze()


def log_to_stdout(process: str) -> None:
    """Structured logging for a process Celery runs."""
    configure(settings(), process)


@dataclass(frozen=True, slots=True)
class Worker:
    """What one Celery worker process holds."""

    pipeline: Pipeline
    parts: Parts
    owners: Owners

    def watch_clock(self) -> None:
        """Look at other clocks now, and from now on every second."""
        watch_clock(self.parts)

    def keep_warm(self) -> None:
        """Keep a connection to the broker of each account at work, now and from now on."""
        at_work = AtWork(self.parts.redis, self.parts.clock.now)
        Warmer(at_work.accounts, self.parts.brokers, self.parts.log).start()

    def tell_backlog(self, queue: str, held: Callable[[], Mapping[int, int]]) -> None:
        """Tell what this worker has taken off `queue` and not begun, by priority, from now on."""
        name = f"{socket.gethostname()}:{os.getpid()}"
        Teller(self.parts.redis, self.parts.real.now, queue, name, held).start()

    def announce(self, name: str) -> None:
        """Leave a sign that the worker called `name` is ready."""
        self.parts.announce(name)


_lock = threading.Lock()
_worker: Worker | None = None
_worker_name = "worker"


def name_worker(name: str) -> None:
    """Say which of the Procfile's workers this process is, before anything is composed."""
    global _worker_name  # noqa: PLW0603
    _worker_name = name


def worker() -> Worker:
    """This worker process's engine, composed on first use and shared by its threads."""
    global _worker  # noqa: PLW0603 - one per process is the point
    if _worker is None:
        with _lock:
            if _worker is None:
                shared = parts(_worker_name)
                _worker = Worker(pipeline(shared), shared, Owners(shared.store.account_of))
    return _worker


def close_worker() -> None:
    """Close what this worker process holds."""
    global _worker  # noqa: PLW0603
    with _lock:
        if _worker is not None:
            _worker.parts.brokers.close()
            _worker.parts.store.close()
            _worker = None
