"""How figures are told."""

import statistics
from collections.abc import Sequence


def told(ms: Sequence[float]) -> dict[str, float]:
    """p50 and p99 of so many values in ms."""
    cuts = statistics.quantiles(ms, n=100, method="inclusive")
    return {"p50_ms": round(statistics.median(ms), 3), "p99_ms": round(cuts[98], 3)}
