"""Many seeds: run over the machine's cores, stopped at the first violation, which is shrunk and told with its trace."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields, replace
from functools import partial

from engine.simulation.broker import Chances
from engine.simulation.hardships import Kind
from engine.simulation.invariants import Violation
from engine.simulation.scenario import Seed, any_seed
from engine.simulation.world import World

#: Seeds one worker process takes at a time.
CHUNK = 25
#: Lines of a failed seed's trace that are told.
TOLD = 60


@dataclass(frozen=True, slots=True)
class Failure:
    """A seed that broke an invariant: shrunk to the faults it needs, with the end of its trace."""

    seed: Seed
    message: str
    trace: tuple[str, ...]


def play(seed: Seed) -> Failure | None:
    """Run one seed's world; None where every invariant held."""
    world = World(seed)
    try:
        world.run()
    except Violation as error:
        return Failure(seed, str(error), tuple(world.trace[-TOLD:]))
    finally:
        world.close()
    return None


def shrunk(failure: Failure) -> Failure:
    """The same failure with every fault taken away that it does not need."""
    found = failure
    for candidate in _simpler():
        smaller = candidate(found.seed)
        if smaller != found.seed and (again := play(smaller)) is not None:
            found = again
    return found


def campaign(
    first: int,
    count: int,
    told: Callable[[int], None],
    cores: int | None = None,
    seed_of: Callable[[int], Seed] = any_seed,
) -> Failure | None:
    """Play seeds `first` to `first + count - 1`; tells how many are done; the first failure found, shrunk.

    `seed_of`: what a seed of that number is; worlds of every sort in turn where it is not given.
    """
    chunks = [range(start, min(start + CHUNK, first + count)) for start in range(first, first + count, CHUNK)]
    with ProcessPoolExecutor(cores or os.cpu_count()) as pool:
        done = 0
        for chunk, failure in zip(chunks, pool.map(partial(_play_all, seed_of=seed_of), chunks), strict=True):
            if failure is not None:
                pool.shutdown(cancel_futures=True)
                return shrunk(failure)
            done += len(chunk)
            told(done)
    return None


def _play_all(numbers: Iterable[int], *, seed_of: Callable[[int], Seed]) -> Failure | None:
    return next((failure for number in numbers if (failure := play(seed_of(number))) is not None), None)


def _simpler() -> Iterator[Callable[[Seed], Seed]]:
    """Ways to make a seed simpler, one fault each."""
    yield lambda each: replace(each, runs=1)
    for name in (
        "crash",
        "lose_message",
        "repeat_message",
        "lose_push",
        "repeat_reply",
        "lose_store",
        "roll_back",
        "jump",
        "skew",
    ):
        yield lambda each, name=name: replace(each, **{name: 0.0})  # type: ignore[misc]
    for kind in Kind:
        yield lambda each, kind=kind: replace(each, hard=each.hard.without(kind))  # type: ignore[misc]
    for field in fields(Chances):
        yield lambda each, name=field.name: replace(each, chances=replace(each.chances, **{name: 0.0}))  # type: ignore[misc]
