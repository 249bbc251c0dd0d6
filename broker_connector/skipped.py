"""Counts the rows of a broker that were left out because they provably concern nobody here, and tells of each kind.

Knows no broker.
"""

import threading
from collections import Counter
from collections.abc import Callable, Mapping

#: Kinds that are told apart; what comes after them is counted as one, for a broker can write anything.
MOST_KINDS = 100
_REST = "of other kinds"


class Skipped:
    """What was left out, by kind, since it was made. Safe to use from many threads."""

    def __init__(self, tell: Callable[[str, int], None] | None = None) -> None:
        """`tell`: called with a kind and its count at the 1st, 10th, 100th ... of it."""
        self._tell = tell
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    @property
    def counts(self) -> Mapping[str, int]:
        """How many were left out, by kind."""
        return dict(self._counts)

    def count(self, kind: str) -> None:
        """One more of `kind`."""
        with self._lock:
            if kind not in self._counts and len(self._counts) >= MOST_KINDS:
                kind = _REST
            self._counts[kind] += 1
            number = self._counts[kind]
        if self._tell is not None and str(number).strip("0") == "1":
            self._tell(kind, number)
