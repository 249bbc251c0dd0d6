"""The sweeper: what is due and was not served is nudged again. It publishes, and executes nothing itself."""

from engine.domain.action import Policy
from engine.domain.decision import next_action
from engine.domain.events import Event, EventType
from engine.domain.moment import Moment
from engine.domain.run import Run
from engine.ports import Clock, Publisher, Store

#: Runs taken in one sweep, and in one step of it: Redis serves nobody else meanwhile.
AT_MOST, AT_ONCE = 1000, 50


class Sweeper:
    """One pass over what is due."""

    def __init__(self, store: Store, publisher: Publisher, clock: Clock, policy: Policy) -> None:
        self._store = store
        self._publisher = publisher
        self._clock = clock
        self._policy = policy

    def sweep(self) -> int:
        """Nudge every run that is due; returns how many. Raises StoreClosed."""
        nudged = 0
        while nudged < AT_MOST:
            swept = self._store.sweep(AT_ONCE)
            now = self._clock.now()
            for run, nudges in swept:
                self._nudge(run, nudges, now)
            nudged += len(swept)
            if len(swept) < AT_ONCE:
                break
        return nudged

    def _nudge(self, run: Run, nudges: int, now: Moment) -> None:
        urgent = next_action(run, now, self._policy)
        kind = urgent[0] if urgent else EventType.ORDER_UPDATE
        self._publisher.publish(Event(f"sweep:{run.id}:{nudges}:{now.real:%H%M%S%f}", kind, run.id))
