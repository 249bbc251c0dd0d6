"""Each account's share of a pool's threads, so that no account whose broker hangs can hold them all.

What would exceed a share is put aside, and begins as soon as the account lets go of a thread. Knows nothing of the
engine: an owner is whatever a job says it is.
"""

import heapq
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable
from typing import NamedTuple


class Job(NamedTuple):
    """What a thread runs. Ordered by priority (0 is the most urgent), then by arrival; numbers differ."""

    priority: int
    number: int
    run: Callable[[], object]
    #: What it does; of two alike that wait one is enough. None: each counts.
    does: Hashable = None
    #: Asked by the thread that takes it, for it may take a round trip: whose share it is on. None: on nobody's.
    whose: Callable[[], Hashable] = lambda: None
    #: Whether it may open a position: then it leaves some threads to exits.
    is_entry: bool = False


def part(threads: int, one_in: int) -> int:
    """One in so many of a pool's threads, and never none."""
    return max(1, threads // one_in)


class Shares:
    """Counts the threads each owner holds. Safe to use from many threads."""

    def __init__(self, most: int) -> None:
        """`most`: threads one owner may hold."""
        self._most = most
        self._held: Counter[Hashable] = Counter()
        self._aside: defaultdict[Hashable, list[Job]] = defaultdict(list)
        self._lock = threading.Lock()

    def take(self, owner: Hashable, job: Job) -> bool:
        """Take a thread for `owner`; False: it holds its share, and `job` is put aside."""
        if owner is None:
            return True
        with self._lock:
            if self._held[owner] >= self._most:
                heapq.heappush(self._aside[owner], job)
                return False
            self._held[owner] += 1
            return True

    def give_back(self, owner: Hashable) -> Job | None:
        """Let go of a thread of `owner`; the most urgent job it had to put aside, if any, may be taken again."""
        if owner is None:
            return None
        with self._lock:
            self._held[owner] -= 1
            if not self._held[owner]:
                del self._held[owner]
            waiting = self._aside.get(owner)
            job = heapq.heappop(waiting) if waiting else None
            if waiting is not None and not waiting:
                del self._aside[owner]
            return job
