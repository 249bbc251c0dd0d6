"""The drainer's process: carries the ledger as fast as it grows; begins anew under each epoch."""

from engine import bootstrap
from engine.ledger import Drainer
from engine.processes.loop import PATIENCE, Stop, repeat
from models.drain import Fenced

#: Seconds between two batches. The first record of an order is written while the order is on its way: what it asks of
#: PostgreSQL, and of the machine, can wait until it has left. A batch of three records costs 16 ms of Python, one of
#: thirty 25.
PAUSE = 0.25


def main() -> None:
    """Drain until told to stop."""
    shared = bootstrap.parts("drainer")
    sessions, stop = bootstrap.database(shared.settings), Stop()
    observe = bootstrap.metrics(shared)
    current: dict[str, Drainer] = {}

    def step() -> float:
        epoch = shared.epoch.current()
        if epoch not in current:
            current.clear()
            current[epoch] = bootstrap.drainer(shared, sessions, int(epoch.split(":")[0]), observe)
        try:
            current[epoch].drain()
        except Fenced as error:
            shared.log("fenced", reason=str(error))
            shared.epoch.forget()
            return PATIENCE
        return PAUSE

    repeat(shared, "drainer", step, stop)
