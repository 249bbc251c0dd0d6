"""The sweeper: what is due and was not served is nudged again. It publishes, and executes nothing itself."""

from engine.domain.action import Policy
from engine.domain.decision import next_action
from engine.domain.events import Event, EventType
from engine.ports import Clock, Publisher, Store

#: Runs taken in one sweep.
AT_MOST = 1000


class Sweeper:
    """One pass over what is due."""

    def __init__(self, store: Store, publisher: Publisher, clock: Clock, policy: Policy) -> None:
        self._store = store
        self._publisher = publisher
        self._clock = clock
        self._policy = policy

    def sweep(self) -> int:
        """Nudge every run that is due; returns how many. Raises StoreClosed."""
        swept = self._store.sweep(AT_MOST)
        now = self._clock.now()
        for run, nudges in swept:
            urgent = next_action(run, now, self._policy)
            kind = urgent[0] if urgent else EventType.ORDER_UPDATE
            stamp = now.real.strftime("%H%M%S%f")
            self._publisher.publish(Event(f"sweep:{run.id}:{nudges}:{stamp}", kind, run.id))
        return len(swept)
