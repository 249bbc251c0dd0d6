"""The judges of a world, and who of them is told what."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import partial
from typing import Any

from engine.domain.run import Run
from engine.ports import Denied
from engine.simulation.audit import Audit
from engine.simulation.broker import SimulatedBroker
from engine.simulation.conduct import Conduct
from engine.simulation.durable import SimulatedDurable
from engine.simulation.invariants import Observer
from engine.simulation.livestate import LiveState
from engine.simulation.news import News
from engine.simulation.oversight import Oversight
from engine.simulation.scenario import Seed
from engine.simulation.standing import Standing
from engine.simulation.stops import Stops
from engine.simulation.upkeep import Upkeep


class Judges:
    """All of them; each raises Violation."""

    def __init__(
        self,
        seed: Seed,
        now: Callable[[], datetime],
        store: LiveState,
        brokers: Mapping[int, SimulatedBroker],
        durable: SimulatedDurable,
        limits: Mapping[str, int],
    ) -> None:
        """`limits`: every account's."""
        self._store = store
        self.observer = Observer(seed)
        self.oversight = Oversight(seed, brokers, durable)
        self.conduct = Conduct(seed, now, brokers, durable)
        self.upkeep = Upkeep(seed, store, now, brokers)
        self.standing = Standing(seed, now, brokers, durable)
        self.stops = Stops(seed, now, brokers, durable)
        self.audit = Audit(store, limits, brokers)
        self.news = News(seed, store, now)
        for account, broker in brokers.items():
            broker.placing = self.oversight.placing(account, now)
            broker.reached = self.conduct.sending(account)
            broker.answered = partial(self.conduct.answered, account)
            broker.canceling = partial(self.conduct.canceling, account)
            broker.changing = partial(self.conduct.changing, account)

    def called(self, name: str, arguments: tuple[Any, ...], named: Mapping[str, Any], reply: Any) -> None:
        """A call of the store has answered."""
        self.audit.called(name, arguments, named, reply)
        self.news.called(name, arguments, named, reply)
        if isinstance(reply, Denied):
            self.conduct.denied(arguments[4], reply)

    def look(self, *, is_busy: bool) -> None:
        """Once a second: everything the live state tells of its runs, where it can be asked.

        `is_busy`: every thread is taken, so that nothing can be changed.
        """
        if not self._store.is_ready():
            self.upkeep.disturbed()
            self.standing.disturbed()
            return
        runs = self.upkeep.check()
        self.stops.check(runs)
        self.standing.check([] if is_busy else runs)
        self.conduct.look(runs)

    def lost(self, open_runs: Iterable[Run]) -> None:
        """The live state is gone, or went back."""
        self.conduct.lost()
        self.stops.lost()
        self.observer.lost(open_runs)

    def night_passed(self, now: datetime) -> None:
        """Another day begins."""
        self.oversight.night_passed(now)
        self.stops.night_passed()
        self.upkeep.disturbed()
