"""The simulated world: no seed breaks an invariant, a seed repeats exactly, and each guard earns its place."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from engine import sweeper
from engine.domain import routing
from engine.domain.broker import BrokerProfile, Outcome, RejectCause
from engine.domain.orders import Leg, OrderTrigger
from engine.ports import LockLost
from engine.simulation.campaign import campaign, play
from engine.simulation.invariants import Violation
from engine.simulation.scenario import seed_of
from engine.simulation.store import MemoryStore
from engine.simulation.world import World

#: Enough seeds that each guard's removal shows in every tested range.
SEEDS_FOR_A_GUARD = range(200, 500)


def test_no_seed_of_the_short_range_breaks_an_invariant() -> None:
    told: list[int] = []
    failure = campaign(0, 200, told.append)
    assert failure is None, failure
    assert told[-1] == 200


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_seed_of_the_long_range_breaks_an_invariant() -> None:
    failure = campaign(200, 2000, lambda _done: None)
    assert failure is None, failure


def test_a_seed_repeats_exactly() -> None:
    def ledger(number: int) -> list[tuple[str, str, int]]:
        world = World(seed_of(number))
        world.run()
        world.close()
        return [(p.request.client_order_id, p.status, p.filled) for p in world.broker.book]

    for number in range(40, 60):
        assert ledger(number) == ledger(number)


class Anyone(str):
    """A token that is everybody's."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False


def without_the_token(patch: pytest.MonkeyPatch) -> None:
    """A lock is whoever's asks: a holder whose lease ran out goes on beside the next."""
    patch.setattr(MemoryStore, "_holder", lambda self, run: Anyone())


def without_the_sweeper(patch: pytest.MonkeyPatch) -> None:
    """What is lost is nobody's."""
    patch.setattr(sweeper.Sweeper, "sweep", lambda self: 0)


def without_asking_the_book(patch: pytest.MonkeyPatch) -> None:
    """A timeout is taken for a refusal and sent again."""
    original = routing.route

    def route(outcome: Outcome, leg: Leg, attempt: int, cause: RejectCause | None = None) -> routing.Route:
        return original(Outcome.REJECTED if outcome is Outcome.TIMEOUT else outcome, leg, attempt, cause)

    patch.setattr(routing, "route", route)
    patch.setitem(routing.TRIGGER_OF, Outcome.TIMEOUT, OrderTrigger.REJECT)


def without_grace(patch: pytest.MonkeyPatch) -> None:
    """Absent from the book once is absent for ever."""
    patch.setattr(BrokerProfile, "settles_after", timedelta(0))


def without_attempts_granted_once(patch: pytest.MonkeyPatch) -> None:
    """Whoever has decided sends, granted or not."""
    original = MemoryStore.intend

    def intend(self: MemoryStore, *args: object, **named: object) -> object:
        try:
            return original(self, *args, **named)  # type: ignore[arg-type]
        except LockLost:
            return None

    patch.setattr(MemoryStore, "intend", intend)


@pytest.mark.parametrize(
    "remove",
    [
        without_the_token,
        without_the_sweeper,
        without_asking_the_book,
        without_grace,
        without_attempts_granted_once,
    ],
    ids=lambda remove: remove.__name__,
)
def test_removing_a_guard_breaks_an_invariant(
    remove: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    remove(monkeypatch)
    assert any(_fails(number) for number in SEEDS_FOR_A_GUARD)


def _fails(number: int) -> bool:
    try:
        return play(seed_of(number)) is not None
    except (Violation, LockLost, KeyError):
        return True
