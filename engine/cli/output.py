"""How the command line speaks: problems in one line on standard error, results as a table or as JSON."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence

import typer
from pydantic import ValidationError
from redis.exceptions import RedisError
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text
from sqlalchemy.exc import SQLAlchemyError

from engine.admission import InstrumentsUnknown
from engine.ports import StoreClosed
from engine.stack.problems import EnvironmentProblem
from engine.strategies import StrategyFileError
from models.repositories.strategies import Refused
from models.secrets import SecretsUnavailable

FAILED, USAGE = 1, 2

#: Columns of a table that no terminal limits.
WIDE = 200

console = Console()
if not console.is_terminal:
    console.width = WIDE
errors = Console(stderr=True, soft_wrap=True, highlight=False)


def tell_problem(error: Exception) -> int | None:
    """Print what a user can mend and return the exit code; None for a bug, which deserves its traceback."""
    match error:
        case typer.TyperException():
            errors.print(error.format_message(), markup=False)
            return USAGE
        case StrategyFileError() | Refused() | InstrumentsUnknown() | EnvironmentProblem() | SecretsUnavailable():
            errors.print(str(error), markup=False)
            return USAGE
        case ValidationError():
            first = error.errors()[0]
            name = "_".join(map(str, first["loc"])).upper()
            errors.print(f"setting {name}: {first['msg']}", markup=False)
            return USAGE
        case SQLAlchemyError():
            errors.print(f"the database does not do it: {first_line(error)}", markup=False)
            return FAILED
        case StoreClosed() | RedisError():
            errors.print(f"the live state is away: {first_line(error)}", markup=False)
            return FAILED
    return None


def first_line(error: Exception) -> str:
    """What an error says, without what a driver adds below."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def print_rows(title: str, rows: Iterable[Mapping[str, object]], columns: Sequence[str], *, as_json: bool) -> None:
    """Rows as a table of `columns`, or every field of theirs as JSON."""
    found = list(rows)
    if as_json:
        print_json(found)
        return
    table = Table(title=title, title_justify="left", header_style="bold", box=SIMPLE_HEAD)
    for column in columns:
        table.add_column(column.replace("_", " "))
    for row in found:
        table.add_row(*("" if row.get(column) is None else Text(printable(str(row[column]))) for column in columns))
    console.print(table)


def printable(text: str) -> str:
    """`text` on one line and safe for a terminal: what is not printable is escaped."""
    if text.isprintable() and "\\" not in text:
        return text
    # A backslash is doubled, so that no text can pass for an escape.
    return "".join(each if each.isprintable() and each != "\\" else _escaped(each) for each in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def print_json(value: object) -> None:
    """JSON on standard output, for programs."""
    json.dump(value, sys.stdout, indent=2, default=str)
    sys.stdout.write("\n")


def status_line() -> tuple[Callable[[str], None], Callable[[], None]]:
    """A line on standard error that replaces itself while something long goes on: (say, done)."""
    if not errors.is_terminal:
        said: list[str] = []

        def say_once(line: str) -> None:
            # A log keeps every line: only a change of subject is worth one.
            subject = " ".join(line.split()[:2])
            if not said or said[-1] != subject:
                said.append(subject)
                errors.print(line, markup=False)

        return say_once, lambda: None
    status = errors.status("")
    status.start()

    def say(line: str) -> None:
        status.update(line)

    return say, status.stop
