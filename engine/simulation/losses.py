"""What is lost of our own: the live state, whole or its last second, and time, where every machine stands still."""

import random
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Protocol

from engine.simulation.durable import SimulatedDurable
from engine.simulation.judges import Judges
from engine.simulation.livestate import LiveState
from engine.simulation.scenario import Seed

#: How long every machine stands still, and how often an emptied server is a new one.
JUMP, IS_GONE = timedelta(seconds=20), 0.5
#: Of so many orders one is struck as it is sent, where the live state is lost once in a hundred seconds; how soon, ms.
STRUCK_IN, STRUCK_WITHIN = 40, 500


class Around(Protocol):
    """What a loss needs of its world."""

    now: datetime
    rng: random.Random
    seed: Seed
    store: LiveState
    durable: SimulatedDurable
    judges: Judges

    def tell(self, what: str, facts: Mapping[str, object] = ...) -> None:
        """A line of the trace."""


class Losses:
    """Makes them, until all is well."""

    def __init__(self, world: "Around") -> None:
        self._world = world
        self._on_disk = world.store.snapshot()
        #: When the live state is struck in the middle of an order.
        self._struck_at: datetime | None = None
        self._is_over = False

    def heal(self) -> None:
        """Nothing is lost from here on."""
        self._is_over = True

    def granted(self) -> None:
        """An order was granted: the worst moment to lose what was not drained."""
        world = self._world
        if not self._is_over and world.rng.random() < self._rate / STRUCK_IN:
            self._struck_at = world.now + timedelta(milliseconds=world.rng.randint(0, STRUCK_WITHIN))

    def pass_time(self) -> None:
        """Strike where it is time to."""
        if self._struck_at is None or self._world.now < self._struck_at or self._is_over:
            return
        self._struck_at = None
        self._lose(is_whole=self._world.rng.random() * self._rate < self._world.seed.lose_store)

    def every_second(self) -> None:
        """Whatever this seed loses in this second."""
        if self._is_over:
            return
        world = self._world
        if self._happens(world.seed.lose_store):
            self._lose(is_whole=True)
        if self._happens(world.seed.roll_back):
            self._lose(is_whole=False)
        if self._happens(world.seed.jump):
            world.tell("EVERY MACHINE STANDS STILL")
            world.now += JUMP
        if world.seed.roll_back:
            self._on_disk = world.store.snapshot()

    @property
    def _rate(self) -> float:
        return self._world.seed.lose_store + self._world.seed.roll_back

    def _lose(self, *, is_whole: bool) -> None:
        """All of it, or what came since the last second."""
        world = self._world
        if is_whole:
            world.tell("THE LIVE STATE IS LOST")
            world.store.flush(is_gone=world.rng.random() < IS_GONE)
        else:
            world.tell("THE LIVE STATE GOES BACK")
            world.store.roll_back(self._on_disk)
        world.judges.lost(world.durable.open_runs())

    def _happens(self, in_a_hundred: float) -> bool:
        return in_a_hundred > 0 and self._world.rng.random() < in_a_hundred / 100
