"""The recoverer's process: one at a time by PostgreSQL's advisory lock; opens the store, then keeps it armed."""

from engine import bootstrap
from engine.clock import ASK_EVERY
from engine.processes.loop import Stop, repeat
from models import schema

#: Seconds between two looks for strategies without a run.
EVERY = 0.5


def main() -> None:
    """Recover, then arm until told to stop."""
    shared = bootstrap.parts("recoverer")
    # Whoever starts first brings the tables up to date; a repeat changes nothing.
    schema.upgrade(shared.settings.database_url)
    sessions, stop = bootstrap.database(shared.settings), Stop()
    recoverer, lock = bootstrap.recoverer(shared, sessions), bootstrap.recoverer_lock(shared.settings)

    def step() -> float:
        if not lock.hold():
            return EVERY
        if not shared.epoch.is_open():
            recoverer.open(shared.real.now, shared.real.sleep_until)
        recoverer.refresh_accounts()
        if not shared.clock.is_announced():
            return ASK_EVERY
        recoverer.arm()
        return EVERY

    repeat(shared, "recoverer", step, stop)
    lock.release()
