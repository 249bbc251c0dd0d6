"""The simulated world: no seed breaks an invariant, a seed repeats exactly, and each guard earns its place."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from engine import sweeper
from engine.domain import routing
from engine.domain.broker import BrokerProfile, Outcome, RejectCause
from engine.domain.orders import Leg, OrderTrigger
from engine.ports import LockLost
from engine.simulation.broker import Chances
from engine.simulation.campaign import campaign, play
from engine.simulation.invariants import Violation
from engine.simulation.limits import Limits
from engine.simulation.scenario import Seed, seed_of
from engine.simulation.store import MemoryStore
from engine.simulation.world import World

#: Enough seeds that each guard's removal shows in every tested range.
SEEDS_FOR_A_GUARD = range(200, 500)
SEEDS_WITH_EVERY_GUARD = range(200, 205)


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
        return [(p.request.client_order_id, p.status, p.filled) for p in world.book]

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


def without_kept_replies(patch: pytest.MonkeyPatch) -> None:
    """A step whose reply was lost is not recognised when it is asked again."""

    def forgetful(step: Callable[..., object]) -> Callable[..., object]:
        def forget(self: MemoryStore, *args: object, **named: object) -> object:
            try:
                return step(self, *args, **named)
            finally:
                for stored in (*self.runtimes.values(), *self.tombstones.values()):
                    stored.pop("done", None)

        return forget

    patch.setattr(MemoryStore, "intend", forgetful(MemoryStore.intend))
    patch.setattr(MemoryStore, "commit", forgetful(MemoryStore.commit))


def without_the_latch(patch: pytest.MonkeyPatch) -> None:
    """A breach is only a message."""
    patch.setattr(MemoryStore, "_write_latch", lambda *_: None)


def without_flags(patch: pytest.MonkeyPatch) -> None:
    """Whoever holds the lock lets go of it and never learns what met it."""
    patch.setattr(MemoryStore, "_is_flagged", lambda *_: False)


def without_slots(patch: pytest.MonkeyPatch) -> None:
    """An account may take every thread there is."""
    patch.setattr(Limits, "take", lambda *_: True)


def without_the_epoch(patch: pytest.MonkeyPatch) -> None:
    """A server that lost its last second is taken for the one we know."""
    patch.setattr(MemoryStore, "is_open", property(lambda self: self.epoch is not None))


def without_tombstones(patch: pytest.MonkeyPatch) -> None:
    """Nothing is left of a run that ended."""
    original = MemoryStore._bury

    def bury(self: MemoryStore, run: str, stored: dict[str, str]) -> None:
        original(self, run, stored)
        del self.tombstones[run]

    patch.setattr(MemoryStore, "_bury", bury)


def anything(number: int) -> Seed:
    return seed_of(number)


def calm(number: int) -> Seed:
    """Three runs, and nothing fails."""
    return Seed(number, runs=3, ill_accounts=0)


def quiet(number: int) -> Seed:
    """Six runs, nothing fails and nobody asks: once a run is bought, its breach is all that happens to it."""
    return Seed(number, runs=6, ill_accounts=0, user_stops=0.0)


def calm_but_repeating(number: int) -> Seed:
    """Every reply is lost once and asked for again."""
    return replace(calm(number), repeat_reply=1.0)


def a_last_second_lost(number: int) -> Seed:
    return replace(calm(number), roll_back=10.0)


def a_crowd_at_a_slow_broker(number: int) -> Seed:
    """Many runs on an account whose broker lets everybody wait, and one on another."""
    return Seed(number, runs=30, crowd=29, ill_accounts=29, chances=Chances(hang=1.0))


GUARDS: list[tuple[Callable[[pytest.MonkeyPatch], None], Callable[[int], Seed]]] = [
    (without_the_token, anything),
    (without_the_sweeper, anything),
    (without_asking_the_book, anything),
    (without_grace, anything),
    (without_attempts_granted_once, anything),
    (without_kept_replies, calm_but_repeating),
    (without_the_latch, calm),
    (without_flags, quiet),
    (without_slots, a_crowd_at_a_slow_broker),
    (without_the_epoch, a_last_second_lost),
    (without_tombstones, calm),
]


#: Those whose removal shows in few seeds.
LONG = {without_flags, without_slots}


@pytest.mark.parametrize(
    ("remove", "world"),
    [pytest.param(*guard, id=guard[0].__name__, marks=[pytest.mark.slow] * (guard[0] in LONG)) for guard in GUARDS],
)
def test_removing_a_guard_breaks_an_invariant(
    remove: Callable[[pytest.MonkeyPatch], None], world: Callable[[int], Seed], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_it = [number for number in SEEDS_WITH_EVERY_GUARD if _fails(world(number))]
    assert not with_it
    remove(monkeypatch)
    assert any(_fails(world(number)) for number in SEEDS_FOR_A_GUARD)


def _fails(seed: Seed) -> bool:
    try:
        return play(seed) is not None
    except (Violation, LockLost, KeyError):
        return True
