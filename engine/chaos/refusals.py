"""How Redis and PostgreSQL are made to refuse, to be away, or to be others than before; courses as in `courses`."""

from functools import partial
from typing import Any

from sqlalchemy import create_engine, text

from engine.chaos import world
from engine.chaos.courses import Put
from engine.chaos.field import Course, Field, pause, until
from engine.ledger import stored_up_to
from engine.runtime import keys

#: How long a server refuses, seconds.
REFUSES_FOR = 6.0
#: How far ahead the clock of the server that is swapped was, milliseconds.
AHEAD_MS = 3_600_000


def redis_refuses(setting: str) -> Put:
    """Redis answers every write with a refusal: OOM, or READONLY as a replica whose master is away."""
    on, off = {
        "OOM": (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
        "READONLY": (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")),
    }[setting]

    def put(field: Field) -> Course:
        redis: Any = field.stack.redis  # whose commands have no types of their own
        redis.execute_command(*on)
        field.undo.append(partial(redis.execute_command, *off))
        field.strike()
        yield from pause(REFUSES_FOR)
        redis.execute_command(*off)

    return put


def dip_during(first: Put) -> Put:
    """While `first` lasts, each stop is reached for a second, and its price recovers."""

    def put(field: Field) -> Course:
        course = first(field)
        next(course, None)
        yield from _also(course, pause(0.5))
        for trial in field.trials:
            world.breach(field, trial)
        yield from _also(course, pause(1.0))
        for trial in field.trials:
            field.paper.price(trial.symbol, str(trial.calm))
        yield from course

    return put


def redis_away(field: Field) -> Course:
    """Redis is killed and stays away for a while."""
    field.redis_server.kill()
    field.undo.append(field.redis_server.start)
    field.strike()
    yield from pause(REFUSES_FOR)
    field.redis_server.start()


def redis_behind(field: Field) -> Course:
    """Redis is swapped for one whose clock is behind: ids of its streams lie before what was drained already."""
    redis: Any = field.stack.redis  # whose answers have the types of every protocol at once
    yield from until(lambda: redis.xlen(keys.LEDGER) > 0)
    # The newest record again, under an id of a clock that is ahead; what is stored is stored once.
    (stream_id, fields) = redis.xrevrange(keys.LEDGER, count=1)[0]
    ahead = f"{int(stream_id.split('-')[0]) + AHEAD_MS}-0"
    redis.xadd(keys.LEDGER, fields, id=ahead)
    epoch = int(redis.get(keys.EPOCH).split(":")[0])
    yield from until(lambda: stored_up_to(field.stack.sessions, epoch) == ahead, world.MEANWHILE)
    redis.flushall()
    field.strike()
    yield


def dead_beside_rebuild(field: Field) -> Course:
    """Redis loses everything while the first trial's login is dead: the others are armed again all the same."""
    first, *others = field.trials
    world.log_out(field, first.tenant)
    field.stack.redis.flushall()
    field.strike()
    yield from world.over_meanwhile(others)
    world.log_in_all(field, [first.tenant])


def postgres_read_only(field: Field) -> Course:
    """PostgreSQL takes no write, as after its disk filled up or a failover to a replica."""
    _administer(field, "ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
    healthy = ("ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()")
    field.undo.append(partial(_administer, field, *healthy))
    field.strike()
    yield from pause(REFUSES_FOR)
    _administer(field, *healthy)


def postgres_terminates(field: Field) -> Course:
    """Every session at PostgreSQL is terminated by its administrator."""
    others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = "
    _administer(field, others + "current_database()")
    field.strike()
    yield


def _administer(field: Field, *statements: str) -> None:
    engine = create_engine(field.stack.servers.database_url, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            for statement in statements:
                connection.execute(text(statement))
    finally:
        engine.dispose()


def _also(first: Course, second: Course) -> Course:
    """`first` goes on beside `second`, until that is over."""
    for _ in second:
        next(first, None)
        yield
