"""A Redis in memory and the client's line to it: redis-py's own commands, without a socket and without a thread.

It can be lost, restarted with what was on its disk, or refuse; its lines notice as those of a real server do.
"""

from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from hashlib import sha1
from typing import Any

from redis.client import Pipeline, Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import (
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from engine.runtime import codec
from engine.simulation.commands import Keyspace
from engine.simulation.keyspace import CommandError, Reply
from engine.simulation.scripting import interpreter

#: Errors by the code they begin with, as redis-py raises them; any other is a ResponseError.
_ERRORS: dict[str, type[RedisError]] = {
    "NOSCRIPT": NoScriptError,
    "READONLY": ReadOnlyError,
    "OOM": OutOfMemoryError,
}
_NO_SKEW = timedelta(0)


class Server:
    """One server: its data, its scripts, its run id. Each start is another `generation`."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        """`now`: real time; the server's own clock is `skew` off it."""
        self.skew = _NO_SKEW
        self.keys = Keyspace(lambda: codec.to_us(now() + self.skew))
        self.generation = 1
        #: What every command is answered while the server refuses, such as "OOM ..."; "" while it does not.
        self.refuses = ""
        self._scripts: dict[str, str] = {}

    @property
    def run_id(self) -> str:
        """This start's own name."""
        return f"server-{self.generation}"

    def restart(self, kept: tuple[dict[str, Any], dict[str, int]] | None = None) -> None:
        """Start again with `kept`, or with nothing: every line is cut and every script forgotten."""
        self.generation += 1
        self._scripts.clear()
        self.keys.restore(kept or ({}, {}))

    def execute(self, name: str, arguments: Sequence[str]) -> Reply:
        """One command's reply; CommandError where it is an error."""
        if self.refuses:
            raise CommandError(self.refuses)
        if name == "EVALSHA":
            return self._run(arguments)
        if name == "SCRIPT LOAD":
            sha = sha1(arguments[0].encode(), usedforsecurity=False).hexdigest()
            self._scripts[sha] = arguments[0]
            return sha
        if name == "INFO":
            return f"# Server\r\nrun_id:{self.run_id}\r\n"
        return self.keys.call(name, arguments)

    def _run(self, arguments: Sequence[str]) -> Reply:
        source = self._scripts.get(arguments[0])
        if source is None:
            raise CommandError("NOSCRIPT No matching script.")
        count = int(arguments[1])
        return interpreter().run(source, arguments[2 : 2 + count], arguments[2 + count :], self.keys.call)


class Line:
    """A connection: commands out, replies in, in their order. Of a server that started again nothing comes back."""

    def __init__(self, server: Server, options: dict[str, Any]) -> None:
        self._server = server
        self._options = options
        self._generation = 0
        self._replies: deque[Reply | RedisError] = deque()

    def on_connect(self) -> None:
        """Nothing to agree on."""

    def disconnect(self) -> None:
        """Forget what is still on its way."""
        self._generation = 0
        self._replies.clear()

    def drop_if_cut(self) -> None:
        """Forget a connection that the server has closed."""
        if self._generation != self._server.generation:
            self.disconnect()

    def send_command(self, name: str, *arguments: Any, check_health: bool = True) -> None:
        """Let the server do it at once; its reply waits for `read_response`."""
        del check_health
        if not self._generation:
            self._connect()
        if self._generation != self._server.generation:
            raise RedisConnectionError("the server closed the connection")
        texts = [each if type(each) is str else _text(each) for each in arguments]
        try:
            self._replies.append(self._server.execute(name, texts))
        except CommandError as refused:
            self._replies.append(_raised(str(refused)))

    def read_response(self) -> Reply:
        """The next reply; raises where it is an error."""
        reply = self._replies.popleft()
        if isinstance(reply, RedisError):
            raise reply
        return reply

    def _connect(self) -> None:
        self._generation = self._server.generation
        greet = self._options.get("redis_connect_func")
        if greet is not None:
            try:
                greet(self)
            except BaseException:
                self.disconnect()
                raise


class Lines:
    """What redis-py's pool of connections is to those who use one themselves."""

    def __init__(self, server: Server) -> None:
        #: RESP2: hashes and scores come flat, and redis-py's own callbacks make of them what they are.
        self.connection_kwargs: dict[str, Any] = {"protocol": 2, "decode_responses": True}
        self._server = server
        self._made: list[Line] = []

    def make_connection(self) -> Line:
        """A new line."""
        line = Line(self._server, self.connection_kwargs)
        self._made.append(line)
        return line

    def disconnect(self) -> None:
        """Cut every line."""
        for line in self._made:
            line.disconnect()

    def get_encoder(self) -> Any:
        """Nothing is encoded: there is no wire."""

    def reset(self) -> None:
        """Nothing to do for a client that goes."""


class Client(Redis):
    """redis-py's commands on a server in memory."""

    def __init__(self, server: Server) -> None:
        self._lines = Lines(server)
        super().__init__(connection_pool=self._lines)  # type: ignore[arg-type]
        self._line = self._lines.make_connection()

    def execute_command(self, *arguments: Any, **options: Any) -> Any:
        """As redis-py's, on the one line; a pool looks at a line before it hands it out."""
        self._line.drop_if_cut()
        self._line.send_command(*arguments)
        return self._read(arguments[0], options)

    def _read(self, name: str, options: dict[str, Any]) -> Any:
        reply = self._line.read_response()
        callback: Any = self.response_callbacks.get(name)  # type: ignore[no-untyped-call]
        options.pop("keys", None)
        return callback(reply, **options) if callback else reply

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> "Pipeline":
        del transaction, shard_hint
        return Together(self)


class Together(Pipeline):
    """Several commands at once: here nothing can come between them."""

    def __init__(self, client: Client) -> None:
        super().__init__(client._lines, client.response_callbacks, transaction=True, shard_hint=None)  # type: ignore[arg-type]
        self._client = client

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        del raise_on_error
        commands, self.command_stack = self.command_stack, []
        return [self._client.execute_command(*arguments, **options) for arguments, options in commands]


def _text(value: Any) -> str:
    """An argument as a client puts it on the wire."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"no argument of a command: {value!r}")
    return repr(value)


def _raised(text: str) -> RedisError:
    code = text.split(" ", 1)[0]
    return _ERRORS.get(code, ResponseError)(text.removeprefix("ERR "))
