"""The Redis in memory answers each command, and each script, as a server does; what it does not know it refuses."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError

from engine.runtime.epoch import EpochGuard, ServerChangedError
from engine.runtime.store import load_scripts
from engine.simulation.commands import Keyspace
from engine.simulation.scripting import Interpreter
from engine.simulation.server import Client, Server

ANY_SERVER = settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
Command = tuple[str, ...]

#: Few, so that commands meet each other, and values of the wrong kind.
KEYS = st.sampled_from(("a", "b", "c:1"))
NAMES = st.sampled_from(("x", "y", "z", "größe"))
NUMBERS = st.sampled_from(("0", "1", "-3", "1767585600000000", "9007199254740993", "007", "1.5", "", "word"))
SCORES = st.sampled_from(("1", "2", "2.5", "-1", "1767585600000001", "inf", "word"))
BOUNDS = st.sampled_from(("-inf", "+inf", "1", "2", "(2", "2.5", "word"))
PLACES = st.sampled_from(("0", "1", "-1", "-2", "5"))
LIVES = st.sampled_from(("100000", "900000", "0", "-5"))


def command(name: str, *parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Command]:
    """`name` with a text, or several, of each of `parts`."""

    def flat(given: tuple[Any, ...]) -> Command:
        return (name, *(text for part in given for text in (part if isinstance(part, tuple) else (part,))))

    return st.tuples(*parts).map(flat)


def some(part: st.SearchStrategy[Any], *, at_least: int = 1) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(part, min_size=at_least, max_size=3).map(
        lambda found: tuple(text for each in found for text in (each if isinstance(each, tuple) else (each,)))
    )


PAIRS = some(st.tuples(NAMES, NUMBERS))
#: Each name once, as every record has it.
FIELDS = st.dictionaries(NAMES, NUMBERS, min_size=1, max_size=3).map(
    lambda fields: tuple(text for pair in fields.items() for text in pair)
)
SCORED = some(st.tuples(SCORES, NAMES))
ZADD_OPTIONS = st.sampled_from(((), ("NX",), ("XX",), ("LT",), ("GT",), ("XX", "CH"), ("LT", "CH"), ("NX", "LT")))
LIMIT = st.sampled_from(((), ("LIMIT", "0", "1"), ("LIMIT", "1", "2"), ("LIMIT", "0", "-1"), ("WITHSCORES",)))

COMMANDS: dict[str, st.SearchStrategy[Command]] = {
    "EXISTS": command("EXISTS", some(KEYS)),
    "DEL": command("DEL", some(KEYS)),
    "UNLINK": command("UNLINK", KEYS),
    "KEYS": command("KEYS", st.sampled_from(("*", "a*", "c:*"))),
    "FLUSHALL": st.just(("FLUSHALL",)),
    "PEXPIRE": command("PEXPIRE", KEYS, LIVES),
    "EXPIRE": command("EXPIRE", KEYS, LIVES),
    "PERSIST": command("PERSIST", KEYS),
    "PEXPIRETIME": command("PEXPIRETIME", KEYS),
    "PTTL": command("PTTL", KEYS),
    "GET": command("GET", KEYS),
    "SET": command(
        "SET", KEYS, NUMBERS, st.sampled_from(((), ("PX", "900000"), ("NX",), ("NX", "PX", "900000"), ("PX", "0")))
    ),
    "INCR": command("INCR", KEYS),
    "DECR": command("DECR", KEYS),
    "INCRBY": command("INCRBY", KEYS, NUMBERS),
    "HSET": command("HSET", KEYS, PAIRS),
    "HSETNX": command("HSETNX", KEYS, NAMES, NUMBERS),
    "HGET": command("HGET", KEYS, NAMES),
    "HMGET": command("HMGET", KEYS, some(NAMES)),
    "HGETALL": command("HGETALL", KEYS),
    "HKEYS": command("HKEYS", KEYS),
    "HVALS": command("HVALS", KEYS),
    "HDEL": command("HDEL", KEYS, some(NAMES)),
    "HEXISTS": command("HEXISTS", KEYS, NAMES),
    "HLEN": command("HLEN", KEYS),
    "HINCRBY": command("HINCRBY", KEYS, NAMES, NUMBERS),
    "SADD": command("SADD", KEYS, some(NAMES)),
    "SREM": command("SREM", KEYS, some(NAMES)),
    "SMEMBERS": command("SMEMBERS", KEYS),
    "SISMEMBER": command("SISMEMBER", KEYS, NAMES),
    "SCARD": command("SCARD", KEYS),
    "ZADD": command("ZADD", KEYS, ZADD_OPTIONS, SCORED),
    "ZREM": command("ZREM", KEYS, some(NAMES)),
    "ZSCORE": command("ZSCORE", KEYS, NAMES),
    "ZCARD": command("ZCARD", KEYS),
    "ZINCRBY": command("ZINCRBY", KEYS, st.sampled_from(("1", "-2", "word")), NAMES),
    "ZCOUNT": command("ZCOUNT", KEYS, BOUNDS, BOUNDS),
    "ZRANGE": command("ZRANGE", KEYS, PLACES, PLACES, st.sampled_from(((), ("WITHSCORES",)))),
    "ZRANGEBYSCORE": command("ZRANGEBYSCORE", KEYS, BOUNDS, BOUNDS, LIMIT),
    "ZREMRANGEBYSCORE": command("ZREMRANGEBYSCORE", KEYS, BOUNDS, BOUNDS),
    "LPUSH": command("LPUSH", KEYS, some(NAMES)),
    "RPUSH": command("RPUSH", KEYS, some(NAMES)),
    "RPOP": command("RPOP", KEYS),
    "LRANGE": command("LRANGE", KEYS, PLACES, PLACES),
    "LLEN": command("LLEN", KEYS),
    "XADD": command("XADD", KEYS, st.just("*"), FIELDS),
    "XLEN": command("XLEN", KEYS),
    "XRANGE": command("XRANGE", KEYS, st.just(("-", "+")), st.sampled_from(((), ("COUNT", "1")))),
    "XDEL": command("XDEL", KEYS, st.just("1-1")),
}
#: Told by each server's own clock.
BY_THE_CLOCK = {"TIME"}


def test_every_command_of_the_memory_is_compared() -> None:
    assert {*COMMANDS} | BY_THE_CLOCK == {*Keyspace(lambda: 0).commands}


def memory() -> Client:
    return Client(Server(lambda: datetime.now(UTC)))


def plain(url: str) -> "Redis":
    """Replies as they are on the wire of RESP2."""
    return Redis.from_url(url, decode_responses=True, protocol=2)


def answer(client: Any, sent: Sequence[str]) -> Any:
    """What one command is answered, without what differs by time, by version or by order."""
    client.response_callbacks.clear()
    try:
        reply = client.execute_command(*sent)
    except RedisError:
        return "an error"
    name = sent[0]
    if name in {"PTTL", "PEXPIRETIME"}:
        return reply if reply < 0 else "ends"
    if name == "XADD":
        return "an id"
    if name == "XRANGE":
        return [fields for _, fields in reply]
    if name in {"KEYS", "SMEMBERS"}:
        return sorted(reply)
    return reply


@ANY_SERVER
@given(sequence=st.lists(st.one_of(*COMMANDS.values()), max_size=40))
@example(sequence=[("SET", "a", ""), ("INCR", "a")])
def test_any_sequence_of_commands_is_answered_alike(redis_url: str, sequence: list[Command]) -> None:
    mine, real = memory(), plain(redis_url)
    real.flushall()
    for sent in sequence:
        assert answer(mine, sent) == answer(real, sent), sent
    real.close()


SCRIPTS = {
    "numbers of every length": "redis.call('HSET', 'h', 'a', 1767585600000000, 'b', 0.5, 'c', -2.5, 'd', 2^53,"
    " 'e', 1e18, 'f', 123456789.125) return redis.call('HGETALL', 'h')",
    "a number as text": "return { tostring(1767585600000000), string.format('%d', 1767585600000001) }",
    "a score": "redis.call('ZADD', 'z', 1767585600000000, 'm') return redis.call('ZSCORE', 'z', 'm')",
    "numbers told": "return { 1767585600000000, 2.9, -1.5, true, 'text', { 'in', {} } }",
    "the end at a hole": "return { 1, nil, 3 }",
    "no is kept": "return { 1, false, 3 }",
    "nothing": "return nil",
    "an error of its own": "return redis.error_reply('EPOCH closed')",
    "a status": "return redis.call('SET', 'k', 'v')",
    "a status read": "return redis.call('SET', 'k', 'v').ok",
    "what is not there": "return { redis.call('GET', 'no') == false, redis.call('HMGET', 'no', 'a')[1] == false }",
    "a refused command": "redis.call('SADD', 's', 'm') return redis.call('GET', 's')",
    "a refused command caught": "redis.call('SADD', 's', 'm') return (pcall(redis.call, 'GET', 's')) and 1 or 0",
    "a boolean sent": "return redis.call('SET', 'k', true)",
    "a global written": "made = 1",
    "a global read": "return unknown",
    "numbers in JSON": "return cjson.encode({ 1767585600000000, 12345678901234, 0.1, 5, true })",
    "text in JSON": "return cjson.encode({ 'a/b\\n\"größe\"\\127\\1' })",
    "empty in JSON": "return cjson.encode({ {} })",
    "an object in JSON": "return cjson.encode({ alone = { 'x' } })",
    "JSON read": "local t = cjson.decode(ARGV[1]) return { t.set.dirty, #t.del, t.n, t.deep.deeper[2] }",
    "JSON that is none": "return cjson.decode('{')",
    "keys and arguments": "return { #KEYS, #ARGV, KEYS[1], ARGV[1] }",
    "text replaced": "return (string.gsub('{run} at {time}', '{(%l+)}', { run = 'r%1', time = 5 }))",
}
GIVEN = '{"set":{"dirty":"1"},"del":["a","b"],"n":1767585600000000,"deep":{"deeper":[1,"two"]}}'


@pytest.mark.parametrize("source", [pytest.param(each, id=name) for name, each in SCRIPTS.items()])
def test_a_script_is_answered_alike(redis: Redis, redis_url: str, source: str) -> None:
    mine, real = memory(), plain(redis_url)
    answers = []
    for client in (mine, real):
        sha = client.script_load(source)
        answers.append(answer(client, ("EVALSHA", str(sha), "1", "key", GIVEN)))
    real.close()
    assert answers[0] == answers[1]


def test_what_the_memory_does_not_know_it_refuses() -> None:
    with pytest.raises(NotImplementedError):
        memory().execute_command("GEOADD", "a", "1", "2", "here")


def test_a_key_ends_by_the_worlds_clock() -> None:
    now = datetime(2026, 1, 5, tzinfo=UTC)
    client = Client(Server(lambda: now))
    client.set("a", "1", px=1000)
    now += timedelta(milliseconds=1000)
    assert client.get("a") == "1"
    now += timedelta(milliseconds=1)
    assert client.get("a") is None


def test_a_restarted_server_cuts_its_lines_and_its_guard_sees_another() -> None:
    server = Server(lambda: datetime.now(UTC))
    client = Client(server)
    guard = EpochGuard(client)
    guard.open(3)
    line: Any = client.connection_pool.make_connection()
    line.send_command("GET", "a")
    assert line.read_response() is None
    server.restart(server.keys.copy())
    with pytest.raises(ServerChangedError):
        guard.stored()
    assert (guard.stored(), guard.is_open()) == ((3, "server-1"), False)
    with pytest.raises(RedisConnectionError):
        line.send_command("GET", "a")


def test_a_server_that_refuses_says_why() -> None:
    server = Server(lambda: datetime.now(UTC))
    client = Client(server)
    server.refuses = "MISCONF Redis is configured to save"
    with pytest.raises(ResponseError, match="MISCONF"):
        client.get("a")


def test_a_script_that_was_forgotten_is_loaded_again() -> None:
    server = Server(lambda: datetime.now(UTC))
    client = Client(server)
    sha = client.script_load("return 1")
    server.restart()
    with pytest.raises(NoScriptError):
        client.evalsha(sha, 0)


def test_every_script_of_the_engine_loads() -> None:
    for name, source in load_scripts().items():
        assert Interpreter()._loaded(source), name
