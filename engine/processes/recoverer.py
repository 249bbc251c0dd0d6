"""The recoverer's process: one at a time by PostgreSQL's advisory lock; opens the store, then keeps it armed."""

import time
from functools import partial

from engine import bootstrap
from engine.clock import ASK_EVERY
from engine.processes.loop import Stop, awaited, repeat
from engine.tokens import TokenWatch
from models import schema

#: Seconds between two looks for strategies without a run, and at what the operator says of the calendar.
EVERY, RELEARN_EVERY = 0.5, 5.0
#: Seconds between two looks at all open runs where the calendar says nothing new: one of them may have been down then.
RESCHEDULE_EVERY = 30.0


def main() -> None:
    """Recover, then arm and reschedule until told to stop."""
    shared, stop = bootstrap.parts("recoverer"), Stop()
    # Whoever starts first brings the tables up to date; a repeat changes nothing.
    awaited(shared, partial(schema.upgrade, shared.settings.database_url), stop)
    sessions, lock = bootstrap.database(shared.settings), bootstrap.recoverer_lock(shared.settings)
    days = awaited(shared, partial(bootstrap.calendar, shared.settings, sessions), stop)
    recoverer = bootstrap.recoverer(shared, sessions, days)
    rescheduler = bootstrap.rescheduler(shared, sessions, days)
    tokens = TokenWatch(shared.store, shared.log)
    relearned = rescheduled = 0.0

    def step() -> float:
        nonlocal relearned, rescheduled
        if not lock.hold():
            return EVERY
        if not shared.epoch.is_open():
            recoverer.open(shared.real.now, shared.real.sleep_until)
        recoverer.refresh_accounts()
        if not shared.clock.is_announced():
            return ASK_EVERY
        if time.monotonic() >= relearned + RELEARN_EVERY:
            if bootstrap.relearn(days, sessions):
                rescheduled = 0.0
            tokens.look(recoverer.accounts, shared.clock.now())
            relearned = time.monotonic()
        recoverer.arm()
        if time.monotonic() >= rescheduled + RESCHEDULE_EVERY:
            # After arming: what it looks at is in the live state by then.
            rescheduler.look()
            rescheduled = time.monotonic()
        return EVERY

    repeat(shared, "recoverer", step, stop)
    lock.release()
