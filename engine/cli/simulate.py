"""`engine simulate`: seeds of the simulated world, and what to do with one that fails."""

from collections.abc import Callable, Collection
from functools import partial

import typer

from engine.cli import DONE, FAILED
from engine.cli.output import console, errors, print_json, status_line
from engine.simulation.campaign import Failure, campaign
from engine.simulation.hardships import Kind
from engine.simulation.scenario import Seed, any_seed, hard_seed
from engine.simulation.scenario import seed_of as seed_of_failures


def run(seeds: int, first: int, hardships: Collection[str], *, as_json: bool) -> int:
    """Play the seeds; 1 where an invariant broke, with the seed, its trace and how to replay it."""
    seed_of = worlds_of(hardships)
    say, done = status_line()
    try:
        failure = campaign(first, seeds, lambda count: say(f"{count} of {seeds} seeds"), seed_of=seed_of)
    finally:
        done()
    if as_json:
        print_json({"first": first, "seeds": seeds, "failure": _as_row(failure)})
    elif failure is None:
        console.print(f"{seeds} seeds from {first}: 0 violations", highlight=False)
    else:
        _tell(failure)
    return DONE if failure is None else FAILED


#: What may be named instead of kinds: every kind by half, and none but crashes, losses and a broker that fails.
ALL, FAILURES = "all", "failures"


def worlds_of(names: Collection[str]) -> Callable[[int], Seed]:
    """The worlds that are hard as `names` say, each kind in each of them; of every sort in turn without a name."""
    if not names:
        return any_seed
    if len({*names}) > 1 and (alone := {ALL, FAILURES} & {*names}):
        raise typer.BadParameter(f"{min(alone)!r} goes with no other", param_hint="--with")
    if FAILURES in names:
        return seed_of_failures
    if ALL in names:
        return partial(hard_seed, kinds=sorted(Kind))
    known = {*Kind}
    for name in names:
        if name not in known:
            choices = ", ".join((ALL, FAILURES, *sorted(known)))
            raise typer.BadParameter(f"there is no hardship {name!r}; there are {choices}", param_hint="--with")
    return partial(hard_seed, kinds=sorted({Kind(name) for name in names}), all_of_them=True)


def _tell(failure: Failure) -> None:
    for line in failure.trace:
        errors.print(line, markup=False)
    errors.print(f"seed {failure.seed.number}: {failure.message}", markup=False, style="red")
    errors.print(f"needs only: {failure.seed}", markup=False)
    # What a seed does depends on what it may choose from.
    errors.print(f"replay it: the same command with --first {failure.seed.number} --seeds 1", markup=False)


def _as_row(failure: Failure | None) -> dict[str, object] | None:
    if failure is None:
        return None
    return {"seed": failure.seed.number, "violation": failure.message, "trace": failure.trace}
