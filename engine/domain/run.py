"""A run: one strategy on one trading date, its orders, its position, and what is still asked of it.

The position follows fills, never acceptance. Knows nothing of storage; `engine.domain.decision` reads it.
"""

import re
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from engine.domain.orders import SHOWN_WITHIN, Evidence, Leg, Order, Side
from engine.domain.orders import absorb as absorb_evidence
from engine.domain.strategy import AbortPolicy, StopMode, Strategy

#: What an exit that cannot be placed is called in `Run.failure`; none of them is an abort.
SESSION_OVER = "session_over"
NOT_COVERED = "not_covered"
#: What `Run.failure` says of a run that ended because its position was closed elsewhere.
CLOSED_ELSEWHERE = "closed_elsewhere"
#: Those that are over once an exit has filled.
PASSING_TROUBLES = frozenset({"exit_keeps_failing", "token_invalid", "authorisation_needed"})
EXIT_TROUBLES = PASSING_TROUBLES | {NOT_COVERED, SESSION_OVER}

#: How far an exchange's stamp may be before the time that we have: it tells whole seconds, and clocks differ by one.
STAMPED_WITHIN = timedelta(seconds=2)

_RUN_ID = re.compile(r"(?P<strategy>[0-9]{1,11})-(?P<day>[0-9]{8})-(?P<n>[0-9]{1,4})")
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_DATE_ORIGIN = date(2000, 1, 1).toordinal()
#: Widths of a client order id's parts, characters: deployment, strategy, date, run number, leg, attempt.
_WIDTHS = (2, 7, 3, 2, 1, 3)
#: What any id of ours looks like; a tag with a sign in it must not even be tried as a number.
_CLIENT_ORDER_ID = re.compile(r"[0-9A-Z]{14}[EX][0-9A-Z]{3}")
_LEG_LETTER = {Leg.ENTRY: "E", Leg.EXIT: "X"}
_LEG_OF = {letter: leg for leg, letter in _LEG_LETTER.items()}


class Position(StrEnum):
    """What the run holds, proven by fills."""

    NONE = "none"
    BOUGHT = "bought"
    SOLD = "sold"
    EXITED_BY_SL = "exited_by_sl"


class RunStatus(StrEnum):
    """Where the run is in its life."""

    ACTIVE = "active"
    STOPPED = "stopped"
    FAILED = "failed"
    MISSED = "missed"


class ExitReason(StrEnum):
    """What caused the exit."""

    SCHEDULE = "schedule"
    STOP_LOSS = "stop_loss"
    FORCE_STOP = "force_stop"
    SAFETY_ABORT = "safety_abort"


@dataclass(frozen=True, slots=True, order=True)
class RunId:
    """(strategy, trading date, n), written "strategy-yyyymmdd-n" in keys and events."""

    strategy_id: int
    trading_date: date
    n: int = 1

    def __str__(self) -> str:
        return f"{self.strategy_id}-{self.trading_date.isoformat().replace('-', '')}-{self.n}"

    @classmethod
    def parse(cls, text: str) -> "RunId":
        """The run `text` names; ValueError where it names none."""
        parts = _RUN_ID.fullmatch(text)
        if parts is None:
            raise ValueError(f"{text!r} is not a run id like 17-20260105-1")
        return cls(int(parts["strategy"]), date.fromisoformat(parts["day"]), int(parts["n"]))


def _base36(value: int, width: int) -> str:
    text = ""
    while value:
        value, digit = divmod(value, 36)
        text = _DIGITS[digit] + text
    if len(text) > width:
        raise ValueError(f"a client order id has no room for {text} in {width} characters")
    return text.rjust(width, "0")


def client_order_id(deployment: str, run: RunId, leg: Leg, attempt: int) -> str:
    """The one id of this attempt, 18 characters [A-Z0-9]; anyone can compute it again after a crash."""
    days = run.trading_date.toordinal() - _DATE_ORIGIN
    parts = (run.strategy_id, days, run.n)
    middle = "".join(_base36(part, width) for part, width in zip(parts, _WIDTHS[1:4], strict=True))
    return f"{deployment:0<2.2}{middle}{_LEG_LETTER[leg]}{_base36(attempt, _WIDTHS[5])}"


def order_id_part(deployment: str, run: RunId) -> str:
    """What every client order id of `run` begins with."""
    return client_order_id(deployment, run, Leg.ENTRY, 1)[: sum(_WIDTHS[:4])]


def run_part_of(deployment: str, tag: str) -> str:
    """What the ids of the run begin with that placed an order of this tag; "" for a tag that is not ours."""
    return tag[: sum(_WIDTHS[:4])] if parse_client_order_id(deployment, tag) else ""


def parse_client_order_id(deployment: str, text: str) -> tuple[RunId, Leg, int] | None:
    """The run, leg and attempt of an id of ours; None for any other tag."""
    if not text.startswith(f"{deployment:0<2.2}") or not _CLIENT_ORDER_ID.fullmatch(text):
        return None
    try:
        strategy_id, days, n, attempt = (int(part, 36) for part in (text[2:9], text[9:12], text[12:14], text[15:]))
        run = RunId(strategy_id, date.fromordinal(_DATE_ORIGIN + days), n)
    except (ValueError, OverflowError):
        return None
    leg = _LEG_OF[text[14]]
    return (run, leg, attempt) if client_order_id(deployment, run, leg, attempt) == text else None


@dataclass(frozen=True, slots=True)
class Latch:
    """A breach once seen: the price in integer units, its exchange time, and the STOPLOSS event it raised."""

    price: int
    exchange_time: datetime
    event_id: str
    #: Real time the listener held the tick's frame; the start of tick-to-order.
    seen_at: datetime | None = None
    #: Real time it was handed over to be latched, its worker woken in the same step.
    latched_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class NetSeen:
    """What the account has of the run's symbol and product, in units, as its broker said at real time `at`."""

    #: What its runs may still sell of it: without what their exits may still fill.
    quantity: int
    at: datetime
    #: What its runs hold by their fills and the account does not have.
    missing: int = 0
    #: The same where no sale counts that may have filled untold.
    lacks: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Run:
    """The state of one run. `buy_at`, `sell_at`, `closes_at` are market time; every other time is real."""

    id: RunId
    strategy: Strategy
    buy_at: datetime
    sell_at: datetime
    #: The end of its session, past which nothing can be sold; of the next one where it still holds something then.
    closes_at: datetime
    #: The stop in integer price units of the instrument.
    stop_units: int
    status: RunStatus = RunStatus.ACTIVE
    exit_reason: ExitReason | None = None
    failure: str = ""
    latch: Latch | None = None
    stop_requested: StopMode | None = None
    abort_requested: str = ""
    #: What a human resolved: the attempt that never reached the broker, and how many units were closed elsewhere.
    absent: str = ""
    closed_elsewhere: int = 0
    #: Until when the next attempt of each leg pauses.
    entry_retry_at: datetime | None = None
    exit_retry_at: datetime | None = None
    orders: tuple[Order, ...] = ()
    #: Something about its orders changed at the broker and we do not know what: the book is asked.
    dirty: bool = False
    #: The broker may hold orders of this run that we do not know: none is sent before the book was read.
    unread: bool = False
    #: When the book was last asked about this run, and when it last answered.
    book_asked_at: datetime | None = None
    book_read_at: datetime | None = None
    net: NetSeen | None = None
    #: Since when the book cannot be read, and whether somebody was alerted of that.
    unread_since: datetime | None = None
    unread_alerted: bool = False
    #: How many units the account lacks of what its runs hold, by the last reading that was looked at; since when it
    #: lacks so many, None while it has everything; and of how many somebody was told.
    uncovered: int = 0
    uncovered_since: datetime | None = None
    uncovered_told: int = 0
    #: Since when an exit that is due waits for its account to have anything of it, and whether somebody was told.
    cover_awaited_since: datetime | None = None
    cover_awaited_told: bool = False
    #: Since when an exit waits for a reading of its account, however long that takes.
    unproven_since: datetime | None = None
    #: The end of the session, market time, of which somebody was told that something was still held.
    session_told: datetime | None = None

    def filled(self, leg: Leg) -> int:
        """Units proven filled on `leg`, over all its attempts."""
        return sum([order.filled_quantity for order in self.orders if order.leg is leg])

    @property
    def held(self) -> int:
        """Units bought and not sold, less those a human stated to be closed elsewhere."""
        return self.proven - self.closed_elsewhere

    @property
    def proven(self) -> int:
        """Units bought and not sold, by fill evidence."""
        return sum([o.filled_quantity if o.leg is Leg.ENTRY else -o.filled_quantity for o in self.orders])

    @property
    def position(self) -> Position:
        """What the fills prove it to be, and what a human stated."""
        if not self.filled(Leg.ENTRY):
            return Position.NONE
        if self.held > 0:
            return Position.BOUGHT
        by_stop = self.exit_reason is ExitReason.STOP_LOSS and not self.closed_elsewhere
        return Position.EXITED_BY_SL if by_stop else Position.SOLD

    @property
    def granted_at(self) -> datetime | None:
        """When the entry that filled first was granted, market time; None where nothing was ever to be bought."""
        entries = [order for order in self.orders if order.leg is Leg.ENTRY]
        entries = [order for order in entries if order.filled_quantity] or entries
        return min((order.granted_at or self.buy_at for order in entries), default=None)

    @property
    def held_since(self) -> datetime | None:
        """From when on a price under the stop concerns it, market time; None where nothing was ever to be bought.

        Nothing filled before it was granted. Its trades alone tell when the first unit did.
        """
        granted_at = self.granted_at
        return None if granted_at is None else max(self.buy_at, granted_at - STAMPED_WITHIN)

    def live(self, leg: Leg) -> Order | None:
        """The attempt of `leg` that may still trade."""
        for order in reversed(self.orders):
            if order.leg is leg and order.is_live:
                return order
        return None

    @property
    def watched(self) -> tuple[Order, ...]:
        """Attempts that were given up and may still appear at the broker."""
        return tuple(order for order in self.orders if order.is_watched)

    def appeared(self, leg: Leg) -> bool:
        """Whether an attempt of `leg` that was given up stands at the broker all the same."""
        return any(order.leg is leg and order.has_appeared for order in self.orders)

    def retry_at(self, leg: Leg) -> datetime | None:
        """Until when the next attempt of `leg` pauses."""
        return self.entry_retry_at if leg is Leg.ENTRY else self.exit_retry_at

    def pausing(self, leg: Leg, until: datetime | None) -> "Run":
        """This run with the next attempt of `leg` pausing until then, real time; the other leg is not touched."""
        return replace(self, entry_retry_at=until) if leg is Leg.ENTRY else replace(self, exit_retry_at=until)

    def awaiting_cover(self, since: datetime | None) -> "Run":
        """This run whose exit waits since then, real time, for its account to have anything of it; None: not so."""
        told = self.cover_awaited_told and since is not None
        return replace(self, cover_awaited_since=since and (self.cover_awaited_since or since), cover_awaited_told=told)

    @property
    def unsettled(self) -> tuple[Order, ...]:
        """Attempts that ended short of their quantity and of which more may have filled."""
        return tuple([order for order in self.orders if order.is_unsettled])

    @property
    def is_disputed(self) -> bool:
        """Whether book and trades of one of its attempts differ, and nobody was told of that: it does not end yet."""
        return any(order.is_disputed for order in self.orders)

    def settles_from(self, order: Order) -> datetime:
        """From when on a reading settles `order`, which ended short: as the next attempt is due, or a moment later."""
        shown = (order.updated_at or order.send_by) + SHOWN_WITHIN
        return max(shown, self.retry_at(order.leg) or shown)

    def attempts(self, leg: Leg) -> int:
        """How many attempts of `leg` were granted."""
        return max((order.attempt for order in self.orders if order.leg is leg), default=0)

    def failures(self, order: Order) -> int:
        """How many attempts of its leg, up to `order`, failed: they filled nothing, and we did not take them back."""
        earlier = [each for each in self.orders if each.leg is order.leg and each.attempt < order.attempt]
        return order.attempt - sum(each.filled_quantity > 0 or each.was_taken_back for each in earlier)

    def last_order(self, leg: Leg) -> Order | None:
        """The newest attempt of `leg`."""
        return max((o for o in self.orders if o.leg is leg), key=lambda o: o.attempt, default=None)

    @property
    def has_failed(self) -> bool:
        """Whether it failed; that the account lacks what it holds is no failure of its own."""
        return self.status is RunStatus.FAILED and self.failure != NOT_COVERED

    @property
    def is_aborted(self) -> bool:
        """Whether it failed by more than the trouble of an exit."""
        return self.status is RunStatus.FAILED and bool(self.failure) and self.failure not in EXIT_TROUBLES

    @property
    def is_to_be_flattened(self) -> bool:
        """Whether an abort of it asks for everything to be sold; the trouble of an exit asks for no more."""
        has_failed = self.has_failed and self.failure not in PASSING_TROUBLES
        return has_failed and self.strategy.on_abort is AbortPolicy.FLATTEN

    @property
    def is_frozen(self) -> bool:
        """Whether an abort left the position to a human who has not said anything yet; trouble of an exit is none."""
        aborted = self.status is RunStatus.FAILED and self.failure not in EXIT_TROUBLES and not self.stop_requested
        return aborted and self.strategy.on_abort is AbortPolicy.FREEZE

    @property
    def is_terminal(self) -> bool:
        """Whether nothing more can trade: no attempt live, nothing held, and no entry to come."""
        if self.held > 0 or self.live(Leg.ENTRY) or self.live(Leg.EXIT):
            return False
        return self.filled(Leg.ENTRY) > 0 or self.status is not RunStatus.ACTIVE or self.stop_requested is not None

    def with_order(self, order: Order) -> "Run":
        """This run with `order` in the place of the one with its id, or added."""
        others = tuple(o for o in self.orders if o.client_order_id != order.client_order_id)
        return replace(self, orders=tuple(sorted((*others, order), key=lambda o: (o.leg, o.attempt))))

    def absorb(self, evidence: Evidence, at: datetime) -> "Run":
        """This run after `evidence` about one of its orders, learned at real time `at`."""
        for order in self.orders:
            if order.client_order_id == evidence.client_order_id:
                return self.with_order(absorb_evidence(order, evidence, at))
        return self

    def average_price(self, leg: Leg) -> Decimal:
        """Average fill price of `leg`, 0 while nothing filled."""
        filled = self.filled(leg)
        value = sum((o.average_price * o.filled_quantity for o in self.orders if o.leg is leg), Decimal(0))
        return value / filled if filled else Decimal(0)


SIDE_OF: dict[Leg, Side] = {Leg.ENTRY: Side.BUY, Leg.EXIT: Side.SELL}
