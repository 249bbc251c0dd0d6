"""`engine simulate`: seeds of the simulated world, and what to do with one that fails."""

from collections.abc import Collection

from engine.cli import DONE, FAILED
from engine.cli.output import console, errors, print_json, status_line
from engine.simulation.campaign import Failure, campaign
from engine.simulation.hardships import Kind


def run(seeds: int, first: int, hardships: Collection[str], *, as_json: bool) -> int:
    """Play the seeds; 1 where an invariant broke, with the seed, its trace and how to replay it."""
    kinds = kinds_of(hardships)
    say, done = status_line()
    try:
        failure = campaign(first, seeds, lambda count: say(f"{count} of {seeds} seeds"), hardships=kinds)
    finally:
        done()
    if as_json:
        print_json({"first": first, "seeds": seeds, "failure": _as_row(failure)})
    elif failure is None:
        console.print(f"{seeds} seeds from {first}: 0 violations", highlight=False)
    else:
        _tell(failure)
    return DONE if failure is None else FAILED


def kinds_of(names: Collection[str]) -> Collection[Kind]:
    """Kinds of hardship by their names; "all" is every one."""
    return sorted(Kind) if "all" in names else sorted({Kind(name) for name in names})


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
