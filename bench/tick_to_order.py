"""From tick to order, every case: what `latest.json` holds under "tick_to_order"."""

from bench import burst, tick
from bench.tick import Figures, Say


def run(say: Say = print) -> Figures:
    """Every case, each beside its own floor."""
    return {"idle": tick.idle(say), f"burst_{burst.BREACHES}": burst.burst(say)}
