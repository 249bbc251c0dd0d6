"""The vocabulary of decisions: what can be done with a run next, and the tunables a decision reads.

Which of them it is, is `engine.domain.decision`; how one is carried out, `engine.actions`.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from engine.domain.orders import Leg, Order
from engine.domain.run import ExitReason, RunStatus
from engine.domain.strategy import SQUARE_OFF


@dataclass(frozen=True, slots=True)
class Policy:
    """The tunables decisions read; real time but where said."""

    #: How late a BUY may start.
    max_lateness: timedelta = timedelta(seconds=30)
    #: How long an entry may rest unfilled before it is canceled, and an exit before it is priced anew.
    rest_limit: timedelta = timedelta(seconds=30)
    #: How long a live order may be silent before the book is asked.
    silence_limit: timedelta = timedelta(seconds=5)
    #: How often the book is asked while an attempt or a position is in doubt.
    ask_interval: timedelta = timedelta(seconds=1)
    #: The same for an exit whose account lacks what is held, once somebody was alerted of that.
    uncovered_interval: timedelta = timedelta(seconds=2)
    #: How long after it should have settled an attempt may stay in doubt before the run is aborted.
    doubt_limit: timedelta = timedelta(seconds=60)
    #: How often the book is asked for attempts that were given up.
    watch_interval: timedelta = timedelta(seconds=30)
    #: How old what we know of a position may be when it is sold.
    trust_limit: timedelta = timedelta(seconds=30)
    #: How long before its session ends an intraday position is squared off, by us or by the broker; market time.
    square_off: timedelta = SQUARE_OFF
    #: How old it may be then.
    square_off_trust: timedelta = timedelta(seconds=5)
    #: Sends of one entry: the first and its retries.
    entry_attempts: int = 4


@dataclass(frozen=True, slots=True)
class Submit:
    """Send the next attempt of `leg`."""

    leg: Leg
    quantity: int
    exit_reason: ExitReason | None = None


@dataclass(frozen=True, slots=True)
class Cancel:
    """Ask the broker to cancel `order`."""

    order: Order
    reason: str


@dataclass(frozen=True, slots=True)
class Reprice:
    """Price a resting exit anew where it stands; `exit_reason`: the stronger cause that asks, where one does."""

    order: Order
    reason: str
    exit_reason: ExitReason | None = None


@dataclass(frozen=True, slots=True)
class AskBook:
    """Ask the broker's book what became of the run's orders."""

    reason: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """An attempt in doubt stayed absent from the book through its grace: replace it, keep watching it."""

    order: Order


class Untold(StrEnum):
    """What an exit that is due waits for, as the code of the alert that tells of it."""

    IN_DOUBT = "exit_in_doubt"
    REFUSED = "exit_refused"
    UNCOVERED = "exit_uncovered"


@dataclass(frozen=True, slots=True)
class Tell:
    """Tell a human why an exit that is due does not stand at the broker; `order`: what became of which."""

    what: Untold
    order: Order | None = None


@dataclass(frozen=True, slots=True)
class Finish:
    """The run is over: STOP it with this status."""

    status: RunStatus
    reason: str


@dataclass(frozen=True, slots=True)
class Abort:
    """SAFETY_ABORT: mark the run failed, alert, and let its policy say what becomes of the position."""

    reason: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing yet; it will be time at `until`, real time."""

    until: datetime


@dataclass(frozen=True, slots=True)
class Ignore:
    """Nothing to do; `reason` is a stable word for the record."""

    reason: str


Decision = Submit | Cancel | Reprice | AskBook | GiveUp | Tell | Finish | Abort | Wait | Ignore
Action = Submit | Cancel | Reprice | AskBook | GiveUp | Tell | Finish | Abort
