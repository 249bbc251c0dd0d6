"""The drainer's process: carries the ledger as fast as it grows; begins anew under each epoch."""

from collections.abc import Callable

from engine import bootstrap
from engine.ledger import Drainer
from engine.ports import Log
from engine.processes.loop import PATIENCE, Stop, repeat
from engine.runtime.epoch import EpochGuard
from models.drain import Fenced

#: Seconds between two batches. The first record of an order is written while the order is on its way: what it asks of
#: PostgreSQL, and of the machine, can wait until it has left. A batch of three records costs 16 ms of Python, one of
#: thirty 25.
PAUSE = 0.25


class Draining:
    """The drainer of whichever epoch there is."""

    def __init__(self, epoch: EpochGuard, drainer_of: Callable[[int], Drainer], log: Log) -> None:
        self._epoch = epoch
        self._drainer_of = drainer_of
        self._log = log
        self._works_under: str | None = None
        self._drainer: Drainer

    def step(self) -> float:
        """Carry one batch; returns how long to pause, seconds. Raises StoreClosed."""
        epoch = self._epoch.current()
        if epoch != self._works_under:
            self._drainer, self._works_under = self._drainer_of(int(epoch.split(":")[0])), epoch
        try:
            if not self._drainer.drain():
                # There may be nothing because this is another epoch, whose stream begins before our place in it.
                self._epoch.forget()
        except Fenced as error:
            self._log("fenced", reason=str(error))
            self._epoch.forget()
            return PATIENCE
        return PAUSE


def main() -> None:
    """Drain until told to stop."""
    shared = bootstrap.parts("drainer")
    sessions, stop = bootstrap.database(shared.settings), Stop()
    observe = bootstrap.metrics(shared)
    draining = Draining(shared.epoch, lambda epoch: bootstrap.drainer(shared, sessions, epoch, observe), shared.log)
    repeat(shared, "drainer", draining.step, stop)
