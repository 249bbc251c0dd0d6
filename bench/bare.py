"""The floor of a herd's orders: the same three scripts and the same POST, with the same clients, and nothing else."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from bench.recorded import Recorded, names_of, record
from engine.domain.events import EventType
from engine.domain.orders import Leg
from engine.domain.run import Run
from tests.desk import Desk


class Bare:
    """A loop over `runs` on so many threads."""

    def __init__(self, desk: Desk, runs: Sequence[Run], threads: int) -> None:
        self._threads = threads
        model = desk.arm(buy_in=0)
        recorded, self._scripts, self._line = record(desk, model, EventType.BUY)
        self._ready = [recorded.renamed(names_of(desk, model, run, Leg.ENTRY)) for run in runs]
        epoch = recorded.before[0][2][0]
        # Its own order is not counted, and every connection stands before the clock runs.
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(self._warm, [epoch] * threads * 4))
        desk.paper.reset()

    def run(self) -> None:
        """All of them, as fast as it goes."""
        with ThreadPoolExecutor(self._threads) as pool:
            list(pool.map(self._one, self._ready))

    def _one(self, calls: Recorded) -> None:
        for call in calls.before:
            self._scripts.call(*call)
        self._line.send("POST", "/orders/regular", calls.form)
        for call in calls.after:
            self._scripts.call(*call)

    def _warm(self, epoch: str) -> None:
        self._scripts.call("extend", ["engine:epoch", "lock_state:none", "runtime:none"], [epoch, "none", "1", "none"])
        self._line.send("GET", "/user/profile")
