"""From tick to order, every case: what `latest.json` holds under "tick_to_order"."""

from bench import behind, burst, opening, tick
from bench.tick import Figures, Say


def run(say: Say = print) -> Figures:
    """Every case; the first two stand beside a floor of their own, the others beside the first."""
    return {
        "idle": tick.idle(say),
        f"burst_{burst.BREACHES}": burst.burst(say),
        "open": opening.opening(say),
        f"behind_{behind.WAITING}": behind.behind(say),
    }
