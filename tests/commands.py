"""The console script as tests call it."""

import sys
from pathlib import Path


def engine(*words: str) -> list[str]:
    """The command line of `engine` with `words`."""
    return [str(Path(sys.executable).parent / "engine"), *words]
