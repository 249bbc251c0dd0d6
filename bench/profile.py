"""`python -m bench.profile`: where the CPU of one stop-loss exit goes, by function; writes bench/results/profile.txt.

The ten steps of STOPLOSS in one thread, on real servers, under cProfile, which makes calls of Python cost more than
they do: shares are to be read, not times. What waits for Redis or the broker is in `recv_into` and `send`.
"""

import cProfile
import pstats
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from bench.stand import ROOT, stand
from bench.tick import bought
from bench.trading import OPENS_AT
from broker_connector.paper.process import paper_broker
from engine import bootstrap
from engine.domain.events import EventType
from tests.desk import PAPER, event_of, open_desk

RESULT = Path(__file__).parent / "results" / "profile.txt"
#: Exits that are profiled, those before them, and functions that are shown.
EXITS, WARM, SHOWN = 300, 30, 40


def run(say: Callable[[str], object] = print, exits: int = EXITS, warm: int = WARM) -> str:
    """The profile's text: us an exit, own and with what it calls, and calls an exit."""
    profiler = cProfile.Profile()
    with stand() as at, paper_broker(*PAPER) as paper, open_desk(at.url, paper) as desk:
        runs = bought(desk, [OPENS_AT] * (warm + exits))
        pipeline = bootstrap.pipeline(desk.parts)
        events = []
        for each in runs:
            desk.ask(each, latch_price=str(OPENS_AT), latch_time="1", latch_event="profile")
            events.append(event_of(each, EventType.STOPLOSS).as_wire())
        for event in events[:warm]:
            pipeline.process(event)
        say(f"{exits} exits under the profiler")
        profiler.enable()
        for event in events[warm:]:
            pipeline.process(event)
        profiler.disable()
        assert len(desk.sent("sell")) == len(runs)
    return "\n".join(_lines(pstats.Stats(profiler), exits)) + "\n"


def _lines(stats: Any, exits: int) -> Iterator[str]:
    whole = stats.total_tt
    yield f"{exits} exits, {whole / exits * 1e6:.0f} us each under the profiler"
    yield ""
    yield "by place, own time"
    by_place: dict[str, float] = {}
    for (file, _, name), (_, _, own, _, _) in stats.stats.items():
        by_place[_place(file, name)] = by_place.get(_place(file, name), 0.0) + own
    for place, own in sorted(by_place.items(), key=lambda item: -item[1])[:SHOWN]:
        yield f"{own / whole:6.1%} {own / exits * 1e6:7.0f} us  {place}"
    yield ""
    yield "by function of ours, with what it calls"
    yield from _functions(stats, exits, whole)


def _functions(stats: Any, exits: int, whole: float) -> Iterable[str]:
    ours = [
        (total, own, calls, f"{_place(file, name)} {name}")
        for (file, _, name), (_, calls, own, total, _) in stats.stats.items()
        if file.startswith(str(ROOT)) and "site-packages" not in file
    ]
    for total, own, calls, where in sorted(ours, reverse=True)[:SHOWN]:
        us, own_us = total / exits * 1e6, own / exits * 1e6
        yield f"{total / whole:6.1%} {us:7.0f} us  own {own_us:5.0f}  x{calls / exits:4.1f}  {where}"


def _place(file: str, name: str) -> str:
    """A module by its path within whatever holds it; what is no Python by its name."""
    if "/" not in file:
        return name
    return file.rsplit("site-packages/", maxsplit=1)[-1].removeprefix(f"{ROOT}/").removeprefix(f"{sys.base_prefix}/")


def main() -> None:
    """Profile and write what was found."""
    RESULT.write_text(run(), encoding="utf-8")
    print(f"written to {RESULT}")


if __name__ == "__main__":
    main()
