"""The two servers the engine needs: the ones it is given, checked, or else its own, started and stopped here."""

from pathlib import Path
from types import TracebackType
from typing import Self

import redis
import sqlalchemy
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from engine.stack.postgres import EmbeddedPostgres
from engine.stack.problems import EnvironmentProblem
from engine.stack.valkey import EmbeddedValkey

#: The oldest Redis (or the Valkey that says it is compatible with it): functions of scripts and sorted sets we use.
OLDEST_REDIS = (7, 0)

#: The oldest PostgreSQL, as it counts itself.
OLDEST_POSTGRES = 140000

#: Seconds a given server has to answer.
CONNECT_TIMEOUT = 5

DRIVER = "postgresql+psycopg2"


class Servers:
    """`with Servers(directory) as servers:` gives `servers.redis_url` and `servers.database_url`.

    Servers of our own keep their data under `directory`, end with the block, and die with this process.
    Raises EnvironmentProblem.
    """

    def __init__(self, directory: Path, *, redis_url: str | None = None, database_url: str | None = None) -> None:
        self._given_redis = redis_url
        self._given_database = database_url
        self.valkey = None if redis_url else EmbeddedValkey(directory / "valkey")
        self.postgres = None if database_url else EmbeddedPostgres(directory / "postgres")

    @property
    def redis_url(self) -> str:
        return self.valkey.url if self.valkey is not None else self._given_redis or ""

    @property
    def database_url(self) -> str:
        return self.postgres.url if self.postgres is not None else normalise(self._given_database or "")

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        # What is given is checked first: that is quick, and most often wrong.
        if self._given_redis:
            check_redis(self._given_redis)
        if self._given_database:
            check_database(self._given_database)
        self.revive()

    def revive(self) -> list[str]:
        """Start those of our own servers that do not run, at the same URLs; tells which. From the main thread."""
        started = []
        for name, server in (("valkey", self.valkey), ("postgres", self.postgres)):
            if server is not None and not server.alive():
                server.start()
                started.append(name)
        return started

    def stop(self) -> None:
        try:
            if self.postgres is not None:
                self.postgres.stop()
        finally:
            if self.valkey is not None:
                self.valkey.stop()


def normalise(url: str) -> str:
    """A PostgreSQL URL with the driver we ship. Raises EnvironmentProblem."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise EnvironmentProblem(f"DATABASE_URL is no URL: expected {DRIVER}://user:password@host/database") from None
    if parsed.drivername not in ("postgres", "postgresql", DRIVER):
        raise EnvironmentProblem(
            f"DATABASE_URL begins with {parsed.drivername}: only PostgreSQL is supported, as {DRIVER}://..."
        )
    return f"{DRIVER}://{url.partition('://')[2]}"


def check_redis(url: str) -> None:
    """Reach the server and look at what it is. Raises EnvironmentProblem."""
    limits = {"socket_timeout": CONNECT_TIMEOUT, "socket_connect_timeout": CONNECT_TIMEOUT}
    try:
        client = redis.Redis.from_url(url, retry=Retry(NoBackoff(), retries=0), **limits)
    except ValueError as error:
        raise EnvironmentProblem(f"REDIS_URL is wrong ({error})") from None
    shown = _without_password(url)
    try:
        info = client.info()
    except (redis.RedisError, OSError) as error:
        raise EnvironmentProblem(
            f"cannot use Redis at {shown} ({_one_line(error)}): start it or mend REDIS_URL"
        ) from None
    finally:
        client.close()
    version = str(info.get("redis_version", "0"))
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_REDIS:
        raise EnvironmentProblem(f"Redis at {shown} is {version}: 7.0 or later is needed")
    policy = info.get("maxmemory_policy", "noeviction")
    if info.get("maxmemory") and policy != "noeviction":
        raise EnvironmentProblem(f"Redis at {shown} evicts keys ({policy}): set maxmemory-policy noeviction")


def check_database(url: str) -> None:
    """Reach the server and look at its version. Raises EnvironmentProblem."""
    parsed = make_url(normalise(url))
    shown = parsed.render_as_string(hide_password=True)
    database = sqlalchemy.create_engine(parsed, connect_args={"connect_timeout": CONNECT_TIMEOUT})
    try:
        with database.connect() as connection:
            version = int(connection.execute(sqlalchemy.text("SHOW server_version_num")).scalar_one())
    except (SQLAlchemyError, UnicodeError) as error:
        reason = _one_line(getattr(error, "orig", None) or error)
        raise EnvironmentProblem(
            f"cannot use PostgreSQL at {shown} ({reason}): start it or mend DATABASE_URL"
        ) from None
    finally:
        database.dispose()
    if version < OLDEST_POSTGRES:
        raise EnvironmentProblem(f"PostgreSQL at {shown} is {version // 10000}: 14 or later is needed")


def _without_password(url: str) -> str:
    try:
        parsed: URL = make_url(url)
    except ArgumentError:
        return "REDIS_URL"
    return parsed.render_as_string(hide_password=True)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
