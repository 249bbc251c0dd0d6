"""The recoverer's process: one at a time by PostgreSQL's advisory lock; opens the store, then keeps it armed."""

import time

from engine import bootstrap
from engine.clock import ASK_EVERY
from engine.processes.loop import Stop, repeat
from models import schema

#: Seconds between two looks for strategies without a run, and at what the operator says of the calendar.
EVERY, RELEARN_EVERY = 0.5, 5.0


def main() -> None:
    """Recover, then arm and reschedule until told to stop."""
    shared = bootstrap.parts("recoverer")
    # Whoever starts first brings the tables up to date; a repeat changes nothing.
    schema.upgrade(shared.settings.database_url)
    sessions, stop = bootstrap.database(shared.settings), Stop()
    days, lock = bootstrap.calendar(shared.settings, sessions), bootstrap.recoverer_lock(shared.settings)
    recoverer = bootstrap.recoverer(shared, sessions, days)
    rescheduler = bootstrap.rescheduler(shared, sessions, days)
    relearned = 0.0

    def step() -> float:
        nonlocal relearned
        if not lock.hold():
            return EVERY
        if not shared.epoch.is_open():
            recoverer.open(shared.real.now, shared.real.sleep_until)
        recoverer.refresh_accounts()
        if not shared.clock.is_announced():
            return ASK_EVERY
        is_time = time.monotonic() >= relearned + RELEARN_EVERY
        if is_time:
            bootstrap.relearn(days, sessions)
        recoverer.arm()
        if is_time:
            # After arming: what it looks at is in the live state by then.
            rescheduler.look()
            relearned = time.monotonic()
        return EVERY

    repeat(shared, "recoverer", step, stop)
    lock.release()
