"""`engine dead-letters`: input that was refused, newest first, and why. What it says is shown, never obeyed."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from engine.cli import DONE
from engine.cli.deployment import find
from engine.cli.output import print_rows
from models.repositories.history import History, StoredDeadLetter

COLUMNS = ("key", "at", "source", "reason", "payload")
#: Characters of a payload, and of a reason, a table shows; JSON tells them whole.
SHOWN = 120


def run(limit: int, *, as_json: bool) -> int:
    """List the newest dead letters."""
    letters = History(find().sessions).dead_letters(limit)
    print_rows("Dead letters", _rows(letters, SHOWN if not as_json else None), COLUMNS, as_json=as_json)
    return DONE


def _rows(letters: Iterable[StoredDeadLetter], shown: int | None) -> list[dict[str, Any]]:
    return [
        asdict(letter) | {"reason": _cut(letter.reason, shown), "payload": _cut(letter.payload, shown)}
        for letter in letters
    ]


def _cut(text: str, shown: int | None) -> str:
    return text if shown is None or len(text) <= shown else text[: shown - 1] + "…"
