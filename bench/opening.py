"""A market's open: every instrument ticks three times a second, and now and then a stop of thousands is breached."""

import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import celeryconfig
from bench.feed import frame_of
from bench.figures import told
from bench.stand import wait
from bench.tick import Figures, Say, stages_of
from bench.trading import OPENS_AT, Trading, trading
from engine.runtime import keys

#: The least a price moves, units.
STEP = 5
#: Seconds by which the others' buying lies behind the end of the market's play and of their arming.
LIE_LONGER = 60


@dataclass(frozen=True, slots=True)
class Size:
    """How much of a market opens, and for how long."""

    instruments: int = 3000
    #: Armed strategies, those that are breached among them.
    armed: int = 10_000
    frames_per_s: int = 100
    ticks_per_frame: int = 90
    #: Frames from one breach to the next.
    frames_per_breach: int = 5
    seconds: int = 60

    @property
    def breaches(self) -> int:
        """Stops that are breached in all."""
        return self.seconds * self.frames_per_s // self.frames_per_breach


def opening(say: Say, size: Size | None = None) -> Figures:
    """Tick to order, ms; ticks a second; the listener's share of a core; the longest queue and ledger seen."""
    chosen = size or Size()
    names = [f"S{number:04}" for number in range(chosen.instruments)]
    script = Script(chosen)
    with trading(say, names=names) as engine:
        runs = engine.hold([(f"NSE:{names[each]}", stop) for each, stop in script.breached], say)
        _arm_others(engine, names, chosen, say)
        wait(lambda: engine.feed.listeners > 0, 20, "nobody listens to the feed")
        tokens = [engine.tokens[f"NSE:{name}"] for name in names]
        for some in _batches([(token, OPENS_AT) for token in tokens], 100):
            engine.feed.send(frame_of(some))
        time.sleep(2)
        say(f"the market opens for {chosen.seconds} s")
        with Watch(engine) as watch:
            took = _play(engine, script, tokens)
        found = engine.exits(runs, within=60)
    ticks = chosen.seconds * chosen.frames_per_s * chosen.ticks_per_frame
    exits = [*found.values()]
    figures = told([each.ms for each in exits]) | {"ticks_per_s": round(ticks / took)} | watch.told(took)
    return figures | {"stages": stages_of(exits)}


class Script:
    """Which instrument's tick falls through which stop, and in which frame."""

    def __init__(self, size: Size) -> None:
        self.size = size
        #: (instrument, stop in units), in their order.
        self.breached: list[tuple[int, int]] = []
        lowest: dict[int, int] = {}
        for number in range(size.breaches):
            first = number * size.frames_per_breach * size.ticks_per_frame
            # Somewhere in its frame, and an instrument's stops one below the other.
            instrument = (first + number * 37 % size.ticks_per_frame) % size.instruments
            lowest[instrument] = lowest.get(instrument, OPENS_AT - 20 * STEP) - STEP
            self.breached.append((instrument, lowest[instrument]))

    def frames(self, tokens: Sequence[int]) -> Iterator[list[tuple[int, int]]]:
        """Each frame's (token, price)."""
        size = self.size
        for number in range(size.seconds * size.frames_per_s):
            begin = number * size.ticks_per_frame
            prices = {
                each % size.instruments: OPENS_AT - STEP * (each // size.instruments % 5)
                for each in range(begin, begin + size.ticks_per_frame)
            }
            breach, left = divmod(number, size.frames_per_breach)
            if left == 0:
                instrument, stop = self.breached[breach]
                prices[instrument] = stop
            yield [(tokens[each], price) for each, price in prices.items()]


def _arm_others(engine: Trading, names: Sequence[str], size: Size, say: Say) -> None:
    """Strategies whose stop is far below: armed by hand, for what a tick looks through is the set of stops."""
    others = size.armed - size.breaches
    say(f"{others} more are armed")
    stops = [(f"NSE:{names[number % len(names)]}", OPENS_AT // 2) for number in range(others)]
    runs, _ = engine.add(stops, timedelta(seconds=LIE_LONGER + size.seconds + others / 60))
    redis: Any = engine.stack.redis
    wait(lambda: redis.zcard(keys.DUE) >= others, 120, "not every strategy came to life", every=1)
    with redis.pipeline(transaction=False) as pipe:
        for (symbol, stop), run in zip(stops, runs, strict=True):
            pipe.zadd(keys.armed(engine.market, symbol), {str(run): stop})
        pipe.execute()


def _play(engine: Trading, script: Script, tokens: Sequence[int]) -> float:
    """Send every frame at its time; the seconds it took."""
    begun = time.monotonic()
    for number, prices in enumerate(script.frames(tokens)):
        frame = frame_of(prices)
        time.sleep(max(0.0, begun + number / script.size.frames_per_s - time.monotonic()))
        engine.feed.send(frame)
    return time.monotonic() - begun


class Watch:
    """Looks at the listener and the queues while the market plays."""

    def __init__(self, engine: Trading) -> None:
        self._redis: Any = engine.stack.redis
        pid = engine.stack.states()["listener"][1]
        assert pid is not None
        self._stat = Path(f"/proc/{pid}/stat")
        self._queues = [
            queue.name if step == 0 else f"{queue.name}:{step}"
            for queue in celeryconfig.task_queues
            for step in celeryconfig.PRIORITY_STEPS
        ]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, name="watch", daemon=True)
        self._longest = 0
        self._ledger: list[int] = []

    def __enter__(self) -> "Watch":
        self._cpu = self._seconds()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._cpu = self._seconds() - self._cpu
        self._ended.set()
        self._thread.join()

    def told(self, took: float) -> Figures:
        """Its figures, for a market of `took` seconds."""
        return {
            "listener_core": round(self._cpu / took, 2),
            "queue_longest": self._longest,
            "ledger_longest": max(self._ledger),
            "ledger_at_end": self._ledger[-1],
        }

    def _look(self) -> None:
        while not self._ended.wait(0.5):
            with self._redis.pipeline(transaction=False) as pipe:
                for name in self._queues:
                    pipe.llen(name)
                pipe.xlen(keys.LEDGER)
                *lengths, ledger = pipe.execute()
            self._longest = max(self._longest, *lengths)
            self._ledger.append(ledger)

    def _seconds(self) -> float:
        """The CPU the listener has used."""
        fields = self._stat.read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _batches(items: Sequence[tuple[int, int]], size: int) -> Iterator[Sequence[tuple[int, int]]]:
    return (items[begin : begin + size] for begin in range(0, len(items), size))
