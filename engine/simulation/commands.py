"""The commands of a Redis in memory: those that the scripts and the store use. An unknown one raises.

Written to answer as a server does, command by command; the contract suite compares the two.
"""

import re
from collections.abc import Callable, Sequence
from fnmatch import translate
from functools import lru_cache
from typing import Any, TypeVar

from engine.simulation.keyspace import (
    CommandError,
    Entries,
    Hash,
    Members,
    Reply,
    Scores,
    Status,
    Stream,
    Values,
    number_text,
)

_Value = TypeVar("_Value")

OK = Status("OK")
_NOT_INTEGER = "ERR value is not an integer or out of range"
_NOT_HASH_INTEGER = "ERR hash value is not an integer"
_NOT_FLOAT = "ERR value is not a valid float"
_SYNTAX = "ERR syntax error"
_INTEGER = re.compile(r"-?(0|[1-9]\d*)\Z")


class Keyspace(Values):
    """Keys and the commands on them. Time is `now_us`, the server's own clock in microseconds."""

    def __init__(self, now_us: Callable[[], int]) -> None:
        super().__init__(now_us)
        self.commands: dict[str, Callable[..., Reply]] = {
            name.removeprefix("do_").upper(): getattr(self, name) for name in dir(self) if name.startswith("do_")
        }

    def call(self, name: str, arguments: Sequence[str]) -> Reply:
        """One command's reply; CommandError where a server answers with one."""
        command = self.commands.get(name) or self.commands.get(name.upper())
        if command is None:
            raise NotImplementedError(f"the Redis in memory knows no {name}")
        try:
            return command(*arguments)
        except TypeError as error:
            if "positional argument" not in str(error):
                raise
            raise CommandError(f"ERR wrong number of arguments for '{name.lower()}' command") from error

    # Keys.

    def do_exists(self, *keys: str) -> int:
        return sum(self.is_there(key) for key in keys)

    def do_del(self, *keys: str) -> int:
        return sum(self.is_there(key) and self.drop(key) for key in keys)

    do_unlink = do_del

    def do_keys(self, pattern: str) -> list[str]:
        fits = _fitting(pattern)
        return [key for key in [*self.values] if fits(key) and self.is_there(key)]

    def do_flushall(self) -> Status:
        self.values.clear()
        self.ends.clear()
        return OK

    def do_pexpire(self, key: str, ms: str) -> int:
        return self._end(key, self.now_us() // 1000 + _integer(ms))

    def do_expire(self, key: str, seconds: str) -> int:
        return self._end(key, self.now_us() // 1000 + _integer(seconds) * 1000)

    def _end(self, key: str, at_ms: int) -> int:
        if not self.is_there(key):
            return 0
        if at_ms <= self.now_us() // 1000:
            self.drop(key)
        else:
            self.ends[key] = at_ms
        return 1

    def do_persist(self, key: str) -> int:
        return int(self.is_there(key) and self.ends.pop(key, None) is not None)

    def do_pexpiretime(self, key: str) -> int:
        return self.ends.get(key, -1) if self.is_there(key) else -2

    def do_pttl(self, key: str) -> int:
        ends = self.do_pexpiretime(key)
        return ends if ends < 0 else max(0, ends - self.now_us() // 1000)

    # Text.

    def do_get(self, key: str) -> str | None:
        return self.of(key, str)

    def do_set(self, key: str, value: str, *options: str) -> Status | None:
        named = [option.upper() for option in options]
        ends: int | None = None
        if "PX" in named:
            life = _integer(options[named.index("PX") + 1])
            if life <= 0:
                raise CommandError("ERR invalid expire time in 'set' command")
            ends = self.now_us() // 1000 + life
        if [each for each in named if each not in ("PX", "NX") and not each.isdigit()]:
            raise CommandError(_SYNTAX)
        if "NX" in named and self.is_there(key):
            return None
        self.drop(key)
        self.values[key] = value
        if ends is not None:
            self.ends[key] = ends
        return OK

    def do_incr(self, key: str) -> int:
        return self.do_incrby(key, "1")

    def do_decr(self, key: str) -> int:
        return self.do_incrby(key, "-1")

    def do_incrby(self, key: str, by: str) -> int:
        known = self.of(key, str)
        n = _integer("0" if known is None else known) + _integer(by)
        self.values[key] = str(n)
        return n

    # Hashes.

    def do_hset(self, key: str, *pairs: str) -> int:
        if not pairs or len(pairs) % 2:
            raise CommandError("ERR wrong number of arguments for 'hset' command")
        fields = self.made(key, Hash)
        before = len(fields)
        fields.update(zip(pairs[0::2], pairs[1::2], strict=True))
        return len(fields) - before

    def do_hsetnx(self, key: str, field: str, value: str) -> int:
        fields = self.made(key, Hash)
        if field in fields:
            return 0
        fields[field] = value
        return 1

    def do_hget(self, key: str, field: str) -> str | None:
        fields = self.of(key, Hash)
        return None if fields is None else fields.get(field)

    def do_hmget(self, key: str, *names: str) -> list[str | None]:
        fields = self.of(key, Hash) or Hash()
        return [fields.get(name) for name in names]

    def do_hgetall(self, key: str) -> list[str]:
        return [text for pair in (self.of(key, Hash) or {}).items() for text in pair]

    def do_hkeys(self, key: str) -> list[str]:
        return [*(self.of(key, Hash) or ())]

    def do_hvals(self, key: str) -> list[str]:
        return [*(self.of(key, Hash) or {}).values()]

    def do_hdel(self, key: str, name: str, *names: str) -> int:
        fields = self.of(key, Hash)
        if fields is None:
            return 0
        dropped = sum(fields.pop(each, None) is not None for each in (name, *names))
        self.drop_if_empty(key, fields)
        return dropped

    def do_hexists(self, key: str, field: str) -> int:
        return int(field in (self.of(key, Hash) or ()))

    def do_hlen(self, key: str) -> int:
        return len(self.of(key, Hash) or ())

    def do_hincrby(self, key: str, field: str, by: str) -> int:
        step = _integer(by)
        fields = self.of(key, Hash) or Hash()
        n = _integer(fields.get(field, "0"), _NOT_HASH_INTEGER) + step
        self.made(key, Hash)[field] = str(n)
        return n

    # Sets.

    def do_sadd(self, key: str, member: str, *members: str) -> int:
        known = self.made(key, Members)
        before = len(known)
        known.update(dict.fromkeys((member, *members)))
        return len(known) - before

    def do_srem(self, key: str, member: str, *members: str) -> int:
        known = self.of(key, Members)
        if known is None:
            return 0
        before = len(known)
        for each in (member, *members):
            known.pop(each, None)
        gone = before - len(known)
        self.drop_if_empty(key, known)
        return gone

    def do_smembers(self, key: str) -> list[str]:
        return [*(self.of(key, Members) or ())]

    def do_sismember(self, key: str, member: str) -> int:
        return int(member in (self.of(key, Members) or ()))

    def do_scard(self, key: str) -> int:
        return len(self.of(key, Members) or ())

    # Sorted sets.

    def do_zadd(self, key: str, *given: str) -> int:
        options: set[str] = set()
        while given and given[0].upper() in ("NX", "XX", "LT", "GT", "CH"):
            options.add(given[0].upper())
            given = given[1:]
        if not given or len(given) % 2:
            raise CommandError(_SYNTAX)
        if len(options & {"NX", "LT", "GT"}) > 1 or {"NX", "XX"} <= options:
            raise CommandError("ERR GT, LT, and/or NX options at the same time are not compatible")
        pairs = [(member, _float(text)) for text, member in zip(given[0::2], given[1::2], strict=True)]
        scores = self.of(key, Scores)
        if scores is None:
            if "XX" in options:
                return 0
            scores = self.made(key, Scores)
        added = changed = 0
        for member, score in pairs:
            known = scores.get(member)
            if known is None:
                if "XX" not in options:
                    scores[member] = score
                    added += 1
            elif _may_move(known, score, options) and known != score:
                scores[member] = score
                changed += 1
        self.drop_if_empty(key, scores)
        return added + changed if "CH" in options else added

    def do_zrem(self, key: str, member: str, *members: str) -> int:
        scores = self.of(key, Scores)
        if scores is None:
            return 0
        gone = sum(scores.pop(each, None) is not None for each in (member, *members))
        self.drop_if_empty(key, scores)
        return gone

    def do_zscore(self, key: str, member: str) -> str | None:
        score = (self.of(key, Scores) or Scores()).get(member)
        return None if score is None else number_text(score)

    def do_zcard(self, key: str) -> int:
        return len(self.of(key, Scores) or ())

    def do_zincrby(self, key: str, by: str, member: str) -> str:
        step, scores = _float(by), self.made(key, Scores)
        scores[member] = scores.get(member, 0.0) + step
        return number_text(scores[member])

    def do_zcount(self, key: str, lowest: str, highest: str) -> int:
        return len(self._between(key, lowest, highest))

    def do_zrangebyscore(self, key: str, lowest: str, highest: str, *options: str) -> list[str]:
        found = self._between(key, lowest, highest)
        names = [each.upper() for each in options]
        if "LIMIT" in names:
            at = names.index("LIMIT")
            offset, count = _integer(options[at + 1]), _integer(options[at + 2])
            found = found[offset:] if count < 0 else found[offset : offset + count]
        return _ranged(found, is_scored="WITHSCORES" in names)

    def do_zrange(self, key: str, start: str, stop: str, *options: str) -> list[str]:
        found = _between_places(self._between(key, "-inf", "+inf"), start, stop)
        if {each.upper() for each in options} - {"WITHSCORES"}:
            raise NotImplementedError("ZRANGE takes places here, no other range")
        return _ranged(found, is_scored=bool(options))

    def do_zremrangebyscore(self, key: str, lowest: str, highest: str) -> int:
        gone = [member for _, member in self._between(key, lowest, highest)]
        return self.do_zrem(key, *gone) if gone else 0

    def _between(self, key: str, lowest: str, highest: str) -> list[tuple[float, str]]:
        (low, above), (high, below) = _bound(lowest), _bound(highest)
        return sorted(
            (score, member)
            for member, score in (self.of(key, Scores) or {}).items()
            if (score > low if above else score >= low) and (score < high if below else score <= high)
        )

    # Lists.

    def do_lpush(self, key: str, entry: str, *entries: str) -> int:
        queue = self.made(key, Entries)
        for each in (entry, *entries):
            queue.insert(0, each)
        return len(queue)

    def do_rpush(self, key: str, entry: str, *entries: str) -> int:
        queue = self.made(key, Entries)
        queue += (entry, *entries)
        return len(queue)

    def do_rpop(self, key: str) -> str | None:
        queue = self.of(key, Entries)
        if queue is None:
            return None
        last = queue.pop()
        self.drop_if_empty(key, queue)
        return last

    def do_lrange(self, key: str, start: str, stop: str) -> list[str]:
        return _between_places([*(self.of(key, Entries) or ())], start, stop)

    def do_llen(self, key: str) -> int:
        return len(self.of(key, Entries) or ())

    # Streams.

    def do_xadd(self, key: str, name: str, *pairs: str) -> str:
        if name != "*" or not pairs or len(pairs) % 2:
            raise NotImplementedError("XADD takes * and pairs here")
        stream = self.made(key, Stream)
        ms = self.now_us() // 1000
        # A clock that went back does not make an id come before those there were.
        stream.last = (ms, 0) if ms > stream.last[0] else (stream.last[0], stream.last[1] + 1)
        made = "{}-{}".format(*stream.last)
        stream.append((made, dict(zip(pairs[0::2], pairs[1::2], strict=True))))
        return made

    def do_xlen(self, key: str) -> int:
        return len(self.of(key, Stream) or ())

    def do_xrange(self, key: str, first: str, last: str, *options: str) -> list[list[Any]]:
        if (first, last) != ("-", "+"):
            raise NotImplementedError("XRANGE takes - and + here")
        found = [*(self.of(key, Stream) or ())]
        if options:
            found = found[: _integer(options[1])]
        return [[name, [text for pair in fields.items() for text in pair]] for name, fields in found]

    def do_xdel(self, key: str, *names: str) -> int:
        stream = self.of(key, Stream)
        if stream is None:
            return 0
        before, gone = len(stream), {*names}
        stream[:] = [entry for entry in stream if entry[0] not in gone]
        return before - len(stream)

    # The server.

    def do_time(self) -> list[str]:
        seconds, micros = divmod(self.now_us(), 1_000_000)
        return [str(seconds), str(micros)]


@lru_cache(maxsize=64)
def _fitting(pattern: str) -> Callable[[str], object]:
    return re.compile(translate(pattern)).match


def _integer(text: str, refused: str = _NOT_INTEGER) -> int:
    if not _INTEGER.match(text) or not -(2**63) <= int(text) < 2**63:
        raise CommandError(refused)
    return int(text)


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise CommandError(_NOT_FLOAT) from error


def _bound(text: str) -> tuple[float, bool]:
    """A bound of scores, and whether it is itself left out."""
    try:
        return float(text.removeprefix("(")), text.startswith("(")
    except ValueError as error:
        raise CommandError("ERR min or max is not a float") from error


def _may_move(known: float, score: float, options: set[str]) -> bool:
    return not ("NX" in options or ("LT" in options and score >= known) or ("GT" in options and score <= known))


def _between_places(found: list[_Value], start: str, stop: str) -> list[_Value]:
    first, last = (place + len(found) if place < 0 else place for place in (_integer(start), _integer(stop)))
    return found[max(first, 0) : max(last + 1, 0)]


def _ranged(found: list[tuple[float, str]], *, is_scored: bool) -> list[str]:
    if not is_scored:
        return [member for _, member in found]
    return [text for score, member in found for text in (member, number_text(score))]
