"""The report of a replay: its shape, and writing it so that a reader never sees half of one."""

import os
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PlainSerializer

from engine.domain.orders import Leg, OrderStatus, Side
from engine.domain.run import ExitReason, Position, RunStatus


def _plain(price: Decimal) -> str:
    return f"{price:f}"


#: Money a unit, a decimal string without an exponent.
Price = Annotated[Decimal, Field(ge=0, allow_inf_nan=False), PlainSerializer(_plain, return_type=str)]
#: Real milliseconds.
Milliseconds = Annotated[float, Field(allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class OrderReport(_Part):
    """An order as the engine's own history has it."""

    client_order_id: str
    leg: Leg
    side: Side
    quantity: int
    filled_quantity: int
    average_price: Price
    status: OrderStatus
    market_time: AwareDatetime | None = Field(description="Time of the fill, market time.")


class StrategyReport(_Part):
    """What became of one strategy."""

    name: str
    tenant: str
    symbol: str
    status: RunStatus
    position: Position
    exit_reason: ExitReason | None
    orders: list[OrderReport]


class BrokerOrderReport(_Part):
    """An order as the broker's book has it."""

    order_id: str
    account: str
    tag: str
    symbol: str
    side: Side
    quantity: int
    filled_quantity: int
    average_price: Price
    status: OrderStatus
    received_at: AwareDatetime | None = Field(description="Market time.")


class Distribution(_Part):
    """Half and ninety-nine in a hundred of `n` measurements were at most this, real milliseconds."""

    p50: Milliseconds | None
    p99: Milliseconds | None
    n: int = Field(ge=0)


class LatencyReport(_Part):
    """How fast it was. `timer_lateness` is how long after its time a BUY or SELL was begun."""

    tick_to_order: Distribution
    timer_lateness: Distribution


class ReplayReport(_Part):
    """A replayed trading day. `complete`: every run ended and the history equals the broker's book."""

    complete: bool
    market_date: date
    speed: float = Field(gt=0, description="Market seconds in one real second.")
    strategies: list[StrategyReport]
    broker_orders: list[BrokerOrderReport]
    latency_ms: LatencyReport


def write_atomically(path: Path, text: str) -> None:
    """Put `text` at `path`, whole or not at all; what was there stays until the new file is on disk."""
    if path.exists() and not path.is_file():
        # A terminal or a pipe, such as /dev/stdout, must be written to, not replaced.
        path.write_text(text, encoding="utf-8")
        return
    target = path.resolve()
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
