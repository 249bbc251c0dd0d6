"""What a hundred thousand armed strategies cost: a tick's time, beside PING of the same seconds, and memory.

A tick goes the listener's way: `on_frame`, the `on_tick` script and, where it breaches, the message. All strategies are
on one symbol, the hardest case: its sorted set is the largest there can be.
"""

import math
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from redis.client import Redis

from bench.figures import Figures, p50_p99
from bench.herd import open_desk_without_broker
from bench.stand import stand
from engine.dispatch import CeleryPublisher, wake_up
from engine.domain.events import EventType
from engine.domain.feed import FeedPolicy, SymbolGuard
from engine.domain.moment import Moment
from engine.domain.orders import OrderStatus
from engine.domain.strategy import Session
from engine.domain.ticks import Tick
from engine.listener import Listener
from engine.ports import Armed
from engine.runtime import keys
from engine.runtime.store import RedisStore
from engine.schedule import RedBeatTimers
from tasks.app import app, app_at
from tests.builders import entry
from tests.desk import SYMBOL, Desk

SIZES = (100, 1_000, 10_000, 100_000)
#: Ticks that breach nothing, and ticks that breach one strategy each, at each size. As many strategies as the latter
#: are armed beyond the size, so that the set is never smaller than it says.
QUIET, BREACHES = 1_000, 300
#: The lowest stop, price units; each newer strategy's is one higher.
LOWEST = 10_000_000
#: Symbols the listener's own memory is told by.
SYMBOLS = 2_000
#: Strategies whose keys are weighed one by one.
WEIGHED = 50
#: Strategies whose timers are weighed.
TIMED = 200


def run(
    say: Callable[[str], object] = print, sizes: Sequence[int] = SIZES, quiet: int = QUIET, breaches: int = BREACHES
) -> dict[str, Any]:
    """Every size in one growing store, times in us; what `latest.json` holds under "growth"."""
    found: dict[str, Any] = {}
    a_strategy = 0
    with stand() as at, open_desk_without_broker(at) as desk:
        market = _Market(desk, _listener(desk))
        for size in sizes:
            before, known = _used_memory(desk), market.armed
            market.arm(size + breaches + 1)
            a_strategy = round((_used_memory(desk) - before) / (market.armed - known))
            found[str(size)] = market.measure(quiet, breaches)
            say(f"growth {size}: {found[str(size)]}")
        first, last = found[str(sizes[0])], found[str(sizes[-1])]
        found["grown"] = {
            "strategies": round(sizes[-1] / sizes[0], 1),
            "logarithm": round(math.log(sizes[-1]) / math.log(sizes[0]), 2),
            "quiet": round(last["quiet_p50_us"] / first["quiet_p50_us"], 2),
            "breach": round(last["breach_p50_us"] / first["breach_p50_us"], 2),
        }
        # By the largest size: what few strategies take is lost among the server's own buffers.
        found["bytes"] = (
            {"redis": a_strategy}
            | _weigh(desk, sizes[0])
            | {
                "timers": _weigh_timers(desk, at.url),
                "listener_a_symbol": market.weigh_listener(SYMBOLS),
            }
        )
    say(f"growth: {found['grown']}, {found['bytes']}")
    return found


@dataclass
class _Market:
    """One symbol's strategies and the listener that hears its ticks."""

    desk: Desk
    listener: Listener
    #: How many were armed ever; number n has the stop LOWEST + n.
    armed: int = 0
    #: The highest stop that was not breached yet.
    top: int = LOWEST

    def arm(self, wanted: int) -> None:
        """Arm strategies until `wanted` are in the symbol's set."""
        missing = wanted - self._in_set()
        far = datetime.now(UTC) + timedelta(hours=3)
        for _ in range(missing):
            self.armed += 1
            run = replace(self.desk.run(buy_in=7200), stop_units=LOWEST + self.armed)
            # It holds something from now on: what is still buying hears of every breach, and stays in the set.
            run = run.with_order(entry(OrderStatus.FILLED, run.strategy.quantity, filled_at=datetime.now(UTC)))
            assert self.desk.parts.store.arm(run, far, buying=True) is Armed.CREATED
        self.top = LOWEST + self.armed

    def measure(self, quiet: int, breaches: int) -> Figures:
        """us of a tick that breaches nothing and of one that breaches one strategy, and of PING between them."""
        redis: Redis = self.desk.parts.redis
        pings: list[float] = []
        quiets: list[float] = []
        breached: list[float] = []
        # The first message opens the line to the queue.
        self._breach()
        for _ in range(quiet):
            pings.append(_us(redis.ping))
            quiets.append(_us(partial(self._tick, self.top + 1, breaches=0)))
        before = self._in_set()
        for _ in range(breaches):
            pings.append(_us(redis.ping))
            breached.append(_us(self._breach))
        assert self._in_set() == before - breaches
        told = {"ping": p50_p99(pings), "quiet": p50_p99(quiets), "breach": p50_p99(breached)}
        figures = {f"{name}_{share}_us": value for name, both in told.items() for share, value in both.items()}
        ratios = {
            "quiet_ratio": round(told["quiet"]["p50"] / told["ping"]["p50"], 2),
            "breach_ratio": round(told["breach"]["p50"] / told["ping"]["p50"], 2),
        }
        return figures | ratios

    def weigh_listener(self, symbols: int) -> int:
        """Bytes of this process a symbol: of a strategy the listener knows nothing."""
        ticks = [Tick(f"NSE:S{number}", LOWEST, datetime.now(UTC)) for number in range(symbols)]
        self._hear(ticks[:1])
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        self._hear(ticks)
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return round((after - before) / symbols)

    def _breach(self) -> None:
        self._tick(self.top, breaches=1)
        self.top -= 1

    def _tick(self, price: int, breaches: int) -> None:
        assert self._hear([Tick(SYMBOL, price, datetime.now(UTC))]) == breaches

    def _hear(self, ticks: Sequence[Tick]) -> int:
        return self.listener.on_frame(ticks, datetime.now(UTC))

    def _in_set(self) -> int:
        count: Any = self.desk.parts.redis.zcard(keys.armed(self.desk.market, SYMBOL))
        return int(count)


def _listener(desk: Desk) -> Listener:
    now = desk.parts.clock.now().market
    session = Session(now.date(), now - timedelta(hours=1), now + timedelta(hours=6))
    parts = desk.parts
    waking = RedisStore(parts.redis, parts.epoch, parts.real.now, wake_up(app, EventType.STOPLOSS))
    return Listener(waking, desk.market, parts.clock, lambda _: SymbolGuard(FeedPolicy(), session), _keep_no_log)


def _weigh(desk: Desk, sample: int) -> dict[str, int]:
    """Bytes of one strategy's keys, the mean of some, and its share of the keys all have in common."""
    redis: Any = desk.parts.redis
    runs = redis.zrange(keys.DUE, 0, min(WEIGHED, sample) - 1)
    numbers = [int(redis.hget(keys.runtime(run), "strategy_id")) for run in runs]
    shared = {"due": keys.DUE, "armed": keys.armed(desk.market, SYMBOL), "ledger": keys.LEDGER}
    counts = {"due": redis.zcard(keys.DUE), "armed": redis.zcard(shared["armed"]), "ledger": redis.xlen(keys.LEDGER)}
    return {
        "strategy": _mean([redis.memory_usage(keys.strategy(number)) for number in numbers]),
        "runtime": _mean([redis.memory_usage(keys.runtime(run)) for run in runs]),
        **{name: round(redis.memory_usage(key, samples=0) / counts[name]) for name, key in shared.items()},
    }


def _weigh_timers(desk: Desk, url: str) -> int:
    """Bytes of one strategy's timers, BUY and SELL."""
    queue, before = app_at(url), _used_memory(desk)
    timers = RedBeatTimers(queue, desk.parts.redis, CeleryPublisher(queue, desk.parts.redis, _keep_no_log))
    now = datetime.now(UTC)
    for _ in range(TIMED):
        timers.schedule(desk.run(buy_in=7200), Moment(now, now))
    return round((_used_memory(desk) - before) / TIMED)


def _used_memory(desk: Desk) -> int:
    found: Any = desk.parts.redis.info("memory")
    return int(found["used_memory_dataset"])


def _mean(values: Sequence[int]) -> int:
    return round(sum(values) / len(values))


def _us(call: Callable[[], object]) -> float:
    began = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - began) / 1e3


def _keep_no_log(_action: str, /, **_facts: object) -> None:
    """The figures are what is printed here."""
