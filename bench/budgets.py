"""The budgets an order is held to: queue pop, lock and a Redis operation under 1 ms each, a BUY or SELL in 100-300 ms.

The small ones are called as the engine calls them, PING between them; a cycle runs through beat and the real workers,
at a broker that takes 100 ms to answer.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from bench.figures import Figures, p50_p99
from bench.herd import open_desk_without_broker
from bench.stand import Stand, sleep_until, stand, wait
from broker_connector.paper.process import paper_broker
from engine.dispatch import TASK_OF, CeleryPublisher
from engine.domain.events import EventType
from engine.domain.moment import Moment
from engine.domain.run import Position, Run
from engine.ports import Holding, Note, Slot
from engine.runtime import keys
from engine.schedule import TOO_CLOSE, RedBeatTimers
from tasks.app import app_at
from tests.desk import PAPER, Desk, event_of, open_desk

#: How often each small operation is measured.
OPERATIONS = 1_000
#: Trades, and seconds from one to the next.
CYCLES, APART = 50, 0.1
#: What the broker takes to answer, seconds.
BROKER = 0.1
#: The lists a worker of orders waits on, as kombu names them.
LISTS = ("orders", "orders:3", "orders:6", "orders:9")
WORKERS = ("orders", "maintenance")


def run(say: Callable[[str], object] = print) -> dict[str, Figures]:
    """ms of every budget's subject; what `latest.json` holds under "budgets"."""
    with stand() as at, open_desk_without_broker(at) as desk:
        found = operations(at, desk, OPERATIONS)
    with stand() as at, paper_broker(*PAPER) as paper, open_desk(at.url, paper) as desk:
        found |= cycles(at, desk, CYCLES)
    for name, figures in found.items():
        say(f"budget {name}: {figures}")
    return found


def operations(at: Stand, desk: Desk, count: int) -> dict[str, Figures]:
    """ms of each operation and its median in PINGs, all in turn, so that each meets the same machine."""
    redis: Any = desk.parts.redis
    store, note = desk.parts.store, Note("bench", outcome="measured")
    runs = [desk.arm(buy_in=3600) for _ in range(count)]
    queue = app_at(at.url)
    taken: dict[str, list[float]] = {name: [] for name in ("ping", "queue_pop", "lock", "read", "write", "commit")}

    def measure(name: str, call: Callable[[], Any]) -> Any:
        began = time.perf_counter_ns()
        answer = call()
        taken[name].append((time.perf_counter_ns() - began) / 1e6)
        return answer

    for each in runs:
        event = event_of(each, EventType.BUY)
        queue.send_task(TASK_OF[event.type], args=(event.as_wire(),))
        measure("ping", redis.ping)
        assert measure("queue_pop", lambda: redis.brpop(LISTS, 1)) is not None
        name = str(each.id)
        measure("read", lambda name=name: redis.hgetall(keys.runtime(name)))  # type: ignore[misc]
        measure("write", lambda name=name: redis.hset(keys.price("bench", name), "price", 1))  # type: ignore[misc]
        held = measure("lock", lambda event=event: store.claim(event, event.id, Slot.ENTRY))  # type: ignore[misc]
        assert isinstance(held, Holding)
        measure("commit", lambda held=held: store.commit(held, "c0", held.run, None, note, release=True))  # type: ignore[misc]
    floor = p50_p99(taken["ping"], 3)
    return {
        name: (figures := p50_p99(values, 3)) | {"ratio": round(figures["p50"] / floor["p50"], 2)}
        for name, values in taken.items()
    }


def cycles(at: Stand, desk: Desk, count: int) -> dict[str, Figures]:
    """ms from the instant a trade is due to its commit, by the ledger's own stamps."""
    queue = app_at(at.url)
    # What the order stream says must reach the workers of this stand.
    desk.parts = replace(desk.parts, publisher=CeleryPublisher(queue, desk.parts.redis, desk.parts.log))
    at.start_from_procfile("beat", ready="leads")
    for name in WORKERS:
        at.start_from_procfile(f"worker-{name}")
    wait(lambda: all(desk.parts.redis.exists(keys.process(name)) for name in WORKERS), 30, "no worker is ready")
    desk.paper.fault("slow", operation="place", times=2 * count, seconds=BROKER)
    lasts = timedelta(seconds=count * APART)
    first = datetime.now(UTC) + TOO_CLOSE + timedelta(seconds=1)
    sells_from = first + lasts + timedelta(seconds=3)
    runs = [_timed(desk, queue, first + step, sells_from + step) for step in _steps(count)]
    # Who polls takes from what is measured.
    sleep_until(first + lasts)
    wait(lambda: len(_committed(desk, "entry_accepted")) == count, 60, "not every entry was accepted")
    desk.hear()
    wait(lambda: all(desk.live(each).position is Position.BOUGHT for each in runs), 60, "not every entry was told of")
    sleep_until(sells_from + lasts)
    wait(lambda: len(_committed(desk, "exit_accepted")) == count, 60, "not every exit was accepted")
    buys, sells = _committed(desk, "entry_accepted"), _committed(desk, "exit_accepted")
    return {
        "buy_cycle": p50_p99([buys[str(each.id)] - _ms(each.buy_at) for each in runs]),
        "sell_cycle": p50_p99([sells[str(each.id)] - _ms(each.sell_at) for each in runs]),
    }


def _timed(desk: Desk, queue: Any, buy_at: datetime, sell_at: datetime) -> Run:
    """A run armed and with its timers set."""
    run = replace(desk.run(), buy_at=buy_at, sell_at=sell_at)
    desk.parts.store.arm(run, run.buy_at, buying=False)
    now = datetime.now(UTC)
    RedBeatTimers(queue, desk.parts.redis, CeleryPublisher(queue, desk.parts.redis, desk.parts.log)).schedule(
        run, Moment(now, now)
    )
    return run


def _steps(count: int) -> Sequence[timedelta]:
    return [timedelta(seconds=number * APART) for number in range(count)]


def _committed(desk: Desk, kind: str) -> dict[str, float]:
    """When the record of `kind` of each run was written, ms since the epoch."""
    entries: Any = desk.parts.redis.xrange(keys.LEDGER)
    return {
        fields["run"]: float(entry.split("-")[0])
        for entry, fields in entries
        if json.loads(fields["body"])["kind"] == kind
    }


def _ms(at: datetime) -> float:
    return at.timestamp() * 1e3
