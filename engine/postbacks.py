"""What a broker posts of an order: a hint. It proves nothing, but where it tells news the run asks its broker's book.

Knows no wire. The order stream tells most of it first, so a hint is looked at a little later.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from engine.domain.broker import BookEntry
from engine.domain.events import Event, EventType
from engine.domain.orders import absorb
from engine.domain.run import Run, RunId, parse_client_order_id
from engine.ports import Clock, Log, Publisher


class Live(Protocol):
    """What it needs of the live state."""

    def account_of(self, run_id: RunId) -> int | None:
        """The account a live run trades at; None where there is no such run."""

    def run(self, name: str) -> Run | None:
        """One live run, unlocked."""

    def signal(self, run_id: RunId, fields: Mapping[str, str], due: datetime) -> str:
        """As `engine.ports.Store.signal`."""


class Followed(StrEnum):
    """What became of a hint."""

    #: The run asks the book.
    ASKED = "asked"
    KNOWN = "known"
    #: Of no run of ours that lives, or of another account's.
    FOREIGN = "foreign"


class Postbacks:
    """Follows hints, for every account."""

    def __init__(self, live: Live, publisher: Publisher, clock: Clock, deployment: str, log: Log) -> None:
        self._live = live
        self._publisher = publisher
        self._clock = clock
        self._deployment = deployment
        self._log = log

    def follow(self, told: BookEntry, account: int) -> Followed:
        """Have the run ask, if `told`, posted for `account`, is news to it. Raises StoreClosed."""
        ours = parse_client_order_id(self._deployment, told.tag)
        if ours is None or self._live.account_of(ours[0]) != account:
            return Followed.FOREIGN
        run = self._live.run(str(ours[0]))
        if run is None:
            return Followed.FOREIGN
        now, evidence = self._clock.now().real, told.evidence
        known = [each for each in run.orders if each.client_order_id == evidence.client_order_id]
        if known and absorb(known[0], evidence, now) is known[0]:
            return Followed.KNOWN
        self._live.signal(run.id, {"dirty": "1"}, now)
        name = f"hint:{evidence.client_order_id}:{evidence.status}:{evidence.filled_quantity}"
        self._publisher.publish(Event(name, EventType.ORDER_UPDATE, run.id))
        self._log("postback_followed", run=str(run.id), order=evidence.client_order_id, status=evidence.status.value)
        return Followed.ASKED
