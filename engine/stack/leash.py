"""Runs a command that dies with its parent, even when the parent is killed with SIGKILL.

`python -m engine.stack.leash [--parent PID] COMMAND...`. Standard library only and run by path, so that it starts
in milliseconds. The kernel sends the signal when the parent *thread* ends: start children from the main thread.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

#: prctl option, from linux/prctl.h
PR_SET_PDEATHSIG = 1

#: Where a leashed command finds its own process id; its children can pass it on as their `--parent`.
PID_VARIABLE = "ENGINE_LEASH_PID"

#: Exit status when the parent was gone before the leash was on.
ORPHANED = 125


def command(argv: Sequence[str], *, parent: str) -> list[str]:
    """Wrap `argv` so that it dies with the process `parent` (its id), which must be the one that starts it."""
    return [sys.executable, "-I", "-S", os.path.abspath(__file__), "--parent", parent, *argv]


def main(arguments: Sequence[str]) -> int:
    argv = list(arguments)
    parent = os.getppid()
    if argv[:1] == ["--parent"]:
        parent = int(argv[1])
        argv = argv[2:]
    if not argv:
        print("usage: python -m engine.stack.leash [--parent PID] COMMAND...", file=sys.stderr)
        return 2
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        print(f"leash: prctl: {os.strerror(ctypes.get_errno())}", file=sys.stderr)
        return 1
    # A parent that died before prctl would never send the signal.
    if os.getppid() != parent:
        return ORPHANED
    os.environ[PID_VARIABLE] = str(os.getpid())
    try:
        os.execvp(argv[0], argv)
    except OSError as error:
        print(f"leash: {argv[0]}: {error.strerror}", file=sys.stderr)
        return 127


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
