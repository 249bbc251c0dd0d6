"""What is said of many measured values."""

import math
from collections.abc import Sequence

Figures = dict[str, float]


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of `values` that at least `share` (0 to 1) of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def p50_p99(values: Sequence[float], digits: int = 1) -> Figures:
    """Median and 99th percentile, in the unit of `values`."""
    return {"p50": round(percentile(values, 0.5), digits), "p99": round(percentile(values, 0.99), digits)}


def told(ms: Sequence[float]) -> Figures:
    """p50 and p99 of so many values in ms, as results name them."""
    return {"p50_ms": round(percentile(ms, 0.5), 3), "p99_ms": round(percentile(ms, 0.99), 3)}
