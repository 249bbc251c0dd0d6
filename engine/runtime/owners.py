"""Which account each run trades at, remembered: it never changes. For shares of threads only, never for a decision."""

from collections.abc import Callable

from engine.domain.run import RunId
from engine.ports import StoreClosed
from engine.runtime.readings import account_in

#: Runs that are remembered; past it all are forgotten, and asked for again.
AT_MOST = 100_000


class Owners:
    """Asks the live state once a run. Safe to use from many threads."""

    def __init__(self, account_of: Callable[[RunId], int | None]) -> None:
        self._account_of = account_of
        self._known: dict[RunId, int] = {}

    def of(self, run_id: RunId, reading: object = None) -> int | None:
        """The account of a run, by what its message tells or else by the live state; None: nobody knows."""
        known = self._known.get(run_id) or account_in(reading)
        if known is None:
            try:
                known = self._account_of(run_id)
            except StoreClosed:
                return None
        if known is not None:
            if len(self._known) >= AT_MOST:
                self._known.clear()
            self._known[run_id] = known
        return known
