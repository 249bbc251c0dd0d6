"""The proxy around a port that asks, at each of its points, whether this process is to be struck there.

Orders are files: `<process>@<point>` in the directory the setting names, with `kill` or `stop` in it. No setting, no
proxy. Knows no port: what has points is `engine.chaos.points`.
"""

import os
import signal
from collections.abc import Callable
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import Any, Self, TypeVar, cast

from engine.chaos.points import METHODS, POINTS, around

T = TypeVar("T")


class Blow(StrEnum):
    """How a process is struck; the content of an order."""

    KILL = "kill"
    STOP = "stop"


_SIGNALS = {Blow.KILL: signal.SIGKILL, Blow.STOP: signal.SIGSTOP}


class Gate:
    """What one process asks at its points."""

    def __init__(self, directory: Path, process: str, strike: Callable[[Blow], None] | None = None) -> None:
        """`strike`: what a blow does; by default it hits this very process."""
        self._prefix = str(directory / f"{process}@")
        self._strike = strike or _strike

    @classmethod
    def of(cls, directory: Path | None, process: str) -> Self | None:
        """The gate of `process`; None where the setting is absent."""
        return None if directory is None else cls(directory, process)

    def reach(self, point: str) -> None:
        """Be struck if there is an order for this point, and if we are the one who takes it."""
        path = self._prefix + point
        try:
            with open(path, encoding="utf-8") as order:
                blow = Blow(order.read())
            # Of all threads and processes that have read it exactly one can unlink it.
            os.unlink(path)
        except FileNotFoundError:
            return
        self._strike(blow)


class Tap:
    """`target`, with its points before and after each of its boundary methods."""

    def __init__(self, gate: Gate, port: str, target: Any) -> None:
        self._target = target
        for method in METHODS[port]:
            if hasattr(target, method):
                setattr(self, method, _between(gate, around(port, method), getattr(target, method)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)


def tapped(gate: Gate | None, port: str, target: T) -> T:
    """`target` behind its points; `target` itself where nothing is to strike."""
    return target if gate is None else cast("T", Tap(gate, port, target))


class Orders:
    """The other side of the gates: what is to strike whom where."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def place(self, process: str, point: str, blow: Blow) -> None:
        """Order a blow; it appears whole or not at all."""
        if point not in POINTS:
            raise ValueError(f"no such point: {point}")
        draft = self._directory / f".{process}@{point}"
        draft.write_text(blow, encoding="utf-8")
        draft.replace(self._path(process, point))

    def is_open(self, process: str, point: str) -> bool:
        """Whether nobody has taken the order yet."""
        return self._path(process, point).exists()

    def withdraw(self, process: str, point: str) -> bool:
        """Take the order back; False where it has struck."""
        try:
            self._path(process, point).unlink()
        except FileNotFoundError:
            return False
        return True

    def _path(self, process: str, point: str) -> Path:
        return self._directory / f"{process}@{point}"


def _between(gate: Gate, points: tuple[str, str], call: Callable[..., Any]) -> Callable[..., Any]:
    before, after = points

    @wraps(call)
    def through(*args: Any, **kwargs: Any) -> Any:
        gate.reach(before)
        result = call(*args, **kwargs)
        gate.reach(after)
        return result

    return through


def _strike(blow: Blow) -> None:
    os.kill(os.getpid(), _SIGNALS[blow])
