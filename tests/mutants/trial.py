"""One guard taken away in one copy, and what noticed: its tests, or the simulation alone."""

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeAlias

from tests.mutants.copies import Broken, Copy, Ran
from tests.mutants.guard import Guard
from tests.mutants.worlds import WORLDS

#: Seconds the tests of one guard may take, and those of all together where none is taken away. What takes longer hangs.
LIMIT, LIMIT_OF_ALL = 240.0, 1800.0
#: How pytest ends: all passed, one failed. Anything else says that nothing was tested.
PASSED, FAILED = 0, 1
#: Of the plug-ins only the one whose settings are ours: loading all of them takes longer than most of these tests.
_PYTEST = ["-m", "pytest", "-q", "-x", "--no-header", "--tb=line", "-p", "no:cacheprovider", "-p", "pytest_timeout"]
_SIMULATE = ["-c", "from engine.cli import main; main()", "simulate"]
_FAILED_TEST = re.compile(r"^(?:FAILED|ERROR) (tests/.+?)(?: - .*)?$", re.MULTILINE)
#: How the simulation names the seed that failed.
_SEED = re.compile(r"seed (\d+): ")
#: Lines told of a run that cannot be judged.
_TOLD = 15


#: What a command's end says.
Judge: TypeAlias = Callable[[Ran], tuple["Verdict", str]]


class Verdict(StrEnum):
    """What became of a guard that was taken away."""

    KILLED = "killed"
    SURVIVED = "SURVIVED"
    #: The row is stale, or its tests do not run: as bad as one that survived.
    BROKEN = "BROKEN"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One row's verdict, what noticed, or what is wrong, and how long it took, seconds."""

    guard: Guard
    verdict: Verdict
    by: str
    seconds: float


def by_tests(copy: Copy, guard: Guard) -> Outcome:
    """Whether the guard's own tests notice that it is gone."""
    return _tried(copy, guard, [[*_PYTEST, *_paths(guard.tests)]], LIMIT, _of_pytest)


def by_simulation(copy: Copy, guard: Guard, seeds: int) -> Outcome:
    """Whether the simulation alone notices, within so many seeds, by one that passes while the guard is there."""
    limit = max(LIMIT, 3.0 * seeds)
    outcome = _tried(copy, guard, _of(guard, seeds), limit, _of_simulation)
    found = _SEED.match(outcome.by)
    if outcome.verdict is not Verdict.KILLED or found is None:
        return outcome
    for arguments in _of(guard, 1):
        ran = copy.run([*arguments, "--first", found[1]], limit)
        if ran.code != PASSED:
            return replace(outcome, verdict=Verdict.BROKEN, by=f"with the guard, too: {outcome.by}")
    return outcome


def check_whole(copy: Copy, guards: list[Guard]) -> None:
    """Raise Broken unless every test passes while no guard is taken away: else nothing they say means anything."""
    tests = dict.fromkeys(test for guard in guards for test in guard.tests)
    ran = copy.run([*_PYTEST, *_paths(tests)], LIMIT_OF_ALL)
    if ran.code != PASSED:
        raise Broken(f"it fails though no guard is taken away:\n{_end_of(ran)}")


def _of(guard: Guard, seeds: int) -> list[list[str]]:
    """Worlds of every sort in turn, and before them those in which the guard is missed soonest."""
    everything = [*_SIMULATE, "--seeds", str(seeds)]
    named = [text for kind in WORLDS.get(guard.name, "").split() for text in ("--with", kind)]
    return [[*everything, *named], everything] if named else [everything]


def _tried(copy: Copy, guard: Guard, commands: list[list[str]], limit: float, judged: Judge) -> Outcome:
    """The first command's verdict that is not that the guard survived."""
    began, verdict, by = time.monotonic(), Verdict.SURVIVED, ""
    try:
        copy.change(guard.file, guard.text, guard.without)
        for arguments in commands:
            ran = copy.run(arguments, limit)
            verdict, by = (Verdict.KILLED, "a hang") if ran.code is None else judged(ran)
            if verdict is not Verdict.SURVIVED:
                break
    except Broken as error:
        verdict, by = Verdict.BROKEN, str(error)
    finally:
        copy.restore(guard.file)
    return Outcome(guard, verdict, by, round(time.monotonic() - began, 1))


def _of_pytest(ran: Ran) -> tuple[Verdict, str]:
    if ran.code == PASSED:
        return Verdict.SURVIVED, ""
    failed = _FAILED_TEST.search(ran.output)
    if ran.code != FAILED or failed is None:
        return Verdict.BROKEN, _end_of(ran)
    return Verdict.KILLED, failed[1]


def _of_simulation(ran: Ran) -> tuple[Verdict, str]:
    if ran.code == PASSED:
        return Verdict.SURVIVED, ""
    lines = [line.strip() for line in ran.output.splitlines() if line.strip()]
    return Verdict.KILLED, next((line for line in reversed(lines) if line.startswith("seed ")), lines[-1])


def _paths(tests: Iterable[str]) -> list[str]:
    return [f"tests/{test}" for test in tests]


def _end_of(ran: Ran) -> str:
    return "\n".join(ran.output.splitlines()[-_TOLD:])
