"""Listeners' processes on real paper brokers: who carries a market's feed, and what happens when that account fails."""

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from broker_connector.paper.process import PaperControl, paper_broker
from engine.domain.orders import OrderStatus
from engine.domain.run import Run
from engine.ports import Armed
from engine.runtime import keys
from models import schema
from models.database import Sessions, open_database, sessions_of
from models.durable import DurableState
from models.repositories.accounts import Account, Accounts
from models.secrets import Credentials, Encrypted
from tests.builders import entry
from tests.celery_nodes import ProcessContainer, command_of
from tests.desk import CREDENTIALS, PAPER, PRICE, SECRET_KEY, STOP, SYMBOL, Desk, environment, open_desk
from tests.processes import eventually

#: The desk's own login, and another tenant's at the same broker.
SECOND = {"api_key": "second-key", "access_token": "second-token"}
#: Seconds within which another account must carry the feed.
WITHIN = 5.0


class Floor:
    """A desk, its paper broker and whatever listeners a test starts."""

    def __init__(self, desk: Desk, sessions: Sessions, start: "Starter") -> None:
        self.desk, self.sessions, self.start = desk, sessions, start
        self.paper = desk.paper

    def add(
        self, tenant: str, credentials: dict[str, str], broker: str = "paper", at: PaperControl | None = None
    ) -> int:
        where = at or self.paper
        number = Accounts(self.sessions).add(
            Account(tenant, "main", broker, where.base_url, where.ws_url, Credentials(credentials))
        )
        for account in DurableState(self.sessions).accounts():
            self.desk.parts.store.write_account(account)
        return number

    def market(self, number: int) -> str:
        (found,) = [each.market for each in DurableState(self.sessions).accounts() if each.id == number]
        return found

    def hold(self, account: int = 1) -> Run:
        """A run that holds 10, its stop armed."""
        run = self.desk.run(orders=(entry(OrderStatus.FILLED, 10),))
        run = replace(run, strategy=replace(run.strategy, account_id=account))
        now = self.desk.parts.clock.now().real
        assert self.desk.parts.store.arm(run, now + timedelta(hours=1), buying=True) is Armed.CREATED
        return run

    def is_watched(self, account: int = 1, symbol: str = SYMBOL) -> bool:
        """Whether a listener proved the symbol's line within the last 2 s."""
        proven = self.desk.parts.redis.hget(keys.feed(self.market(account)), symbol)
        return proven is not None and int(proven) > (time.time() - 2) * 1e6

    def carriers(self, account: int = 1) -> dict[str, int]:
        return dict(self.desk.parts.store.carry(self.market(account), "test", None))

    def is_latched(self, run: Run) -> bool:
        return self.desk.live(run).latch is not None


class Starter:
    """Starts listeners, and ends those it started."""

    def __init__(self, stack: ExitStack, chosen: dict[str, str], where: Path) -> None:
        self._stack, self.chosen, self.where = stack, chosen, where

    def __call__(self, name: str, *, ready: bool = True, behind: tuple[str, ...] = (), **more: str) -> ProcessContainer:
        """`behind`: what the command is given to."""
        chosen = self.chosen | {"ENGINE_PROCESS": name} | more
        process = ProcessContainer(
            name, (*behind, *command_of(name)[-3:]), chosen, self.where / f"{name}.log", "feed_up"
        )
        self._stack.callback(process.teardown)
        process.start()
        assert not ready or process.ready()
        return process


@pytest.fixture
def floor(valkey_url: str, database_url: str, tmp_path: Path) -> Iterator[Floor]:
    schema.upgrade(database_url)
    Encrypted.use(SECRET_KEY)
    with ExitStack() as stack:
        paper = stack.enter_context(paper_broker(*PAPER))
        paper.add_account(account_id="SECOND", **SECOND)
        desk = stack.enter_context(open_desk(valkey_url, paper))
        desk.parts.redis.flushall()
        desk.open()
        desk.parts.redis.delete(keys.feed(desk.market))
        database = open_database(database_url)
        stack.callback(database.dispose)
        chosen = environment(valkey_url, database_url) | {"ENGINE_CALENDAR": "always_open"}
        yield Floor(desk, sessions_of(database), Starter(stack, chosen, tmp_path))


def kill_token(paper: PaperControl, account_id: str, credentials: dict[str, str]) -> None:
    """The account's token dies and its lines are cut, as after a login elsewhere."""
    paper.add_account(account_id=account_id, api_key=credentials["api_key"], access_token="another")
    paper.disconnect(account_id)


@pytest.mark.slow
def test_another_tenants_account_carries_the_feed_within_seconds_of_a_tokens_death(floor: Floor) -> None:
    floor.add("acme", CREDENTIALS)
    floor.add("zenith", SECOND)
    run = floor.hold(2)
    listener = floor.start("listener")
    assert eventually(floor.is_watched), listener.logs()
    assert floor.carriers() == {"listener": 1}
    kill_token(floor.paper, "PAPER1", CREDENTIALS)
    assert eventually(lambda: floor.carriers() == {"listener": 2}, within=WITHIN), listener.logs()
    assert eventually(floor.is_watched, within=WITHIN)
    floor.paper.price(SYMBOL, STOP)
    assert eventually(lambda: floor.is_latched(run)), listener.logs()


@pytest.mark.slow
def test_two_listeners_use_two_accounts_and_share_the_last_that_lives(floor: Floor) -> None:
    floor.add("acme", CREDENTIALS)
    floor.add("zenith", SECOND)
    floor.hold()
    logs = [floor.start(name) for name in ("listener", "listener-2")]
    assert eventually(lambda: floor.carriers() == {"listener": 1, "listener-2": 2}), [each.logs() for each in logs]
    kill_token(floor.paper, "SECOND", SECOND)
    assert eventually(lambda: floor.carriers() == {"listener": 1, "listener-2": 1}, within=WITHIN), logs[1].logs()


@pytest.mark.slow
def test_an_operator_says_which_account_carries_the_feed(floor: Floor) -> None:
    floor.add("acme", CREDENTIALS)
    floor.add("zenith", SECOND)
    floor.hold()
    listener = floor.start("listener", ENGINE_FEED_ACCOUNTS="zenith/main")
    assert eventually(lambda: floor.carriers() == {"listener": 2}), listener.logs()


@pytest.mark.slow
def test_whoever_owns_the_first_account_prices_nobody_of_another_market(floor: Floor) -> None:
    with paper_broker(*PAPER) as real:
        real.add_account(account_id="KITE", **SECOND)
        real.price(SYMBOL, PRICE)
        floor.add("acme", CREDENTIALS)
        second = floor.add("zenith", SECOND, "kite", real)
        mine, theirs = floor.hold(1), floor.hold(second)
        listener = floor.start("listener")
        assert eventually(lambda: floor.is_watched(1) and floor.is_watched(second)), listener.logs()
        floor.paper.price(SYMBOL, str(Decimal(STOP) - 1))
        assert eventually(lambda: floor.is_latched(mine)), listener.logs()
        assert not floor.is_latched(theirs)
        real.price(SYMBOL, str(Decimal(STOP) - 1))
        assert eventually(lambda: floor.is_latched(theirs)), listener.logs()


@pytest.mark.slow
def test_while_every_token_is_dead_each_tenant_is_told_and_again_when_one_logs_in(floor: Floor) -> None:
    first = floor.add("acme", CREDENTIALS)
    floor.add("zenith", SECOND)
    floor.hold(1)
    listener = floor.start("listener")
    assert eventually(floor.is_watched), listener.logs()
    sweeper = floor.start("sweeper", ready=False)

    def alerts(code: str) -> list[str]:
        return [a["message"] for body in floor.desk.records("alert") for a in body["alerts"] if a["code"] == code]

    kill_token(floor.paper, "PAPER1", CREDENTIALS)
    kill_token(floor.paper, "SECOND", SECOND)
    assert eventually(lambda: bool(alerts("blind")), within=15), sweeper.logs()
    renewed = CREDENTIALS | {"access_token": "another"}
    Accounts(floor.sessions).renew(first, Credentials(renewed), datetime.now(UTC))
    for account in DurableState(floor.sessions).accounts():
        floor.desk.parts.store.write_account(account)
    assert eventually(lambda: bool(alerts("blind_over")), within=10), listener.logs()
    assert len(alerts("blind")) == 1


@pytest.mark.slow
def test_two_listeners_and_the_order_stream_fit_the_connections_of_one_account(floor: Floor) -> None:
    floor.add("acme", CREDENTIALS)
    floor.hold()
    stream = ProcessContainer(
        "orderstream", command_of("orderstream"), floor.start.chosen, floor.start.where / "o.log", "order_stream_up"
    )
    stream.start()
    try:
        assert stream.ready()
        logs = [floor.start(name) for name in ("listener", "listener-2")]
        assert eventually(lambda: floor.carriers() == {"listener": 1, "listener-2": 1}), [each.logs() for each in logs]
        # The broker would refuse a fourth; it refused none of these.
        assert not any("feed_down" in each.logs() for each in logs)
        assert "order_stream_down" not in stream.logs()
    finally:
        stream.teardown()


@pytest.mark.slow
def test_a_listener_whose_clock_was_slow_at_its_start_sees_a_breach_and_follows_a_clock_set_right(floor: Floor) -> None:
    floor.add("acme", CREDENTIALS)
    run = floor.hold()
    wall = floor.start.where / "wall"
    wall.write_text("-4")
    listener = floor.start("listener", behind=(sys.executable, "-m", "tests.shifted", str(wall)))
    assert eventually(lambda: '"subscribed"' in listener.logs())

    def breached() -> bool:
        floor.paper.price(SYMBOL, STOP)
        time.sleep(0.2)
        return floor.is_latched(run)

    assert eventually(breached, within=15), listener.logs()
    assert "clock_disagrees" in listener.logs()
    wall.write_text("0")
    assert eventually(lambda: "clock_agrees" in listener.logs()), listener.logs()
