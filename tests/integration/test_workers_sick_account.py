"""Real workers and an account whose broker hangs: another account's orders go out at once all the same."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from time import monotonic

import pytest
from cryptography.fernet import Fernet

from broker_connector.paper.process import PaperControl, paper_broker
from engine import bootstrap
from engine.domain.events import Event, EventType
from engine.domain.orders import Leg, Order, OrderStatus, Side
from engine.domain.run import Position, Run, client_order_id
from engine.ports import Armed
from engine.stack.valkey import EmbeddedValkey
from tasks.app import app_at
from tests.celery_nodes import WorkerContainer
from tests.desk import PAPER, SECRET_KEY, Desk, account_at, environment, event_of, open_desk
from tests.processes import eventually

SICK, SICK_KEY, SICK_TOKEN = 2, "sick-key", "sick-token"
#: Many more than the threads of any worker, and seconds each call of the sick account hangs.
MANY, HANGS = 100, 60.0
#: Seconds within which the healthy account's order is at the broker: a hung call alone takes three.
AT_ONCE = 2.5


@pytest.fixture(scope="module")
def paper() -> Iterator[PaperControl]:
    with paper_broker(*PAPER) as control:
        control.add_account(account_id="SICK", api_key=SICK_KEY, access_token=SICK_TOKEN, limits={})
        yield control


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    server = EmbeddedValkey(tmp_path / "valkey")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def desk(server: EmbeddedValkey, paper: PaperControl, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    queue = app_at(server.url)
    monkeypatch.setattr(bootstrap, "app", queue)
    with open_desk(server.url, paper) as opened:
        secrets = json.dumps({"api_key": SICK_KEY, "access_token": SICK_TOKEN})
        sealed = Fernet(SECRET_KEY).encrypt(secrets.encode()).decode()
        opened.parts.store.write_account(
            replace(account_at(paper), id=SICK, tenant="sick", name="sick", secrets=sealed)
        )
        yield opened
    queue.close()


@contextmanager
def working(server: EmbeddedValkey, folder: Path, *names: str) -> Iterator[None]:
    """The workers of the Procfile, ready."""
    containers = [WorkerContainer(name, environment(server.url), folder / f"{name}.log") for name in names]
    try:
        for container in containers:
            container.start()
        for container in containers:
            container.ready()
        yield
    finally:
        for container in containers:
            container.ask_to_end()
        for container in containers:
            # Threads at the hung broker outlive the patience of an orderly end.
            container.kill() if container.status == "running" else container.teardown()


def arm(desk: Desk, account: int, **asked: float) -> Run:
    run = desk.run(**asked)  # type: ignore[arg-type]
    run = replace(run, strategy=replace(run.strategy, account_id=account))
    assert desk.parts.store.arm(run, desk.parts.clock.now().when(run.buy_at), buying=False) is Armed.CREATED
    return run


def arm_held(desk: Desk) -> Run:
    """A run of the sick account that bought long ago: before it sells, its broker is asked what it holds."""
    run, long_ago = desk.run(), desk.parts.clock.now().real - timedelta(hours=1)
    name = client_order_id(desk.parts.settings.deployment, run.id, Leg.ENTRY, 1)
    order = Order(
        name, Leg.ENTRY, Side.BUY, 1, 10, OrderStatus.FILLED, long_ago, long_ago, "B1", 10, Decimal(1550),
        updated_at=long_ago,
    )  # fmt: skip
    run = replace(run, strategy=replace(run.strategy, account_id=SICK), orders=(order,))
    assert desk.parts.store.arm(run, desk.parts.clock.now().when(run.sell_at), buying=True) is Armed.CREATED
    return run


def publish(desk: Desk, run: Run, kind: EventType) -> None:
    desk.parts.publisher.publish(event_of(run, kind))


def bought(desk: Desk, **asked: float) -> Run:
    """A run of the healthy account that holds its position."""
    run = arm(desk, 1, **asked)
    publish(desk, run, EventType.BUY)
    assert eventually(lambda: desk.sent("buy") != [])
    assert eventually(lambda: desk.live(run).orders[0].status is not OrderStatus.SENDING)
    desk.hear()
    assert eventually(lambda: desk.live(run).position is Position.BOUGHT)
    return run


def hang(desk: Desk) -> None:
    """From now on no call of the sick account is answered."""
    desk.paper.fault("hang", operation="any", account="SICK", times=10**6, seconds=HANGS)


def is_sold_at_once(desk: Desk) -> bool:
    """Whether the healthy account's exit reaches the broker as if nobody else were there."""
    began = monotonic()
    sold = eventually(lambda: len(desk.sent("sell")) == 1, within=20)
    return sold and monotonic() - began < AT_ONCE


def test_hung_entries_of_one_tenant_hold_no_other_tenants_timed_exit_or_entry(
    server: EmbeddedValkey, desk: Desk, tmp_path: Path
) -> None:
    with working(server, tmp_path, "worker-orders", "worker-maintenance"):
        held = bought(desk, sell_in=5)
        hang(desk)
        for _ in range(MANY):
            publish(desk, arm(desk, SICK), EventType.BUY)
        desk.parts.clock.sleep_until(held.sell_at)
        publish(desk, held, EventType.SELL)
        assert is_sold_at_once(desk)
        publish(desk, arm(desk, 1), EventType.BUY)
        assert eventually(lambda: len(desk.sent("buy")) == 2, within=AT_ONCE)


def test_hung_stops_of_one_tenant_hold_no_other_tenants_emergency_stop(
    server: EmbeddedValkey, desk: Desk, tmp_path: Path
) -> None:
    with working(server, tmp_path, "worker-orders", "worker-maintenance", "worker-safety"):
        held = bought(desk)
        hang(desk)
        for run in [arm_held(desk) for _ in range(MANY)]:
            desk.ask(run, stop_requested="close")
            publish(desk, run, EventType.FORCE_STOP)
        desk.ask(held, stop_requested="close")
        publish(desk, held, EventType.FORCE_STOP)
        assert is_sold_at_once(desk)


def test_hung_breaches_of_one_tenant_hold_no_other_tenants_stop(
    server: EmbeddedValkey, desk: Desk, tmp_path: Path
) -> None:
    with working(server, tmp_path, "worker-orders", "worker-maintenance", "worker-stoploss"):
        held = bought(desk)
        hang(desk)
        sick = [arm_held(desk) for _ in range(2 * MANY)]
        breaches = {breach.run_id: breach for breach in desk.tick("1490.00")}
        assert len(breaches) == len(sick) + 1
        for run in (*sick, held):
            breach = breaches[run.id]
            desk.parts.publisher.publish(Event(breach.event_id, EventType.STOPLOSS, run.id))
        assert is_sold_at_once(desk)


def test_hung_looks_of_one_tenant_hold_no_other_tenants_news(
    server: EmbeddedValkey, desk: Desk, tmp_path: Path
) -> None:
    with working(server, tmp_path, "worker-orders", "worker-maintenance"):
        hang(desk)
        for run in [arm_held(desk) for _ in range(MANY)]:
            desk.ask(run, dirty="1")
            publish(desk, run, EventType.ORDER_UPDATE)
        began = monotonic()
        bought(desk)
        assert monotonic() - began < 2 * AT_ONCE
