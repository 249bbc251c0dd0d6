"""What stands between the real core and its world: its clock, its timers, its line to store and broker."""

import random
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Protocol

from engine.domain.moment import Moment
from engine.domain.run import Run, RunId
from engine.ports import Broker, LockLost, NoSlot
from engine.simulation.invariants import Violation
from engine.simulation.livestate import LiveState
from engine.simulation.scenario import Seed

#: Calls whose lost reply is asked for again.
REPEATED = frozenset({"claim", "intend", "commit"})
#: Calls that nobody may make under an epoch that is over; what opens the store does the others, too.
UNDER_AN_EPOCH = frozenset({"claim", "extend", "intend", "commit", "signal", "tell", "sweep", "read_book", "tell_book"})


class Around(Protocol):
    """What a stand-in needs of its world."""

    now: datetime
    rng: random.Random
    seed: Seed
    #: Until when this host's clock is doubted.
    doubted_until: datetime | None

    def boundary(self, name: str) -> None:
        """An I/O boundary."""

    def skew(self) -> timedelta:
        """How far the clock of whoever runs is off."""

    def sleep_until(self, at: datetime) -> None:
        """Whoever runs sleeps until then."""

    def ended(self, run_id: RunId) -> None:
        """A run's STOP was committed."""

    def called(self, name: str, arguments: tuple[Any, ...], named: Mapping[str, Any], reply: Any) -> None:
        """A call of the store has answered."""


class Clock:
    """The `Clock` port on a world's time; market time is real time here."""

    def __init__(self, world: "Around") -> None:
        self._world = world

    def now(self) -> Moment:
        """This instant, by the clock of whoever asks."""
        now = self._world.now + self._world.skew()
        return Moment(
            now, now, is_trusted=self._world.doubted_until is None or self._world.now >= self._world.doubted_until
        )

    def sleep_until(self, real: datetime) -> None:
        """Whoever asks goes on then; where nobody else could act meanwhile, the world's time moves there."""
        self._world.sleep_until(real - self._world.skew())


class Timers:
    """Timers are messages here; a message for a run that ended finds its tombstone."""

    def __init__(self, trigger: Callable[[Run], None]) -> None:
        self._trigger = trigger
        self._scheduled: set[RunId] = set()

    def schedule(self, run: Run, now: Moment) -> None:
        """Once a run: the world keeps its messages through every loss."""
        del now
        if run.id not in self._scheduled:
            self._scheduled.add(run.id)
            self._trigger(run)

    def cancel(self, run_id: RunId) -> None:
        """Nothing to remove."""


class Brokers:
    """Each account's broker."""

    def __init__(self, by_account: Mapping[int, Broker]) -> None:
        self._by_account = by_account

    def of(self, account_id: int, version: str) -> Broker:
        """The broker."""
        del version
        return self._by_account[account_id]


class Bounded:
    """The store behind a boundary at each call, before it and after it, and replies that are lost and asked again."""

    def __init__(self, world: "Around", store: LiveState) -> None:
        self._world = world
        self._store = store

    def __getattr__(self, name: str) -> Callable[..., Any]:
        call, is_repeated = getattr(self._store, name), name in REPEATED
        before, after = f"store.{name}", f"store.{name} done"

        def bounded(*args: Any, **named: Any) -> Any:
            self._world.boundary(before)
            reply = call(*args, **named)
            if is_repeated and self._world.rng.random() < self._world.seed.repeat_reply:
                try:
                    again = call(*args, **named)
                except (LockLost, NoSlot) as error:
                    again = error
                if again != reply:
                    raise Violation(f"{name} was answered {reply}, and its repeat {again}")
            if name in UNDER_AN_EPOCH and not self._store.is_current():
                raise Violation(f"{name} was answered under an epoch that is over")
            self._world.called(name, args, named, reply)
            if named.get("finished"):
                self._world.ended(args[2].id)
            self._world.boundary(after)
            return reply

        # Kept as an attribute: made at a name's first call only.
        setattr(self, name, bounded)
        return bounded
