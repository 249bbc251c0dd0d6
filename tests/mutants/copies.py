"""Throw-away copies of the tree, and commands run in one of them. Nothing here touches the tree itself."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: What `git ls-files` names and no test needs.
_LEFT_OUT = ("bench/", "docs/")
#: Prints from where the packages come, one a line.
_ORIGINS = (
    "import engine, models, tasks, broker_connector\n"
    "for each in (engine, models, tasks, broker_connector): print(each.__file__)"
)


class Broken(Exception):
    """Raised where a row or a copy cannot be used: it proves nothing, so nothing may pass by it."""


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended; `code` is None where it ran longer than it may."""

    code: int | None
    output: str


class Copy:
    """One copy of the tree, in `place`."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._changes = 0
        for name in _tracked():
            target = place / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)
        origins = self.run(["-c", _ORIGINS], 60.0)
        if origins.code != 0 or not all(line.startswith(str(place)) for line in origins.output.split()):
            raise Broken(f"the copy does not import its own packages:\n{origins.output}")

    def change(self, name: str, text: str, instead: str) -> None:
        """Put `instead` in the place of `text`; raises Broken unless that stands there exactly once."""
        path = self._place / name
        before = path.read_text() if path.exists() else ""
        if before.count(text) != 1:
            raise Broken(f"{name} has the text {before.count(text)} times: the row is stale")
        path.write_text(before.replace(text, instead))
        # Compiled files are told apart by whole seconds and by size: neither may be what another change had.
        self._changes += 1
        stamp = (ROOT / name).stat().st_mtime + self._changes
        os.utime(path, (stamp, stamp))

    def restore(self, name: str) -> None:
        """Make a file what it is in the tree."""
        shutil.copy2(ROOT / name, self._place / name)

    def run(self, arguments: list[str], limit: float) -> Ran:
        """Run Python with `arguments` in the copy, for at most `limit` seconds; what it started ends with it."""
        environment = os.environ | {"PYTHONPATH": str(self._place), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        with subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self._place,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            process_group=0,
        ) as process:
            try:
                output, _ = process.communicate(timeout=limit)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                return Ran(None, process.communicate()[0])
            except BaseException:
                os.killpg(process.pid, 9)
                raise
        return Ran(process.returncode, output)


def _tracked() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    names = listed.stdout.splitlines()
    return [name for name in names if not name.startswith(_LEFT_OUT) and (ROOT / name).is_file()]
