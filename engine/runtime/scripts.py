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

#: How often a script is loaded for one call: somebody may flush the scripts again in between.
LOADS = 3
#: Errors a server answers by its own words alone: what a command of ours did not fit, and what Lua itself raises.
_FAULTS = ("WRONGTYPE ", "user_script:", "@user_script:", "Error running script")
#: What an error without a word of its own says where it is about rights: the caller may get them back.
_DENIED = "ACL failure"


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
            for _ in range(LOADS):
                with suppress(NoScriptError):
                    return _asked(connection, "EVALSHA", self._shas[name], len(keys), *keys, *arguments)
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


def is_fault(error: Exception) -> bool:
    """Whether a script of ours itself failed, on state it did not expect; a refusal of the server is none.

    A refusal begins with a word of the server's (OOM, READONLY, BUSY ...), which redis-py keeps or knows by a class
    of its own; a script's failure has the general ERR, which it cuts off, or WRONGTYPE.
    """
    text = str(error)
    if type(error) is not ResponseError or _DENIED in text:
        return False
    word, _, _ = text.partition(" ")
    has_word = word.isupper() and word.isalpha() and word != "WRONGTYPE"
    return not has_word and (text.startswith(_FAULTS) or ", on @user_script:" in text)


def _asked(connection: Any, *command: Any) -> Any:
    # No PING ahead of it, which redis-py sends after seconds of idling: a script may be repeated, and is.
    connection.send_command(*command, check_health=False)
    return connection.read_response()
