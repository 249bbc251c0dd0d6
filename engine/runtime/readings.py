"""What a script tells of a run, read into what a worker holds: under its lock, or at a glance."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from engine.domain.events import Event
from engine.domain.run import Position
from engine.ports import CorruptState, Ended, Holding
from engine.runtime import codec


def pairs(flat: Sequence[str]) -> dict[str, str]:
    """A hash by its flat reply: names and values in turn."""
    return dict(zip(flat[0::2], flat[1::2], strict=True))


def holding_of(
    token: str, stored: Mapping[str, str], strategy: Mapping[str, str], account_version: str, *, is_troubled: bool
) -> Holding:
    """A run read under its lock, with the evidence signals left in it."""
    run = codec.run_from_fields(stored, codec.strategy_from_fields(strategy))
    left = {name: text for name, text in stored.items() if name.startswith("evidence:")}
    evidence = tuple(codec.evidence_from_json(text) for text in left.values())
    return Holding(token, run, evidence, tuple(left), stored["signal_seq"], account_version, is_troubled)


def glanced(event: Event, token: str, reading: Any) -> Holding | None:
    """The run of `event` by the parts of a claim's reply that its message holds; None where they cannot be read."""
    try:
        runtime, strategy, version, facts = reading
        stored = pairs(runtime)
        found = holding_of(token, stored, pairs(strategy), version, is_troubled=facts > 0)
    except (CorruptState, AttributeError, KeyError, TypeError, ValueError):
        return None
    if found.run.id != event.run_id:
        return None
    return replace(found, glanced_at=state_of(stored, version))


def ended_of(stone: Mapping[str, str]) -> Ended:
    """What is left of a run by its tombstone."""
    orders = tuple(codec.order_from_json(text) for name, text in stone.items() if name.startswith("order:"))
    return Ended(int(stone["account_id"]), stone["tenant"], orders)


def account_in(reading: Any) -> int | None:
    """The account of the run that a message tells of; None where it tells of none."""
    try:
        return int(pairs(reading[0])["account_id"])
    except (KeyError, TypeError, ValueError):
        return None


def may_hold(stored: Mapping[str, str]) -> bool:
    """Whether a run whose fields cannot all be read holds something, or may be about to."""
    has_sold = stored.get("position") in (Position.SOLD, Position.EXITED_BY_SL)
    return not has_sold and any(name.startswith("order:") for name in stored)


def state_of(stored: Mapping[str, str], account_version: str) -> str:
    """What changes with all that a decision about a run rests on, as intend.lua has it."""
    return " ".join((stored.get("done", ""), stored["signal_seq"], stored.get("net_at", ""), account_version))
