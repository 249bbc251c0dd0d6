"""The sweeper: what is due and was not served is nudged again. It publishes, and executes nothing itself."""

from engine.domain.action import Policy
from engine.domain.decision import next_action
from engine.domain.events import Event, EventType
from engine.domain.moment import Moment
from engine.domain.run import Run
from engine.ports import Backlog, Clock, Publisher, Store

#: Runs taken in one sweep, and in one step of it: Redis serves nobody else meanwhile.
AT_MOST, AT_ONCE = 1000, 10


#: Behind so many messages, which is what a worker serves in a second, a nudge would only wait like what it repeats: it
#: is left out, but no oftener than so, which is half a minute.
CROWD, LEFT_OUT = 300, 5


class Sweeper:
    """One pass over what is due."""

    def __init__(self, store: Store, publisher: Publisher, backlog: Backlog, clock: Clock, policy: Policy) -> None:
        self._store = store
        self._publisher = publisher
        self._backlog = backlog
        self._clock = clock
        self._policy = policy

    def sweep(self) -> int:
        """Look at every run that is due, and nudge it; returns how many were due. Raises StoreClosed."""
        due = 0
        ahead: dict[EventType, int] = {}
        while due < AT_MOST:
            swept = self._store.sweep(AT_ONCE)
            now = self._clock.now()
            for run, nudges in swept:
                kind = self._kind(run, now)
                if kind not in ahead:
                    ahead[kind] = self._backlog.ahead_of(kind)
                if nudges > LEFT_OUT or ahead[kind] < CROWD:
                    self._nudge(run, kind, nudges, now)
                    ahead[kind] += 1
            due += len(swept)
            if len(swept) < AT_ONCE:
                break
        return due

    def _kind(self, run: Run, now: Moment) -> EventType:
        urgent = next_action(run, now, self._policy)
        return urgent[0] if urgent else EventType.ORDER_UPDATE

    def _nudge(self, run: Run, kind: EventType, nudges: int, now: Moment) -> None:
        self._publisher.publish(Event(f"sweep:{run.id}:{nudges}:{now.real:%H%M%S%f}", kind, run.id))
