"""What tests ask about real processes: are they gone, does something come true in time."""

import sys
import time
from collections.abc import Callable, Iterable, Sequence

import psutil


def gone(pid: int) -> bool:
    """Whether the process has ended; one that nobody has waited for yet has ended, too."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def family(pid: int) -> list[int]:
    """The process and everything below it."""
    process = psutil.Process(pid)
    return [pid, *(child.pid for child in process.children(recursive=True))]


def all_gone(pids: Iterable[int], *, within: float = 10.0) -> bool:
    pending = list(pids)
    return eventually(lambda: all(gone(pid) for pid in pending), within=within)


def eventually(condition: Callable[[], bool], *, within: float = 10.0) -> bool:
    """Whether `condition` comes true within so many seconds."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def hearing_ctrl_c(command: Sequence[str]) -> list[str]:
    """`command` with SIGINT as a terminal gives it: what a shell starts in the background ignores it."""
    hear = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execvp(sys.argv[1], sys.argv[1:])"
    return [sys.executable, "-c", hear, *command]
