"""`make mutants`: every guard of the tables taken away, one at a time; 1 where one is not missed."""

import argparse
import json
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from queue import SimpleQueue

from tests.mutants import core, domain, edges, lua
from tests.mutants.copies import Broken, Copy
from tests.mutants.guard import Area, Guard
from tests.mutants.trial import Outcome, Verdict, by_simulation, by_tests, check_whole

ALL: list[Guard] = [*domain.GUARDS, *lua.GUARDS, *core.GUARDS, *edges.GUARDS]
#: What the simulation runs of the engine.
SIMULATED = frozenset({Area.DOMAIN, Area.LUA})


def main() -> int:
    """Try the guards that are asked for, tell of each, and of all."""
    asked = _arguments()
    seeds: int | None = asked.seeds if asked.simulation else None
    guards = [guard for guard in ALL if asked.only in guard.name or asked.only in guard.file]
    guards = [guard for guard in guards if seeds is None or guard.area in SIMULATED]
    if not guards:
        print(f"no guard's name or file has {asked.only!r} in it", file=sys.stderr)
        return 1
    with _copies(min(asked.jobs, len(guards))) as copies:
        try:
            if seeds is None and not asked.unchecked:
                _say("everything as it is")
                check_whole(copies[0], guards)
        except Broken as error:
            print(error, file=sys.stderr)
            return 1
        outcomes = list(_tried(copies, guards, seeds))
    if asked.json:
        print(json.dumps([_as_row(each) for each in outcomes], indent=2))
    missed = [each for each in outcomes if each.verdict is not Verdict.KILLED]
    _tell(outcomes, missed)
    return 1 if missed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.mutants", description=__doc__)
    parser.add_argument("only", nargs="?", default="", help="a part of the name or file of the guards to try")
    parser.add_argument("--simulation", action="store_true", help="by the simulation alone, without any test")
    parser.add_argument("--seeds", type=int, default=200, help="how many seeds the simulation plays for each guard")
    parser.add_argument("--jobs", type=int, default=2, help="how many are tried at a time")
    parser.add_argument("--json", action="store_true", help="the outcomes on standard output")
    parser.add_argument("--unchecked", action="store_true", help="do not first show that all tests pass as it is")
    return parser.parse_args()


@contextmanager
def _copies(count: int) -> Iterator[list[Copy]]:
    place = Path(tempfile.mkdtemp(prefix="mutants-"))
    try:
        yield [Copy(place / str(number)) for number in range(count)]
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _tried(copies: list[Copy], guards: list[Guard], seeds: int | None) -> Iterator[Outcome]:
    free: SimpleQueue[Copy] = SimpleQueue()
    for copy in copies:
        free.put(copy)
    judge: Callable[[Copy, Guard], Outcome] = by_tests if seeds is None else partial(by_simulation, seeds=seeds)

    def once(guard: Guard) -> Outcome:
        copy = free.get()
        try:
            return judge(copy, guard)
        finally:
            free.put(copy)

    with ThreadPoolExecutor(len(copies)) as threads:
        for number, outcome in enumerate(threads.map(once, guards), 1):
            _say(
                f"{number}/{len(guards)} {outcome.verdict} {outcome.seconds:.0f} s: {outcome.guard.name} [{outcome.by}]"
            )
            yield outcome


def _tell(outcomes: list[Outcome], missed: list[Outcome]) -> None:
    for each in missed:
        _say(f"{each.verdict}: {each.guard.name} ({each.guard.file})\n{each.by}".rstrip())
    for area, count in Counter(each.guard.area for each in outcomes).items():
        killed = sum(each.guard.area is area and each.verdict is Verdict.KILLED for each in outcomes)
        _say(f"{area}: {killed} of {count} killed")
    killed = len(outcomes) - len(missed)
    _say(f"all: {killed} of {len(outcomes)} killed, {100 * killed / len(outcomes):.0f} %")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _as_row(outcome: Outcome) -> dict[str, object]:
    guard = outcome.guard
    return {
        "guard": guard.name,
        "area": guard.area,
        "file": guard.file,
        "verdict": outcome.verdict,
        "by": outcome.by,
        "seconds": outcome.seconds,
    }


if __name__ == "__main__":
    sys.exit(main())
