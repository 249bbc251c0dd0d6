"""The tables of guards are as the code is: a row that is stale takes nothing away, and so proves nothing."""

from collections import Counter
from pathlib import Path

import pytest

from engine.cli.simulate import FAILURES
from engine.simulation.hardships import Kind
from tests.mutants.__main__ import ALL, SIMULATED
from tests.mutants.copies import ROOT
from tests.mutants.guard import Area, Guard
from tests.mutants.worlds import WORLDS

TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize("guard", ALL, ids=lambda guard: guard.name)
def test_a_guard_stands_once_in_its_file_and_names_tests_that_are_there(guard: Guard) -> None:
    assert (ROOT / guard.file).read_text().count(guard.text) == 1
    assert guard.text != guard.without
    for test in guard.tests:
        file, _, name = test.partition("::")
        assert not name or f"def {name}(" in (TESTS / file).read_text()


def test_guards_are_told_apart_by_name_and_every_area_has_some() -> None:
    assert max(Counter(guard.name for guard in ALL).values()) == 1
    assert {guard.area for guard in ALL} == set(Area)


def test_worlds_are_named_for_guards_that_are_there_and_by_kinds_that_are_there() -> None:
    simulated = {guard.name for guard in ALL if guard.area in SIMULATED}
    assert not {*WORLDS} - simulated
    assert not {kind for kinds in WORLDS.values() for kind in kinds.split()} - {*Kind, FAILURES}
