"""The recoverer's process: one at a time by PostgreSQL's advisory lock; opens the store, then keeps it armed."""

from contextlib import ExitStack

from sqlalchemy import text

from engine import bootstrap
from engine.clock import ASK_EVERY
from engine.processes.loop import Stop, repeat

#: Seconds between two looks for strategies without a run.
EVERY = 0.5
#: The advisory lock's number: any, as long as every recoverer of a database uses it.
LOCK = 0x45454E47


def main() -> None:
    """Recover, then arm until told to stop."""
    shared = bootstrap.parts("recoverer")
    sessions, stop = bootstrap.database(shared.settings), Stop()
    recoverer = bootstrap.recoverer(shared, sessions)
    held: list[bool] = []
    with ExitStack() as stack:
        session = stack.enter_context(sessions())

        def step() -> float:
            if not held:
                if not session.scalar(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": LOCK}):
                    return EVERY
                held.append(True)
            if not shared.epoch.is_open():
                recoverer.open(shared.real.now, shared.real.sleep_until)
            recoverer.refresh_accounts()
            if not shared.clock.is_announced():
                return ASK_EVERY
            recoverer.arm()
            return EVERY

        repeat(shared, "recoverer", step, stop)
