"""The drainer's order of steps: nothing is forgotten that is not stored."""

from collections.abc import Sequence

import pytest

from engine.ledger import Drainer
from models.drain import Entry, Fenced


class Stream:
    """The `Carrier` port: what is left of a stream, and what was stored of it."""

    def __init__(self) -> None:
        self.left = ["1-0", "2-0", "3-0"]
        self.stored: list[Entry] = []
        self.refuses = False

    def read(self, behind: str) -> Sequence[tuple[str, dict[str, str]]]:
        return [(each, {}) for each in self.left if each > behind]

    def apply(self, entries: Sequence[Entry], behind: str) -> Sequence[Entry]:
        if self.refuses:
            raise Fenced(1, 2)
        self.stored += entries
        return entries

    def trim(self, behind: str) -> None:
        self.left = [each for each in self.left if each >= behind]


def test_what_could_not_be_stored_is_neither_forgotten_nor_passed_by() -> None:
    stream = Stream()
    drainer = Drainer(stream, "0-0")
    stream.refuses = True
    for _ in range(2):
        with pytest.raises(Fenced):
            drainer.drain()
    assert (stream.left, stream.stored) == (["1-0", "2-0", "3-0"], [])
    stream.refuses = False
    drainer.drain_all()
    assert (stream.left, len(stream.stored)) == (["3-0"], 3)
