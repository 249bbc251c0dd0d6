"""A host whose wall is wrong: `python -m tests.shifted FILE SCRIPT ARGUMENTS...`, FILE holding by how many seconds.

What FILE says may change while the script runs: the wall jumps. Everything Python asks of the wall is shifted;
CLOCK_BOOTTIME and CLOCK_MONOTONIC run on, as they do on a host whose clock is set.
"""

import datetime as dt
import runpy
import shutil
import sys
import time
from pathlib import Path
from typing import Any

_time, _time_ns = time.time, time.time_ns
_Real = dt.datetime


def shift(path: Path) -> None:
    """From now on the wall of this process is off by what `path` says, seconds."""

    def off() -> float:
        return float(path.read_text())

    class Kind(type):
        def __instancecheck__(cls, value: object) -> bool:
            return isinstance(value, _Real)

    class Shifted(_Real, metaclass=Kind):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> Any:
            return _Real.now(tz) + dt.timedelta(seconds=off())

    dt.datetime = Shifted  # type: ignore[misc]
    time.time = lambda: _time() + off()
    time.time_ns = lambda: _time_ns() + int(off() * 1e9)


if __name__ == "__main__":
    shift(Path(sys.argv[1]))
    sys.argv = sys.argv[2:]
    runpy.run_path(shutil.which(sys.argv[0]) or sys.argv[0], run_name="__main__")
