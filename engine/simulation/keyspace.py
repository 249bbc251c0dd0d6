"""The data of a Redis in memory: values by their kinds, and when they end."""

from collections.abc import Callable
from typing import Any, TypeVar

#: What a command answers: text, a number, nothing, or a list of those.
Reply = Any
_Value = TypeVar("_Value")


class CommandError(Exception):
    """What a server answers with an error; the text begins with its code."""


class Status(str):
    """A status such as OK, which a script receives as a table."""

    __slots__ = ()


_WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"
#: From here on a server writes a whole number as it does a fraction.
_MOST_WHOLE = 2.0**62


class Hash(dict[str, str]):
    """Fields, in the order they came."""


class Members(dict[str, None]):
    """A set, in the order its members came: nothing here may depend on Python's own hashes."""


class Scores(dict[str, float]):
    """A sorted set."""


class Entries(list[str]):
    """A list."""


class Stream(list[tuple[str, dict[str, str]]]):
    """Entries under their ids; `last` is the highest id there ever was."""

    last = (0, 0)


class Values:
    """Keys, values and when they end. Time is `now_us`, the server's own clock in microseconds."""

    def __init__(self, now_us: Callable[[], int]) -> None:
        self.now_us = now_us
        self.values: dict[str, Any] = {}
        #: Keys that end, each with its end, ms.
        self.ends: dict[str, int] = {}

    def copy(self) -> tuple[dict[str, Any], dict[str, int]]:
        """All of it as it is now; to be given to `restore`."""
        return {name: _copied(value) for name, value in self.values.items()}, {**self.ends}

    def restore(self, kept: tuple[dict[str, Any], dict[str, int]]) -> None:
        """Be again what `copy` saw."""
        values, ends = kept
        self.values = {name: _copied(value) for name, value in values.items()}
        self.ends = {**ends}

    def of(self, key: str, kind: type[_Value]) -> _Value | None:
        """The value of a key, None where there is none; an error where it is of another kind."""
        ends = self.ends.get(key)
        if ends is not None and self.now_us() // 1000 > ends:
            self.drop(key)
            return None
        found = self.values.get(key)
        if found is None:
            return None
        if type(found) is not kind:
            raise CommandError(_WRONG_TYPE)
        return found

    def made(self, key: str, kind: type[_Value]) -> _Value:
        found = self.of(key, kind)
        if found is None:
            found = self.values[key] = kind()
        return found

    def is_there(self, key: str) -> bool:
        ends = self.ends.get(key)
        if ends is not None and self.now_us() // 1000 > ends:
            self.drop(key)
        return key in self.values

    def drop(self, key: str) -> bool:
        self.ends.pop(key, None)
        return self.values.pop(key, None) is not None

    def drop_if_empty(self, key: str, value: Any) -> None:
        if not value:
            self.drop(key)


def number_text(number: float) -> str:
    """A number as a server writes it; one that it would write with an exponent is none of ours."""
    if number in (float("inf"), float("-inf")):
        return "inf" if number > 0 else "-inf"
    text = str(int(number)) if number.is_integer() and abs(number) < _MOST_WHOLE else repr(number)
    if "e" in text:
        raise NotImplementedError(f"no script of ours writes {text}")
    return text


def _copied(value: Any) -> Any:
    if isinstance(value, str):
        return value
    if isinstance(value, Stream):
        made = Stream(value)
        made.last = value.last
        return made
    return type(value)(value)
