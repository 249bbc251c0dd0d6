"""The sweeper's process: two sweeps a second, and one look a second at what is held blind, or was left over a night."""

import time

from engine import bootstrap
from engine.clock import ASK_EVERY
from engine.processes.loop import Stop, repeat

#: Seconds between two sweeps.
EVERY = 0.5
#: Seconds between two looks at what is held.
WATCH_EVERY = 1.0


def main() -> None:
    """Sweep until told to stop."""
    shared = bootstrap.parts("sweeper")
    sweeper, stop = bootstrap.sweeper(shared), Stop()
    bootstrap.watch_clock(shared)
    overnight, watch, watched = bootstrap.overnight(shared), bootstrap.blind_watch(shared), 0.0

    def step() -> float:
        nonlocal watched
        if not shared.clock.is_announced():
            return ASK_EVERY
        nudged = sweeper.sweep()
        if nudged:
            shared.log("nudged", runs=nudged)
        if time.monotonic() >= watched + WATCH_EVERY:
            watched = time.monotonic()
            overnight.look()
            watch.look(shared.clock.now())
        return EVERY

    repeat(shared, "sweeper", step, stop)
