"""What a row of the tables is: one guard of the engine, how it is taken away, and the tests that must notice."""

from dataclasses import dataclass
from enum import StrEnum


class Area(StrEnum):
    """Where a guard lives. The simulation alone is held against those of the domain and the scripts."""

    DOMAIN = "domain"
    LUA = "lua"
    CORE = "core"
    EDGES = "edges"


@dataclass(frozen=True, slots=True)
class Guard:
    """One guard. `text` stands exactly once in `file`; with `without` in its place the guard is gone."""

    #: What the guard holds up, in plain words.
    name: str
    file: str
    text: str
    without: str
    #: Tests, as pytest names them below `tests/`, at least one of which must fail without the guard.
    tests: tuple[str, ...]
    area: Area
