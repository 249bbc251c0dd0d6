"""Reads a Procfile: one `name: command` a line. There is no shell behind it, so that every process id is the real one.

`python -m engine.stack.procfile NAME [PROCFILE]` becomes that process; containers start theirs like this.
"""

import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.stack.problems import EnvironmentProblem

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")

#: Where a process finds what it is called.
NAME_VARIABLE = "ENGINE_PROCESS"

#: A shell would give these a meaning; passed on as arguments they would only puzzle.
SHELL_WORD = re.compile(r"[;#|&<>].*|\d*[<>].*")


class ProcfileError(EnvironmentProblem):
    """Raised when a Procfile cannot be read; its text names the line."""


@dataclass(frozen=True)
class Process:
    """One process to run: its name and its command, split into words."""

    name: str
    argv: tuple[str, ...]


def parse(text: str, *, source: str = "Procfile") -> list[Process]:
    """The processes in their order. Raises ProcfileError."""
    processes: dict[str, Process] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        try:
            process = _parse_line(stripped)
            if process.name in processes:
                raise ValueError(f"a second process named {process.name!r}")
        except ValueError as error:
            raise ProcfileError(f"{source}, line {number}: {error}") from None
        processes[process.name] = process
    if not processes:
        raise ProcfileError(f"{source}: no process in it")
    return list(processes.values())


def read(path: Path) -> list[Process]:
    """The processes of the Procfile at `path`. Raises ProcfileError."""
    try:
        text = path.read_text()
    except OSError as error:
        raise ProcfileError(f"cannot read {path}: {error.strerror}") from error
    return parse(text, source=str(path))


def with_tools_on_path(env: Mapping[str, str]) -> dict[str, str]:
    """`env` with the programs of this Python's environment first on its PATH."""
    tools = str(Path(sys.executable).parent)
    return {**env, "PATH": os.pathsep.join([tools, env.get("PATH", os.defpath)])}


def _parse_line(line: str) -> Process:
    name, colon, command = (part.strip() for part in line.partition(":"))
    if not colon:
        raise ValueError("expected 'name: command'")
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name: letters, digits, '-' and '_', a letter first")
    argv = tuple(shlex.split(command))
    if not argv:
        raise ValueError(f"{name} has no command")
    for word in argv:
        if SHELL_WORD.fullmatch(word):
            raise ValueError(f"{word!r} means something to a shell only, and there is none")
    return Process(name, argv)


def main(arguments: Sequence[str]) -> int:
    if len(arguments) not in (1, 2):
        print("usage: python -m engine.stack.procfile NAME [PROCFILE]", file=sys.stderr)
        return 2
    try:
        processes = read(Path(arguments[1] if len(arguments) > 1 else "Procfile"))
    except ProcfileError as error:
        print(error, file=sys.stderr)
        return 1
    found = next((process for process in processes if process.name == arguments[0]), None)
    if found is None:
        names = ", ".join(process.name for process in processes)
        print(f"no process named {arguments[0]!r}; there are: {names}", file=sys.stderr)
        return 1
    env = with_tools_on_path(os.environ) | {NAME_VARIABLE: found.name}
    try:
        os.execvpe(found.argv[0], found.argv, env)
    except OSError as error:
        print(f"{found.name}: cannot run {found.argv[0]}: {error.strerror}", file=sys.stderr)
        return 127


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
