"""Where commands under test keep their temporary files."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# What the shared checks assert is told as fully as what a test does.
pytest.register_assert_rewrite("tests.replays")


@pytest.fixture
def scratch() -> Iterator[Path]:
    """An empty folder for a command's own servers; what it leaves behind is to be seen there."""
    # Not below pytest's own directory: as root, PostgreSQL can have to run as a user who cannot enter it.
    with tempfile.TemporaryDirectory(prefix="engine-replay-tests-") as directory:
        Path(directory).chmod(0o711)
        yield Path(directory)
