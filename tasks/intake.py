"""The gate before Celery: what lies in a queue and is no message of this engine is told of and goes no further.

Celery trusts its queue: one unreadable message ends a worker, and is delivered again to the next. Imports nothing of
ours.
"""

from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, NamedTuple

from celery.utils.dispatch import Signal
from kombu.transport.virtual.base import Base64
from kombu.utils.json import loads
from redis import exceptions

#: Sent with `source` (a queue), `reason` and `payload` for each message that was refused.
message_refused = Signal(name="message_refused", providing_args=["source", "reason", "payload"])

#: The one content type.
JSON = "application/json"
#: The largest message that is looked at, bytes: ours have about 1,000.
LARGEST = 64 * 1024
#: Brackets a message or its body may hold: ours have 10, and a parser's stack is finite.
MOST_BRACKETS = 200
#: Longest id of a message, characters.
LONGEST_ID = 100
#: How a body may be written: Celery's own, or as the text it is, by scripts that cannot encode.
_ENCODINGS = ("base64", None)
#: How far from now a message may ask to be run: a later one would only wait in a worker.
NEXT, LAST = timedelta(minutes=5), timedelta(days=1)

#: Celery's own housekeeping, which beat sends.
HOUSEKEEPING = frozenset({"celery.backend_cleanup"})
#: Headers that would make Celery drop, bound, unpack or continue a task; the engine leaves each like this.
_LEFT_ALONE: Mapping[str, Collection[object]] = {
    "expires": (None,),
    "group": (None,),
    "retries": (0,),
    "shadow": (None,),
    "timelimit": (None, [None, None]),
    "compression": (None,),
    "stamps": (None, {}),
    "stamped_headers": (None,),
    "callbacks": (None,),
    "errbacks": (None,),
    "chain": (None,),
    "chord": (None,),
    "is_eager": (False,),
    "replaced_task_nesting": (0,),
    "ignore_result": (None, False, True),
}
#: Headers of our own, by the task that knows what to do with them; Celery's own workers leave them alone.
_TOLD_BESIDE = {"execution.stoploss": ("reading",)}


def wall() -> datetime:
    """The wall's time, aware UTC."""
    return datetime.now(UTC)


#: Whose time an instant is judged by; a worker of the engine puts its own clock here, which no jump of the wall moves.
now: Callable[[], datetime] = wall


class Refused(ValueError):
    """Raised where a message is none of ours; says why."""


class Asked(NamedTuple):
    """What a message asks for."""

    task: str
    arguments: list[Any]
    #: What it tells beside them, by name, for a task that knows what to do with it.
    more: dict[str, Any]


def check(raw: bytes, queue: str, tasks: Collection[str], parse: Callable[[bytes | str], Any] = loads) -> Asked:
    """What `raw`, taken off `queue`, asks for; Refused unless it is a message for one of `tasks`.

    `parse` reads JSON for whoever serves the message; the one that is given is Celery's.
    """
    _expect(len(raw) <= LARGEST, f"larger than {LARGEST} bytes")
    message = _parsed(raw, parse, "not JSON")
    _expect(isinstance(message, dict), "not an object")
    _check_properties(message.get("properties"), queue)
    task = _check_headers(message.get("headers"), tasks)
    headers = message["headers"]
    more = {name: headers[name] for name in _TOLD_BESIDE.get(task, ()) if headers.get(name) is not None}
    return Asked(task, _check_body(message, task, parse), more)


def refuse(queue: str, refusal: Refused, raw: bytes) -> None:
    """Tell of a message that was refused."""
    message_refused.send(sender=None, source=queue, reason=str(refusal), payload=_text(raw))


def _check_properties(properties: Any, queue: str) -> None:
    _expect(isinstance(properties, dict), "properties: not an object")
    _expect(_is_id(properties.get("delivery_tag")), "properties.delivery_tag: not an id")
    _expect(properties.get("body_encoding") in _ENCODINGS, "properties.body_encoding: neither base64 nor none")
    _expect(type(properties.get("priority", 0)) is int, "properties.priority: not a number")
    for name in ("reply_to", "correlation_id"):
        _expect(_is_id(properties.get(name, "none")), f"properties.{name}: not an id")
    info = properties.get("delivery_info")
    # It says where an unacknowledged message goes back to.
    _expect(isinstance(info, dict) and info.get("routing_key") == queue, f"properties.delivery_info: not of {queue}")
    _expect(info.get("exchange") in ("", queue), f"properties.delivery_info: not of {queue}")


def _check_headers(headers: Any, tasks: Collection[str]) -> str:
    _expect(isinstance(headers, dict), "headers: not an object")
    task = headers.get("task")
    _expect(isinstance(task, str) and task in tasks, "headers.task: not a task of this engine")
    _expect(_is_id(headers.get("id")), "headers.id: not an id")
    for name in ("root_id", "parent_id"):
        _expect(headers.get(name) is None or _is_id(headers[name]), f"headers.{name}: not an id")
    for name in ("argsrepr", "kwargsrepr", "origin"):
        _expect(isinstance(headers.get(name, ""), str), f"headers.{name}: not text")
    for name, left in _LEFT_ALONE.items():
        _expect(name not in headers or headers[name] in left, f"headers.{name}: is not used here")
    _expect(_is_soon(headers.get("eta")), "headers.eta: not a moment at hand")
    return str(task)


def _check_body(message: Mapping[str, Any], task: str, parse: Callable[[bytes | str], Any]) -> list[Any]:
    _expect(message.get("content-type") == JSON, f"content-type: not {JSON}")
    _expect(message.get("content-encoding") == "utf-8", "content-encoding: not utf-8")

    body: Any = message.get("body")
    _expect(isinstance(body, str), "body: not text")
    is_plain = message["properties"].get("body_encoding") is None
    plain = body if is_plain else _parsed(body, Base64().decode, "body: not base64")
    unpacked = _parsed(plain, parse, "body: not JSON")
    _expect(isinstance(unpacked, list) and len(unpacked) == 3, "body: not [args, kwargs, embed]")  # noqa: PLR2004
    args, kwargs, embed = unpacked
    _expect(isinstance(args, list) and kwargs == {}, "body: arguments are not a list of one event")
    _expect(len(args) == (0 if task in HOUSEKEEPING else 1), "body: arguments are not a list of one event")
    _expect(isinstance(embed, dict) and not any(embed.values()), "body: asks for more than its task")
    return list(args)


def _parsed(text: str | bytes, parse: Callable[[Any], Any], otherwise: str) -> Any:
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    _expect(data.count(b"[") + data.count(b"{") <= MOST_BRACKETS, "nested too deeply")
    try:
        return parse(text)
    # Whatever a text makes a parser raise: it is the same one Celery would call.
    except Exception as error:
        raise Refused(f"{otherwise}: {type(error).__name__}") from error


def _is_id(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST_ID and value.isprintable()


def _is_soon(eta: object) -> bool:
    if eta is None:
        return True
    try:
        at = datetime.fromisoformat(str(eta))
        ahead = (at if at.tzinfo else at.replace(tzinfo=UTC)) - now()
    except (ValueError, OverflowError):
        return False
    return isinstance(eta, str) and -LAST <= ahead <= NEXT


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Refused(otherwise)


@cache
def gated(transport: type[Any]) -> type[Any]:
    """Kombu's Redis `transport`, its channels taking only messages of this engine off a queue."""

    class GatedChannel(transport.Channel):  # type: ignore[misc, name-defined]
        def _create_client(self, asynchronous: bool = False) -> Any:
            if self.connection.client is None:
                # Kombu gives unacknowledged messages back on a line already gone; without this that ends the worker.
                raise exceptions.ConnectionError("the line to the queue is closed")
            client = super()._create_client(asynchronous)
            client.parse_response = _gate(client.parse_response, self.sep)
            return client

    return _Named("GatedTransport", (transport,), {"Channel": GatedChannel})


class _Named(type):
    """Log lines show a transport's class before its address."""

    def __str__(cls) -> str:
        return "redis"


#: The tasks that may be asked for; `tasks.execution` names them.
allowed: set[str] = set(HOUSEKEEPING)


def _gate(parse_response: Callable[..., Any], sep: str) -> Callable[..., Any]:
    def parse(connection: Any, command_name: str, **options: Any) -> Any:
        reply = parse_response(connection, command_name, **options)
        if command_name != "BRPOP" or not reply:
            return reply
        name, raw = reply
        queue = _text(name).rsplit(sep, 1)[0]
        data = raw if isinstance(raw, bytes) else str(raw).encode("utf-8", "surrogatepass")
        try:
            check(data, queue, allowed)
        except Refused as refusal:
            refuse(queue, refusal, data)
            # As if nothing had come.
            return None
        return reply

    return parse


def _text(raw: bytes | str) -> str:
    return raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw
