"""An account's rate budget: how many orders a window it may send, and which share of them only exits may use."""

from collections.abc import Mapping

#: One order in so many is kept for exits: entries can then never use up a window that an exit needs.
RESERVED_ONE_IN = 5


def limits_of(rates: Mapping[str, int]) -> dict[str, int]:
    """`rates`, orders a window, as limits of an account: `rate_{window}`, and `reserve_{window}` for exits."""
    limits = {f"rate_{window}": limit for window, limit in rates.items()}
    return limits | {f"reserve_{window}": _reserve(limit) for window, limit in rates.items()}


def _reserve(limit: int) -> int:
    """At least one, but never all: an account of one order a window must be able to buy."""
    return max(0, min(limit - 1, max(1, limit // RESERVED_ONE_IN)))
