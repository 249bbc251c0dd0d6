"""Events: the seed's six and the broker's update, and how one is read off the wire without trusting it.

An event is a wake-up. What must happen is a field of the run; an event lost or doubled changes nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from engine.domain.run import RunId

#: Longest event id and run id taken off the wire, characters.
LONGEST_ID = 80


class EventType(StrEnum):
    """What may wake a run."""

    BUY = "BUY"
    SELL = "SELL"
    STOPLOSS = "STOPLOSS"
    RETRY = "RETRY"
    SAFETY_ABORT = "SAFETY_ABORT"
    FORCE_STOP = "FORCE_STOP"
    #: The broker said something of an order, or it is time to ask.
    ORDER_UPDATE = "ORDER_UPDATE"


class MalformedEvent(ValueError):
    """Raised when a message is no event; it becomes a dead letter and never touches a strategy."""


@dataclass(frozen=True, slots=True)
class Event:
    """One wake-up of one run. `id` is unique to its cause, so a repeat is recognised."""

    id: str
    type: EventType
    run_id: RunId

    def as_wire(self) -> dict[str, str]:
        """The JSON object that travels in a task message."""
        return {"id": self.id, "type": self.type.value, "run": str(self.run_id)}


def parse_event(wire: object) -> Event:
    """The event `wire` (decoded JSON) stands for; MalformedEvent names the field that is wrong."""
    if not isinstance(wire, Mapping):
        raise MalformedEvent(f"event: expected an object, got {type(wire).__name__}")
    texts = {name: _text(wire, name) for name in ("id", "type", "run")}
    unknown = set(wire) - set(texts)
    if unknown:
        raise MalformedEvent(f"{min(map(str, unknown))}: is not a field of an event")
    try:
        kind = EventType(texts["type"])
    except ValueError:
        raise MalformedEvent(f"type: {texts['type']!r} is not an event type") from None
    try:
        run_id = RunId.parse(texts["run"])
    except ValueError:
        raise MalformedEvent(f"run: {texts['run']!r} is not a run id like 17-20260105-1") from None
    return Event(texts["id"], kind, run_id)


def _text(wire: Mapping[object, object], name: str) -> str:
    value = wire.get(name)
    if not isinstance(value, str) or not value:
        raise MalformedEvent(f"{name}: must be a non-empty string")
    if len(value) > LONGEST_ID or not value.isprintable():
        raise MalformedEvent(f"{name}: longer than {LONGEST_ID} characters or not printable")
    return value
