"""Lua scripts on one server, each one round trip on a connection of its own for as long as it takes.

redis-py's `Script` takes a connection from its pool, looks at it, wraps the call for retries and metrics and gives it
back: of one script's time a third. Here idle connections lie on a stack, the last used on top, and a call is a write
and a read. What makes a connection, packs commands and reads replies is redis-py's.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import sha1
from typing import Any

from redis.client import Redis
from redis.exceptions import NoScriptError, ResponseError


class Scripts:
    """Callable by their names. Safe to use from many threads."""

    def __init__(self, redis: "Redis", sources: Mapping[str, str]) -> None:
        self._pool = redis.connection_pool
        self._sources = sources
        # Redis names a script by this digest of its source.
        self._shas = {
            name: sha1(source.encode(), usedforsecurity=False).hexdigest() for name, source in sources.items()
        }
        self._idle: deque[Any] = deque()

    def call(self, name: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """The script's reply. Raises redis.exceptions.RedisError; where the reply is lost, it may have run."""
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._pool.make_connection()
        try:
            try:
                return _asked(connection, "EVALSHA", self._shas[name], len(keys), *keys, *arguments)
            except NoScriptError:
                _asked(connection, "SCRIPT LOAD", self._sources[name])
                return _asked(connection, "EVALSHA", self._shas[name], len(keys), *keys, *arguments)
        except ResponseError:
            raise
        except BaseException:
            # A reply may still be on its way: the next call must not read it.
            connection.disconnect()
            raise
        finally:
            self._idle.append(connection)

    def close(self) -> None:
        """Close what is idle."""
        with suppress(IndexError):
            while True:
                self._idle.pop().disconnect()


def _asked(connection: Any, *command: Any) -> Any:
    # No PING ahead of it, which redis-py sends after seconds of idling: a script may be repeated, and is.
    connection.send_command(*command, check_health=False)
    return connection.read_response()
