"""A Redis that refuses is a Redis that is away: nothing ends of it, and a breach of those seconds is sold after it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import (
    BusyLoadingError,
    ClusterDownError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from engine.domain.events import EventType
from engine.domain.feed import FeedPolicy, SymbolGuard
from engine.domain.orders import OrderStatus, Side
from engine.domain.ticks import Tick
from engine.listener import Listener
from engine.ports import StoreClosed, StoreFault
from engine.runtime import keys
from engine.runtime.scripts import is_fault
from engine.stack.valkey import EmbeddedValkey
from tests.builders import SESSION, STOP, SYMBOL, event, evidence, run, strategy, tick
from tests.builders import book_entry as line
from tests.livestate import ACCOUNT, LiveState, open_live_state
from tests.processes import eventually
from tests.world import World

BOSS = ("boss", "boss-password")


@pytest.fixture(scope="module")
def server(servers_dir: Path) -> Iterator[EmbeddedValkey]:
    """A server of its own, for its settings are changed."""
    own = EmbeddedValkey(servers_dir / "refusing", options={"save": '"3600 1000000"', "appendonly": "no"})
    own.start()
    yield own
    own.stop()


@contextmanager
def operator_of(server: EmbeddedValkey) -> Iterator[Any]:
    """An operator of an empty server, whom none of the refusals meets."""
    client: Any
    with Redis.from_url(server.url) as client:
        client.flushall()
        client.execute_command("ACL SETUSER", BOSS[0], "on", f">{BOSS[1]}", "~*", "&*", "+@all")
    host, _, port = server.url.removesuffix("/0").rpartition("@")[2].partition(":")
    with Redis(host=host, port=int(port), username=BOSS[0], password=BOSS[1], decode_responses=True) as operator:
        yield operator


@pytest.fixture
def boss(server: EmbeddedValkey) -> Iterator[Any]:
    with operator_of(server) as operator:
        yield operator


@pytest.fixture
def live(boss: Any, server: EmbeddedValkey) -> Iterator[LiveState]:
    state = open_live_state(boss, server.url)
    yield state
    state.client.close()


@contextmanager
def setting(boss: Any, name: str, value: str) -> Iterator[None]:
    before = boss.config_get(name)[name]
    boss.config_set(name, value)
    try:
        yield
    finally:
        boss.config_set(name, before)


@contextmanager
def full(boss: Any, _data: Path) -> Iterator[None]:
    with setting(boss, "maxmemory", "1"):
        yield


@contextmanager
def replica(boss: Any, _data: Path) -> Iterator[None]:
    boss.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        yield
    finally:
        boss.execute_command("REPLICAOF", "NO", "ONE")


@contextmanager
def stale_replica(boss: Any, data: Path) -> Iterator[None]:
    with setting(boss, "replica-serve-stale-data", "no"), replica(boss, data):
        yield


@contextmanager
def without_replicas(boss: Any, _data: Path) -> Iterator[None]:
    with setting(boss, "min-replicas-to-write", "1"):
        yield


@contextmanager
def not_saving(boss: Any, data: Path) -> Iterator[None]:
    in_the_way = data / "dump.rdb" / "in-the-way"
    # What a replica was made with lies there.
    in_the_way.parent.unlink(missing_ok=True)
    in_the_way.mkdir(parents=True)
    boss.bgsave()
    assert eventually(lambda: boss.info("persistence")["rdb_last_bgsave_status"] == "err")
    try:
        yield
    finally:
        in_the_way.rmdir()
        in_the_way.parent.rmdir()
        boss.save()


@contextmanager
def forbidden(boss: Any, _data: Path) -> Iterator[None]:
    boss.execute_command("ACL SETUSER", "default", "-evalsha")
    try:
        yield
    finally:
        boss.execute_command("ACL SETUSER", "default", "+evalsha")


@contextmanager
def locked_out(boss: Any, _data: Path) -> Iterator[None]:
    boss.execute_command("ACL SETUSER", "default", "off")
    boss.execute_command("CLIENT", "KILL", "USER", "default")
    try:
        yield
    finally:
        boss.execute_command("ACL SETUSER", "default", "on")


@contextmanager
def not_loading(boss: Any, _data: Path) -> Iterator[None]:
    boss.execute_command("ACL SETUSER", "default", "-script")
    boss.script_flush()
    try:
        yield
    finally:
        boss.execute_command("ACL SETUSER", "default", "+script")


@contextmanager
def busy(boss: Any, _data: Path) -> Iterator[None]:
    def go_round() -> None:
        with pytest.raises(ResponseError):
            boss.eval("while true do end", 0)

    with setting(boss, "busy-reply-threshold", "10"):
        thread = threading.Thread(target=go_round)
        thread.start()
        assert eventually(lambda: _refuses(boss))
        try:
            yield
        finally:
            boss.script_kill()
            thread.join()


def _refuses(boss: Any) -> bool:
    try:
        boss.get("anything")
    except RedisError:
        return True
    return False


def _sold(world: World) -> bool:
    # A claim may have been half refused: its lease ends by the server's clock.
    world.pass_time(1)
    return len(world.sides()) > 1


REFUSALS = [
    full, replica, stale_replica, without_replicas, not_saving, forbidden, locked_out, not_loading, busy,
]  # fmt: skip


class Watch:
    """A bought run, armed, with the listener that watches its symbol and everyone who serves it."""

    def __init__(self, live: LiveState) -> None:
        self.world = World(live)
        self.world.buy()
        self.listener = Listener(
            live.store, ACCOUNT.market, self.world.clock, lambda _: SymbolGuard(FeedPolicy(), SESSION), self.world.log
        )
        assert self.frame(tick(10_000)) == 0

    def frame(self, *ticks: Tick) -> int:
        return self.listener.on_frame(ticks, self.world.clock.real)


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda each: each.__name__)
def test_a_breach_while_redis_refuses_is_sold_once_it_does_not(
    live: LiveState, boss: Any, server: EmbeddedValkey, refusal: Callable[..., object]
) -> None:
    watch = Watch(live)
    world = watch.world
    told = line(evidence(world.run().orders[0], OrderStatus.FILLED, 10))
    with refusal(boss, server.data_dir):  # type: ignore[attr-defined]
        assert watch.frame(tick(STOP, 1)) == 0
        assert watch.frame(tick(10_000, 2)) == 0
        calls: list[Callable[[], object]] = [
            lambda: world.pipeline.process(event(EventType.STOPLOSS, "sl").as_wire()),
            lambda: world.stream.on_update(told, 1),
            lambda: live.store.note(event(EventType.BUY, "other"), "ignored"),
        ]
        for call in calls:
            with pytest.raises(StoreClosed) as refused:
                call()
            assert not isinstance(refused.value, StoreFault)
        with suppress(StoreClosed):
            # Where nothing is due it writes nothing, and reading may be allowed.
            world.sweeper.sweep()
    assert watch.listener.on_pause() == 1
    assert eventually(lambda: _sold(world), within=5)
    assert [side for side, _ in world.sides()] == [Side.BUY, Side.SELL]


def test_flushed_scripts_are_loaded_again(live: LiveState, boss: Any) -> None:
    watch = Watch(live)
    boss.script_flush()
    assert watch.frame(tick(STOP, 1)) == 1


def test_what_one_symbols_state_breaks_holds_no_other_symbol_back_and_is_told_once(live: LiveState, boss: Any) -> None:
    watch, other = Watch(live), "NSE:INFY"
    live.arm(run(spec=strategy(id=20, symbol=other)))
    live.arm(run(spec=strategy(id=21)))
    boss.delete(keys.price(ACCOUNT.market, SYMBOL))
    boss.set(keys.price(ACCOUNT.market, SYMBOL), "what a foreign hand wrote")
    assert watch.frame(tick(STOP, 1), tick(STOP, 1, symbol=other)) == 1
    assert watch.frame(tick(STOP + 100, 2), tick(STOP, 2, symbol=other)) == 0
    assert watch.world.alerts() == ["symbol_broken"]
    boss.delete(keys.price(ACCOUNT.market, SYMBOL))
    # Its low was kept all the while.
    assert watch.listener.on_pause() == 2
    assert watch.frame(tick(STOP + 100, 3)) == 0
    assert watch.world.alerts() == ["symbol_broken"]


@pytest.mark.parametrize(
    ("error", "is_a_fault"),
    [
        (ResponseError("user_script:12: attempt to compare nil with number script: a, on @user_script:12."), True),
        (ResponseError("hash value is not an integer script: a, on @user_script:9."), True),
        (ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"), True),
        (ResponseError("BUSY Redis is busy running a script."), False),
        (ResponseError("MISCONF Redis is configured to save RDB snapshots script: a, on @user_script:9."), False),
        (ResponseError("WHATEVER a later server says script: a, on @user_script:9."), False),
        (ResponseError("ACL failure in script: The user can't run this script: a, on @user_script:9."), False),
        (ResponseError("unknown command"), False),
        (OutOfMemoryError("command not allowed script: a, on @user_script:9."), False),
        (ReadOnlyError("You can't write against a read only replica. script: a, on @user_script:9."), False),
        (NoScriptError("No matching script."), False),
        (ClusterDownError("CLUSTERDOWN Hash slot not served"), False),
        (BusyLoadingError("LOADING"), False),
        (RedisConnectionError("gone"), False),
    ],
)
def test_only_a_script_that_failed_by_itself_is_a_fault(error: RedisError, is_a_fault: bool) -> None:
    assert is_fault(error) is is_a_fault
