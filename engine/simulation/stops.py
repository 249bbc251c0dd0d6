"""Whether every breach of a stop is kept: a price that was told once sells, wherever it goes afterwards."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

from engine.domain.orders import Side
from engine.domain.run import RunId
from engine.simulation.broker import SimulatedBroker
from engine.simulation.durable import SimulatedDurable
from engine.simulation.hardships import Kind
from engine.simulation.invariants import Violation, run_id_of
from engine.simulation.scenario import STOP, Seed
from engine.simulation.upkeep import Told

#: How long after a breach, or after the live state came back, it may take to be in its run.
KEPT_WITHIN = timedelta(seconds=5)
#: What a loss of the live state may take with it: a breach so long before that the history has not heard of.
LOSES = timedelta(seconds=10)
#: A step of the price that needs no second word.
SMALL = 400
#: Kinds in which the step from the last price told, or from nonsense beside it, may be a large one.
DOUBTED = frozenset({Kind.FEED, Kind.BAD_TICKS})


class Stops:
    """Remembers each breach of a run that held something, and looks for it in the live state."""

    def __init__(
        self,
        seed: Seed,
        now: Callable[[], datetime],
        brokers: Mapping[int, SimulatedBroker],
        history: SimulatedDurable,
    ) -> None:
        self._seed = seed
        self._history = history
        self._now = now
        self._brokers = brokers
        self._last = STOP + 1000
        #: When the stop of a run was reached first.
        self._breached: dict[RunId, datetime] = {}
        #: What held something when such a price came.
        self._dipped: set[RunId] = set()
        #: Since when a run's own state says that it holds something, without a break.
        self._known: dict[str, datetime] = {}

    def told(self, price: int, *, is_alone: bool) -> None:
        """A true price reached the listener, the live state being there or not.

        `is_alone`: the price goes back at once; one such trade bears out no other, for the broker is asked in between.
        """
        last, self._last = self._last, self._last if is_alone else price
        is_believed = last <= STOP or (last - price <= SMALL and not DOUBTED & self._seed.hard.kinds)
        if price > STOP or not is_believed:
            return
        for run_id in self._holders():
            self._breached.setdefault(run_id, self._now())

    def dipped(self) -> None:
        """A true price below the stop reached the listener that it cannot believe yet."""
        self._dipped = self._holders()

    def proven(self) -> None:
        """It can now: whatever held something then is breached."""
        for run_id in self._dipped & self._holders():
            self._breached.setdefault(run_id, self._now())

    def lost(self) -> None:
        """The live state went, and with it what had not been drained, and the prices of what no run knew to be held."""
        kept_before = self._now() - LOSES
        self._breached = {
            run: at
            for run, at in self._breached.items()
            if str(run) in self._known and (at < kept_before or self._history.run(run).latch is not None)
        }
        self._known.clear()

    def night_passed(self) -> None:
        """Yesterday's prices are no breach of today."""
        self._breached.clear()
        self._known.clear()

    def check(self, runs: Sequence[Told]) -> None:
        """Of each run that holds something and knows of it, the live state has the breach, or the exit it led to."""
        now, known = self._now(), self._known
        self._known = {run.name: known.get(run.name, now) for run in runs if run.fields.get("position") == "bought"}
        holders = self._holders()
        self._breached = {run: at for run, at in self._breached.items() if run in holders}
        for run in runs:
            breached_at = self._breached.get(RunId.parse(run.name))
            if breached_at is None or run.name not in self._known or run.is_latched or run.exits:
                continue
            if now - max(breached_at, self._known[run.name]) > KEPT_WITHIN:
                raise Violation(f"{run.name} fell through its stop at {breached_at:%M:%S}, and nobody knows of it")

    def _holders(self) -> set[RunId]:
        held: dict[RunId, int] = {}
        for broker in self._brokers.values():
            for each in broker.book:
                if not each.is_foreign:
                    sign = 1 if each.request.side is Side.BUY else -1
                    held[run_id_of(each)] = held.get(run_id_of(each), 0) + sign * each.filled
        return {run_id for run_id, units in held.items() if units > 0}
