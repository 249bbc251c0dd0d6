"""Real workers under pytest-celery's clusters: a queue each, killed and started again, their Redis killed and back."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

import pytest
from celery import Celery
from pytest_celery import CeleryBrokerCluster, CeleryTestBroker, CeleryTestSetup, CeleryWorkerCluster

from broker_connector.paper.process import PaperControl, paper_broker
from engine import bootstrap
from engine.domain.events import Event, EventType
from engine.domain.orders import Leg, OrderStatus
from engine.domain.run import Position, Run, RunId
from engine.ports import StoreClosed
from engine.runtime import keys
from engine.stack.valkey import EmbeddedValkey
from engine.strategies import Draft
from models import schema
from models.database import Sessions, open_database, sessions_of
from models.repositories import Account, Accounts, Runs, Strategies
from models.secrets import Credentials, Encrypted
from tasks.app import app_at
from tests.celery_nodes import ProcessContainer, RedisContainer, WorkerContainer, WorkerNode, command_of
from tests.desk import CREDENTIALS, PAPER, SECRET_KEY, STOP, SYMBOL, Desk, environment, event_of, open_desk
from tests.processes import eventually

#: Seconds within which everything is well again after a worker was killed.
RECOVERED_WITHIN = 35.0
ORDERS, STOPLOSS, SAFETY, MAINTENANCE = "worker-orders", "worker-stoploss", "worker-safety", "worker-maintenance"
ALL = (ORDERS, STOPLOSS, SAFETY, MAINTENANCE)


@dataclass(frozen=True)
class Workers:
    """Which workers a test wants, options it adds to their command, and whether they are started for it."""

    names: tuple[str, ...]
    options: tuple[str, ...] = ()
    started: bool = True


def workers(*names: str, options: tuple[str, ...] = (), started: bool = True) -> pytest.MarkDecorator:
    """Give the test's cluster these workers."""
    wanted = Workers(names, options, started)
    return pytest.mark.parametrize("celery_worker_cluster", [pytest.param(wanted, id="")], indirect=True)


@pytest.fixture(scope="module")
def paper() -> Iterator[PaperControl]:
    with paper_broker(*PAPER) as control:
        yield control


@pytest.fixture
def celery_broker_cluster(tmp_path: Path) -> Iterator[CeleryBrokerCluster]:
    """A Valkey of the test's own, for it may be killed."""
    server = EmbeddedValkey(tmp_path / "valkey")
    server.start()
    node = CeleryTestBroker(RedisContainer(server))
    yield CeleryBrokerCluster(node)
    node.teardown()


@pytest.fixture
def celery_backend_cluster() -> None:
    """Results go nowhere."""


@pytest.fixture
def celery_worker_cluster(
    request: pytest.FixtureRequest, celery_broker_cluster: CeleryBrokerCluster, tmp_path: Path
) -> Iterator[CeleryWorkerCluster]:
    """The workers of the Procfile the test asks for."""
    wanted: Workers = request.param
    chosen = environment(celery_broker_cluster.config()["urls"][0])
    containers = [WorkerContainer(name, chosen, tmp_path / f"{name}.log", *wanted.options) for name in wanted.names]
    nodes = [WorkerNode(container, None) for container in containers]
    if wanted.started:
        for container in containers:
            container.start()
    yield CeleryWorkerCluster(*nodes)
    for container in containers:
        container.ask_to_end()
    for node in nodes:
        node.teardown()


@pytest.fixture
def celery_setup_app(celery_broker_cluster: CeleryBrokerCluster) -> Iterator[Celery]:
    """An app as the engine's own, at this test's Redis."""
    queue = app_at(celery_broker_cluster.config()["urls"][0])
    yield queue
    queue.close()


@pytest.fixture
def desk(celery_setup: CeleryTestSetup, paper: PaperControl, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setattr(bootstrap, "app", celery_setup.app)
    with open_desk(celery_setup.broker.config()["url"], paper) as opened:
        yield opened


def publish(desk: Desk, run: Run, kind: EventType) -> Event:
    event = event_of(run, kind)
    desk.parts.publisher.publish(event)
    return event


def worker(setup: CeleryTestSetup, name: str) -> WorkerNode:
    node: WorkerNode
    (node,) = [node for node in setup.worker_cluster if node.name() == name]
    return node


def served_by(setup: CeleryTestSetup, event: Event, *, within: float = 15.0) -> list[tuple[str, str]]:
    """(worker, outcome) of each time the event was served, once it was."""

    def found() -> list[tuple[str, str]]:
        return [(node.name(), line["outcome"]) for node in setup.worker_cluster for line in node.served(event.id)]

    assert eventually(lambda: bool(found()), within=within), f"{event} was served by nobody"
    return found()


def bought(desk: Desk, run: Run) -> None:
    publish(desk, run, EventType.BUY)
    assert eventually(lambda: desk.sent("buy") != [])
    # The answer is stored after the order is in the book.
    assert eventually(lambda: desk.live(run).orders[0].status is not OrderStatus.SENDING)
    desk.hear()
    assert eventually(lambda: desk.live(run).position is Position.BOUGHT)


def sides(desk: Desk) -> list[tuple[str, int]]:
    return [(row["side"], row["filled_quantity"]) for row in desk.sent()]


@workers(*ALL)
def test_each_worker_serves_its_own_queue_from_buy_to_the_end(celery_setup: CeleryTestSetup, desk: Desk) -> None:
    assert celery_setup.ready(docker=True)
    run, other = desk.arm(), desk.arm()
    entry = publish(desk, run, EventType.BUY)
    assert served_by(celery_setup, entry) == [(ORDERS, "submitted: accepted")]
    desk.hear()
    assert eventually(lambda: desk.live(run).position is Position.BOUGHT)
    # The line comes after the commit.
    assert eventually(lambda: worker(celery_setup, MAINTENANCE).lines("event_served") != [])

    (breach,) = desk.tick("1490.00")
    exit_event = Event(breach.event_id, EventType.STOPLOSS, breach.run_id)
    desk.parts.publisher.publish(exit_event)
    assert served_by(celery_setup, exit_event) == [(STOPLOSS, "submitted: accepted")]
    desk.hear()
    assert eventually(lambda: desk.ended(run) == ("stopped", "exited_by_sl"))

    desk.ask(other, stop_requested="close")
    stop = publish(desk, other, EventType.FORCE_STOP)
    assert served_by(celery_setup, stop) == [(SAFETY, "stopped: force_stop_close")]
    assert sides(desk) == [("buy", 10), ("sell", 10)]

    # The orders are named in the logs of those who sent them, and nobody else's; no line tells the token.
    for name, sent in ((ORDERS, 1), (STOPLOSS, 1), (SAFETY, 0), (MAINTENANCE, 0)):
        node = worker(celery_setup, name)
        assert len(node.lines("order_sent")) == sent, name
        assert CREDENTIALS["access_token"] not in node.logs()
        assert [row["status"] != "zombie" for row in node.get_running_processes_info(["pid", "status"])] == [True]


@workers(ORDERS, options=("-c", "1"), started=False)
def test_exits_leave_a_waiting_queue_before_retries_and_entries(celery_setup: CeleryTestSetup, desk: Desk) -> None:
    runs = [desk.arm(buy_in=60) for _ in range(2)]
    events = [publish(desk, run, kind) for kind in (EventType.BUY, EventType.RETRY, EventType.SELL) for run in runs]
    node = worker(celery_setup, ORDERS)
    node.container.start()
    assert eventually(lambda: len(node.lines("event_served")) == len(events), within=30)
    assert [line["type"] for line in node.lines("event_served")] == ["SELL", "SELL", "RETRY", "RETRY", "BUY", "BUY"]


@pytest.fixture
def sessions(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sessions]:
    """The durable state, with the desk's account."""
    monkeypatch.setattr(Encrypted, "_cipher", None)
    Encrypted.use(SECRET_KEY)
    schema.upgrade(database_url)
    database = open_database(database_url)
    yield sessions_of(database)
    database.dispose()


def stored(desk: Desk, sessions: Sessions, **asked: float) -> Run:
    """A run of a strategy the database knows."""
    asked_for = desk.run(**asked)  # type: ignore[arg-type]
    wanted = asked_for.strategy
    draft = Draft(
        wanted.name, "acme", "", SYMBOL, 10, wanted.buy_time, wanted.sell_time, Decimal(STOP),
        trading_date=asked_for.id.trading_date,
    )  # fmt: skip
    (strategy,) = Strategies(sessions).add([draft])
    run = replace(asked_for, id=RunId(strategy.id, asked_for.id.trading_date), strategy=strategy)
    assert Runs(sessions).create(run)
    return run


@pytest.fixture
def sweeper(celery_broker_cluster: CeleryBrokerCluster, tmp_path: Path) -> Iterator[ProcessContainer]:
    """The sweeper's process: what a worker, a message or a Redis took along comes back by what is due."""
    chosen = environment(celery_broker_cluster.config()["urls"][0])
    process = ProcessContainer("sweeper", command_of("sweeper"), chosen, tmp_path / "sweeper.log")
    process.start()
    yield process
    process.teardown()


@pytest.mark.slow
@workers(ORDERS, MAINTENANCE)
def test_what_a_killed_worker_took_along_is_repeated_and_its_order_sent_once(
    celery_setup: CeleryTestSetup, desk: Desk, sweeper: ProcessContainer
) -> None:
    assert celery_setup.ready(docker=True)
    node, run = worker(celery_setup, ORDERS), desk.arm()
    desk.paper.fault("accept_then_hang")
    entry = publish(desk, run, EventType.BUY)
    # The broker holds the order; the worker waits for an answer it will not live to hear.
    assert eventually(lambda: sides(desk) == [("buy", 10)])
    node.kill()
    assert node.served(entry.id) == []
    assert desk.live(run).position is Position.NONE
    node.restart()
    assert eventually(lambda: desk.live(run).position is Position.BOUGHT, within=RECOVERED_WITHIN)
    # By the sweeper: the message itself is gone.
    assert node.served(entry.id) == []
    assert sweeper.status == "running"
    assert sides(desk) == [("buy", 10)]


@pytest.mark.slow
@workers(*ALL)
def test_workers_go_on_after_their_redis_was_killed_and_recovered(
    celery_setup: CeleryTestSetup, desk: Desk, sessions: Sessions, sweeper: ProcessContainer
) -> None:
    account = Account("acme", "paper", "paper", desk.paper.base_url, desk.paper.ws_url, Credentials(CREDENTIALS))
    assert Accounts(sessions).add(account) == 1
    held = stored(desk, sessions)
    shared = desk.parts
    real, recoverer = shared.real, bootstrap.recoverer(shared, sessions, bootstrap.calendar(shared.settings, sessions))

    def recover() -> None:
        recoverer.open(real.now, real.sleep_until)
        recoverer.arm()
        desk.say_feed_lives()

    desk.parts.redis.delete(keys.EPOCH)
    recover()
    assert celery_setup.ready(docker=True)
    bought(desk, held)
    before = {node.name(): node.container.pid for node in celery_setup.worker_cluster}

    celery_setup.broker.restart()
    with pytest.raises(StoreClosed):
        desk.tick("1490.00")
    # Nobody has vouched for this Redis: workers that take a message trade nothing.
    publish(desk, held, EventType.SELL)
    time.sleep(3)
    assert sides(desk) == [("buy", 10)]
    recover()

    (breach,) = desk.tick("1490.00")
    desk.parts.publisher.publish(Event(breach.event_id, EventType.STOPLOSS, breach.run_id))
    assert desk.tick("1550.00") == []
    assert eventually(lambda: sides(desk) == [("buy", 10), ("sell", 10)])
    desk.hear()
    assert eventually(lambda: desk.ended(held) == ("stopped", "exited_by_sl"))
    # No message was ever sent for this one: the sweeper, too, has found its way back.
    swept = desk.arm()
    assert eventually(lambda: sides(desk) == [("buy", 10), ("sell", 10), ("buy", 10)])
    assert eventually(lambda: desk.live(swept).last_order(Leg.ENTRY) is not None)
    assert celery_setup.worker_cluster.ready()
    assert before == {node.name(): node.container.pid for node in celery_setup.worker_cluster}
    assert sweeper.status == "running"


@pytest.mark.slow
@workers(STOPLOSS)
def test_a_worker_is_back_within_seconds_of_its_redis_however_long_that_was_away(
    celery_setup: CeleryTestSetup, desk: Desk
) -> None:
    assert celery_setup.ready(docker=True)
    celery_setup.broker.kill()
    time.sleep(21)
    celery_setup.broker.restart()
    desk.parts.redis.connection_pool.disconnect()
    desk.parts.epoch.forget()
    desk.parts.epoch.open(2)
    event = publish(desk, desk.run(), EventType.STOPLOSS)
    (node,) = celery_setup.worker_cluster
    assert eventually(lambda: event.id in [line["id"] for line in node.lines("event_refused")], within=3)
