"""The sweeper's process: two sweeps a second."""

from engine import bootstrap
from engine.clock import ASK_EVERY
from engine.processes.loop import Stop, repeat

#: Seconds between two sweeps.
EVERY = 0.5


def main() -> None:
    """Sweep until told to stop."""
    shared = bootstrap.parts("sweeper")
    sweeper, stop = bootstrap.sweeper(shared), Stop()

    def step() -> float:
        if not shared.clock.is_announced():
            return ASK_EVERY
        nudged = sweeper.sweep()
        if nudged:
            shared.log("nudged", runs=nudged)
        return EVERY

    repeat(shared, "sweeper", step, stop)
