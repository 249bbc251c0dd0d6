"""One tenant's broker sends its instrument list byte by byte: nobody else waits for it."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import pytest
from redis import Redis

from engine.calendar import Calendar
from engine.domain.broker import BookEntry, Instrument
from engine.domain.orders import OrderStatus
from engine.recovery import Recoverer
from tests.builders import DEPLOYMENT, entry, run, strategy
from tests.fakes import FakeBroker
from tests.integration.test_recovery import SETTLE, Recovery
from tests.livestate import ACCOUNT, RUN, open_live_state
from tests.processes import eventually
from tests.world import World

OTHER = replace(ACCOUNT, id=2, tenant="beta", base_url="http://other", ws_url="ws://other")


class Dripping(FakeBroker):
    """No read of its list times out, and none ends."""

    over: threading.Event
    asked: threading.Event

    def instruments(self, exchange: str) -> Iterable[Instrument]:
        self.asked.set()
        self.over.wait(60)
        return super().instruments(exchange)


class Slow(FakeBroker):
    """Its first book takes longer than a recoverer waits for it."""

    is_warm = False

    def orders(self) -> Sequence[BookEntry]:
        if not self.is_warm:
            time.sleep(2.5)
        self.is_warm = True
        return super().orders()


@pytest.fixture
def recovery(redis: Redis, redis_url: str) -> Recovery:
    """A run of one tenant that holds, and another tenant whose strategy waits for its list."""
    made = Recovery(World(open_live_state(redis, redis_url)))
    made.durable.listed.append(OTHER)
    made.durable.rows[RUN] = run(entry(OrderStatus.FILLED, 10, filled_at=made.world.clock.market))
    made.durable.strategies[:] = [strategy(id=8, account_id=2, tenant="beta")]
    return made


@pytest.fixture
def dripping(recovery: Recovery) -> Iterator[Dripping]:
    """The other tenant's broker, while a recoverer of several threads goes round."""
    world = recovery.world
    broker = Dripping(world.clock)
    broker.over, broker.asked = threading.Event(), threading.Event()
    world.brokers.by_account |= {1: Slow(world.clock), 2: broker}
    recoverer = Recoverer(
        recovery.durable, world.live.store, world.live.epoch, world.brokers, world.timers, Calendar(), world.clock,
        DEPLOYMENT, SETTLE, world.log, threads=16,
    )  # fmt: skip
    recovery.recoverer = recoverer
    recovery.open()

    def go_round() -> None:
        while not broker.over.is_set():
            recoverer.arm()
            time.sleep(0.1)

    thread = threading.Thread(target=go_round, daemon=True)
    thread.start()
    assert broker.asked.wait(5)
    yield broker
    broker.over.set()
    thread.join(5)


def _told(recovery: Recovery) -> Callable[[], str]:
    def version() -> str:
        account = recovery.world.live.store.account(1)
        return account.version if account else ""

    return version


def test_what_another_tenant_holds_is_armed(recovery: Recovery, dripping: Dripping) -> None:
    assert eventually(lambda: recovery.world.live.store.run(RUN) is not None, within=8)
    assert not dripping.over.is_set()


def test_another_tenants_login_reaches_the_workers(recovery: Recovery, dripping: Dripping) -> None:
    recovery.durable.listed[0] = replace(ACCOUNT, version="v2", secrets="new token")
    assert eventually(lambda: _told(recovery)() == "v2", within=8)
    assert not dripping.over.is_set()
