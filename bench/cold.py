"""What a rest costs: the same lines of Python, called again at once and after a while, in a thread of an idle machine.

They read a breach's message as the stop-loss worker does: the gate, the event, the run it tells. A thread that slept
and one that was busy doing nothing are told apart, so that waking a core is not taken for it.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson

from bench.figures import percentile
from bench.stand import stand
from bench.tick import SYMBOL, bought
from bench.trading import OPENS_AT
from broker_connector.paper.process import paper_broker
from engine.dispatch import wake_up
from engine.domain.events import EventType, parse_event
from engine.domain.ticks import Tick
from engine.runtime.readings import glanced
from engine.runtime.store import RedisStore
from tasks import execution, intake
from tasks.app import app
from tests.desk import PAPER, open_desk

#: ms between two calls, and calls.
RESTS, CALLS = (0.0, 1.0, 10.0, 50.0), 200
#: What is timed by itself.
PARTS = ("gate", "event", "run")


def run(say: Callable[[str], object] = print, calls: int = CALLS) -> dict[str, Any]:
    """us at the median; what `latest.json` holds under "cold"."""
    queue, raw = a_message()
    found: dict[str, Any] = {}
    for rest in RESTS:
        found[f"{rest:g}_ms"] = told = {how.__name__: _median(queue, raw, calls, rest, how) for how in (slept, spun)}
        say(f"cold, after {rest:g} ms: {told}")
    return found


def a_message() -> tuple[str, bytes]:
    """What the listener sends of a breach of a run that holds, and the queue it lies in."""
    with stand() as at, paper_broker(*PAPER) as paper, open_desk(at.url, paper) as desk:
        bought(desk, [OPENS_AT])
        parts, message = desk.parts, wake_up(app, EventType.STOPLOSS)
        listening = RedisStore(parts.redis, parts.epoch, parts.real.now, message)
        now = datetime.now(UTC)
        assert len(listening.on_tick(desk.market, [Tick(SYMBOL, OPENS_AT, now)], now, "cold")) == 1
        return message.queue, str(parts.redis.rpop(message.queue)).encode()


def slept(ms: float) -> None:
    """Rest asleep."""
    time.sleep(ms / 1e3)


def spun(ms: float) -> None:
    """Rest busy."""
    until = time.perf_counter() + ms / 1e3
    while time.perf_counter() < until:
        pass


def _median(queue: str, raw: bytes, calls: int, rest: float, rested: Callable[[float], object]) -> dict[str, float]:
    took: dict[str, list[float]] = {part: [] for part in PARTS}
    for _ in range(calls):
        rested(rest)
        at = [time.perf_counter_ns()]
        asked = intake.check(raw, queue, {execution.stoploss.name}, orjson.loads)
        at.append(time.perf_counter_ns())
        event = parse_event(*asked.arguments)
        at.append(time.perf_counter_ns())
        assert glanced(event, "token", asked.more["reading"]) is not None
        at.append(time.perf_counter_ns())
        for part, began, ended in zip(PARTS, at, at[1:], strict=False):
            took[part].append((ended - began) / 1e3)
    return {part: round(percentile(us, 0.5), 1) for part, us in took.items()}
