"""The simulated world: no seed breaks an invariant, a seed repeats exactly, and each guard earns its place."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields, replace
from datetime import timedelta
from functools import partial

import pytest
import typer

from engine import sweeper
from engine.cli.simulate import worlds_of
from engine.domain import routing
from engine.domain.broker import BrokerProfile, Outcome, RejectCause
from engine.domain.orders import Leg, Order, OrderTrigger
from engine.ports import LockLost
from engine.runtime import store
from engine.simulation.broker import Chances
from engine.simulation.campaign import campaign, play
from engine.simulation.durable import NOT_KEPT
from engine.simulation.hardships import Kind
from engine.simulation.invariants import Violation
from engine.simulation.scenario import Seed, hard_seed, seed_of
from engine.simulation.server import Server
from engine.simulation.world import World
from models.records import OrderState

#: Enough seeds that each guard's removal shows in every tested range.
SEEDS_FOR_A_GUARD = range(200, 500)
SEEDS_WITH_EVERY_GUARD = range(200, 205)
#: Seeds among which the owner and an exit sell the same shares, soon in the first.
SHORT_BESIDE_OTHERS = range(142, 500)


def test_no_seed_of_the_short_range_breaks_an_invariant() -> None:
    told: list[int] = []
    failure = campaign(0, 200, told.append)
    assert failure is None, failure
    assert told[-1] == 200


def test_no_seed_of_a_hard_world_breaks_an_invariant() -> None:
    failure = campaign(0, 40, lambda _done: None, seed_of=partial(hard_seed, kinds=sorted(Kind)))
    assert failure is None, failure


@pytest.mark.parametrize("kind", sorted(Kind))
def test_no_seed_with_one_hardship_breaks_an_invariant(kind: Kind) -> None:
    broken = [failure for number in range(4) if (failure := play(hard_seed(number, [kind])))]
    assert not broken


def test_a_hard_seed_repeats_exactly() -> None:
    def happened(number: int) -> list[str]:
        world = World(hard_seed(number, [*Kind]))
        with suppress(Violation):
            world.run()
        world.close()
        return world.trace

    for number in range(4):
        assert happened(number) == happened(number)


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


def in_lua(patch: pytest.MonkeyPatch, script: str, guard: str, instead: str) -> None:
    """Put `instead` in the place of a guard, wherever it stands in the source of `script`."""
    sources = store.load_scripts()
    assert guard in sources[script], f"{script}.lua has no {guard}"
    changed = {**sources, script: sources[script].replace(guard, instead)}
    patch.setattr(store, "load_scripts", lambda: changed)


def without_the_token(patch: pytest.MonkeyPatch) -> None:
    """A lock is whoever's asks: a holder whose lease ran out goes on beside the next."""
    in_lua(patch, "claim", "if holder then", "if false then")
    in_lua(patch, "intend", "if holder ~= token then", "if not holder then")
    in_lua(patch, "commit", "if redis.call('GET', KEYS[2]) ~= token then return { 'lost' } end", "")
    in_lua(patch, "extend", "if redis.call('GET', KEYS[2]) ~= ARGV[2] then return 'lost' end", "")


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
    original = store.RedisStore.intend

    def intend(self: store.RedisStore, *args: object, **named: object) -> object:
        try:
            return original(self, *args, **named)  # type: ignore[arg-type]
        except LockLost:
            return None

    patch.setattr(store.RedisStore, "intend", intend)


def without_kept_replies(patch: pytest.MonkeyPatch) -> None:
    """A step whose reply was lost is not recognised when it is asked again."""
    for script in ("intend", "commit"):
        in_lua(patch, script, "local mark = token .. ':' .. step", "local mark = token .. tostring({})")


def without_the_latch(patch: pytest.MonkeyPatch) -> None:
    """A breach is only a message."""
    for script in ("on_tick", "commit"):
        in_lua(patch, script, "\nlocal function latch(", "\nlocal function latch() end\nlocal function _(")


def without_flags(patch: pytest.MonkeyPatch) -> None:
    """Whoever holds the lock lets go of it and never learns what met it."""
    in_lua(patch, "commit", "redis.call('HGET', KEYS[3], 'signal_seq') ~= ARGV[5]", "false")


def without_slots(patch: pytest.MonkeyPatch) -> None:
    """An account may take every thread there is."""
    for script in ("claim", "intend", "extend"):
        in_lua(patch, script, "if redis.call('ZCARD', slots) >= limit then return false end", "")


def without_the_epoch(patch: pytest.MonkeyPatch) -> None:
    """A server that lost its last second is taken for the one we know."""
    patch.setattr(Server, "run_id", "server")


def without_tombstones(patch: pytest.MonkeyPatch) -> None:
    """Nothing is left of a run that ended."""
    in_lua(patch, "commit", "redis.call('PEXPIRE', KEYS[5], ARGV[12])", "redis.call('DEL', KEYS[5])")


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


def test_a_short_beside_a_sale_by_hand_that_nobody_is_told_of_breaks_an_invariant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The owner sells what an exit of ours sells, and no run is left."""
    worlds = [hard_seed(number, [Kind.MANUAL, Kind.THIN]) for number in SHORT_BESIDE_OTHERS]
    with monkeypatch.context() as without:
        in_lua(without, "cover", "    tell_short(key, units)\n", "")
        untold = next(world for world in worlds if "is short by" in str(play(world)))
    assert play(untold) is None


def _fails(seed: Seed) -> bool:
    try:
        return play(seed) is not None
    except (Violation, LockLost, KeyError):
        return True


@pytest.mark.parametrize(
    ("names", "kinds"),
    [((), None), (("failures",), set()), (("thin", "night"), {Kind.THIN, Kind.NIGHT})],
)
def test_worlds_are_as_hard_as_they_are_asked_to_be(names: tuple[str, ...], kinds: set[Kind] | None) -> None:
    found = [{*worlds_of(names)(number).hard.kinds} for number in range(12)]
    assert all(each == kinds for each in found) if kinds is not None else len({frozenset(each) for each in found}) > 6


def test_a_hardship_that_is_none_is_refused_with_those_there_are() -> None:
    with pytest.raises(
        typer.BadParameter, match=f"no hardship 'nonsense'; there are all, failures, {', '.join(sorted(Kind))}"
    ):
        worlds_of(["thin", "nonsense"])


@pytest.mark.parametrize("name", ["all", "failures"])
def test_a_name_for_all_or_none_goes_with_no_other(name: str) -> None:
    with pytest.raises(typer.BadParameter, match=f"'{name}' goes with no other"):
        worlds_of(["thin", name])


def test_the_simulated_rows_keep_of_an_order_what_the_tables_keep() -> None:
    lost = {field.name for field in fields(Order)} - {*OrderState.model_fields}
    assert {*NOT_KEPT} == lost
    assert dict(NOT_KEPT) == {field.name: field.default for field in fields(Order) if field.name in lost}
