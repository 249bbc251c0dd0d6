"""The lock files install with every supported Python and whichever pip it brings: complete, pinned, hashed, no host."""

import re
import sys
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKS = sorted(ROOT.glob("requirements*.lock"))
DEV, RUNTIME = ROOT / "requirements-dev.lock", ROOT / "requirements.lock"


def entries(lock: Path) -> list[tuple[Requirement, int]]:
    """Each requirement of a lock, and how many hashes it has."""
    logical = re.sub(r"^\s*#.*\n", "", lock.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    lines = [line for line in logical.splitlines() if line.strip()]
    return [(Requirement(line.split("--hash")[0]), line.count("--hash=sha256:")) for line in lines]


def pinned(lock: Path) -> dict[str, Requirement]:
    """The requirements of a lock that concern this Python, by name."""
    found = [entry for entry, _ in entries(lock) if entry.marker is None or entry.marker.evaluate()]
    return {canonicalize_name(entry.name): entry for entry in found}


def wants(name: str, extras: set[str]) -> list[Requirement]:
    """What an installed package requires here, with `extras` of it."""
    found = map(Requirement, requires(name) or ())
    return [each for each in found if each.marker is None or any(each.marker.evaluate({"extra": e}) for e in extras)]


def missing(lock: Path) -> set[str]:
    """What a package of `lock` requires and no entry pins, extras included, as "package needs requirement"."""
    held, found = pinned(lock), set()
    for name, entry in held.items():
        for need in wants(name, {"", *entry.extras}):
            pin = held.get(canonicalize_name(need.name))
            if pin is None or not need.extras <= pin.extras:
                found.add(f"{name} needs {need}")
    return found


def test_there_is_a_lock_to_run_to_develop_to_bench_and_to_install() -> None:
    assert [lock.name for lock in LOCKS] == [
        "requirements-bench.lock", "requirements-dev.lock", "requirements-install.lock", "requirements.lock",
    ]  # fmt: skip


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_entry_is_pinned_and_hashed_and_no_host_is_named(lock: Path) -> None:
    assert entries(lock)
    for entry, hashes in entries(lock):
        assert [spec.operator for spec in entry.specifier] == ["=="], entry
        assert hashes > 0, entry
        assert entry.url is None, entry
    assert "://" not in lock.read_text()


@pytest.mark.parametrize("lock", [DEV, RUNTIME], ids=lambda path: path.name)
def test_every_requirement_of_a_locked_package_is_locked_with_its_extras(lock: Path) -> None:
    """pip 23.2, which Python 3.11 and 3.12 bring, refuses `coverage[toml]` when only `coverage` is pinned."""
    try:
        assert missing(lock) == set(), sys.version
    except PackageNotFoundError as error:
        pytest.fail(f"{error} is in {lock.name} and not installed: run `make install-dev`")


def test_what_develops_contains_what_runs_in_the_same_versions() -> None:
    runtime, develop = pinned(RUNTIME), pinned(DEV)
    assert {name: develop.get(name) for name in runtime} == runtime
