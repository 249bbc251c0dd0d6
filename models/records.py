"""What the stream carries: one record a transition, or a dead letter. Parses it, and refuses nothing by raising.

Knows no table; `models.drain` stores what is parsed here.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)

from engine.domain.orders import Leg, OrderStatus, Side
from engine.domain.run import ExitReason, Latch, Position, RunStatus
from engine.domain.strategy import StopMode

#: Characters of a refused payload that are kept.
PAYLOAD_LIMIT = 4_000

DEAD_LETTER = "dead_letter"


def _none_if_empty(value: Any) -> Any:
    return None if value == "" else value


def _list_if_empty(value: Any) -> Any:
    # Lua's cjson writes an empty list as {}.
    return [] if value == {} else value


def _from_us(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds / 1e6, UTC)


def _to_utc(value: datetime) -> datetime:
    return value.astimezone(UTC)


Moment = Annotated[AwareDatetime, AfterValidator(_to_utc)]
OptionalMoment = Annotated[Moment | None, BeforeValidator(_none_if_empty)]
#: A PostgreSQL integer, a bigint, and an amount of money.
Count = Annotated[int, Field(ge=0, lt=2**31)]
Serial = Annotated[int, Field(ge=0, lt=2**63)]
Money = Annotated[Decimal, Field(ge=0, lt=Decimal(10) ** 15, allow_inf_nan=False)]
#: Short enough for an index entry of PostgreSQL, which refuses a row over 2,700 bytes.
Key = Annotated[str, Field(max_length=200)]
Milliseconds = Annotated[float, Field(allow_inf_nan=False)]


class _Wire(BaseModel):
    #: Unknown fields are dropped, so that a newer writer does not stop an older drainer.
    model_config = ConfigDict(frozen=True, extra="ignore")


class RunState(_Wire):
    """The run after the transition."""

    status: RunStatus
    position: Position
    exit_reason: Annotated[ExitReason | None, BeforeValidator(_none_if_empty)] = None
    failure: str = ""


class OrderState(_Wire):
    """An order after the transition; `stages` in real milliseconds."""

    client_order_id: Annotated[Key, Field(min_length=1)]
    leg: Leg
    side: Side
    attempt: Count
    quantity: Count
    filled_quantity: Count = 0
    average_price: Money = Decimal(0)
    status: OrderStatus
    broker_order_id: str = ""
    filled_at: OptionalMoment = None
    send_by: Moment
    settles_at: Moment
    updated_at: OptionalMoment = None
    reason: str = ""
    given_up: bool = False
    granted_at: OptionalMoment = None
    session_ends: OptionalMoment = None
    stages: dict[str, Milliseconds] = Field(default_factory=dict)


class LatchState(_Wire):
    """A breach: price in integer units; exchange time and real times in epoch microseconds, as scripts write them."""

    price: Serial
    time: Serial
    event: Key
    seen_at: Serial
    latched_at: Serial | None = None

    @property
    def latch(self) -> Latch:
        """The domain's value."""
        at, seen_at = _from_us(self.time), _from_us(self.seen_at)
        return Latch(
            self.price, at, self.event, seen_at, None if self.latched_at is None else _from_us(self.latched_at)
        )


class AlertState(_Wire):
    """Something a human must see, raised by the transition."""

    severity: str
    code: str
    message: str


class Record(_Wire):
    """One record of the stream. (run, epoch, seq) is its identity; `run` is "" where it concerns none."""

    run: Key
    epoch: Serial
    seq: Serial
    kind: str
    event_id: Key = ""
    event_type: str = ""
    outcome: str = ""
    market_time: OptionalMoment = None
    real_time: Moment
    tenant: Key = ""
    state: RunState | None = None
    #: Where it tells of a breach, of one that no longer counts, or of a user's stop.
    latch: LatchState | None = None
    latch_dropped: bool = False
    stop_requested: StopMode | None = None
    orders: Annotated[tuple[OrderState, ...], BeforeValidator(_list_if_empty)] = ()
    alerts: Annotated[tuple[AlertState, ...], BeforeValidator(_list_if_empty)] = ()
    #: How long the run held something whose feed was dead, and which no stop could sell; since the last such record.
    blind_ms: Serial = 0
    naked_ms: Serial = 0
    #: The whole record as it was read.
    body: dict[str, Any] = Field(default_factory=dict)

    @property
    def key(self) -> tuple[str, int, int]:
        """Its identity."""
        return self.run, self.epoch, self.seq


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Input that was refused. `key` is its identity, `at` real time, `payload` cut to PAYLOAD_LIMIT."""

    key: str
    at: datetime
    source: str
    reason: str
    payload: str


class _DeadLetterWire(_Wire):
    epoch: Serial
    seq: Serial
    real_time: Moment
    source: str = ""
    reason: str = ""
    payload: str = ""


def parse(stream_id: str, text: str | bytes, now: datetime) -> Record | DeadLetter:
    """What the stream entry `text` says; an unreadable one becomes a dead letter of real time `now`."""
    shown = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    try:
        return _read(_storable(json.loads(shown, parse_constant=_refuse_constant)))
    except (ValueError, OverflowError, RecursionError) as error:
        reason = _first_error(error) if isinstance(error, ValidationError) else str(error)
        return DeadLetter(f"stream:{stream_id}", now, "stream", reason, _storable(shown)[:PAYLOAD_LIMIT])


def _read(body: Any) -> Record | DeadLetter:
    if not isinstance(body, dict):
        raise ValueError("a record is a JSON object")
    if body.get("kind") != DEAD_LETTER:
        return Record.model_validate({**body, "body": body})
    wire = _DeadLetterWire.model_validate(body)
    key = f"{wire.epoch}:{wire.seq}"
    return DeadLetter(key, wire.real_time, wire.source, wire.reason, wire.payload[:PAYLOAD_LIMIT])


def _storable(value: Any) -> Any:
    """`value` with what PostgreSQL cannot hold in text (NUL, half a surrogate pair) replaced by U+FFFD."""
    match value:
        case str():
            # Nearly every text, and a tenth of the time.
            if value.isascii() and "\0" not in value:
                return value
            clean = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            return clean.replace("\0", "\ufffd")
        case dict():
            return {_storable(key): _storable(inner) for key, inner in value.items()}
        case list():
            return [_storable(inner) for inner in value]
        case _:
            return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _first_error(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
