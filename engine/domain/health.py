"""What an account's calls tell of its broker: a circuit breaker, a pause the broker asked for, a token it refused.

Pure; `lua/intend.lua` and `lua/heard.lua` say the same of the account all workers share. A breaker or a dead token
pauses entries. Exits go on, one of the account a second while the others wait for what becomes of it, and its answer
is what closes the breaker. Times are epoch microseconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType

from engine.domain.broker import Outcome, RejectCause, Reply
from engine.domain.orders import Leg
from engine.domain.routing import Alert

#: Calls in a row without an answer that open the breaker: one entry makes four at most, so it is never one run's.
OPENS_AFTER = 5
#: How long entries pause before one of them may probe, us: several times within the lateness an entry may have.
PAUSE_US = 5_000_000
#: How long an account's other exits wait for the one that tries a dead line or login, us.
EXIT_PROBE_US = 1_000_000
#: Without a Retry-After, a broker counts by the calendar second.
SECOND_US = 1_000_000


class Heard(StrEnum):
    """What one call to the broker told of the account."""

    #: Whatever it said, it said something.
    ANSWERED = "answered"
    SILENT = "silent"
    #: HTTP 429.
    LIMITED = "limited"
    TOKEN_DEAD = "token_dead"  # noqa: S105 - what was heard, not a secret
    #: A read was answered: that says nothing of its order line.
    TOKEN_LIVES = "token_lives"  # noqa: S105


class Change(StrEnum):
    """What became another with what was heard; each is told once."""

    OPENED = "breaker_opened"
    CLOSED = "breaker_closed"
    TOKEN_DIED = "token_dead"  # noqa: S105
    TOKEN_LIVES = "token_lives"  # noqa: S105


class DeniedBy(StrEnum):
    """Why the engine itself refuses an attempt."""

    SECOND = "second"
    MINUTE = "minute"
    DAY = "day"
    #: The broker asked for a pause.
    BROKER = "broker"
    BREAKER = "breaker"
    TOKEN = "token"  # noqa: S105
    #: No listener proves that the line of its symbol lives: its stop would not fire.
    BLIND = "blind"
    #: The last price is at the stop already: what is bought would be sold at once.
    STOP = "stop_above_price"
    #: The account has less than the exit would sell.
    COVER = "cover"


#: What each refusal is called in records and alerts.
DENIALS: Mapping[DeniedBy, str] = MappingProxyType(
    {
        DeniedBy.SECOND: "second rate",
        DeniedBy.MINUTE: "minute rate",
        DeniedBy.DAY: "day rate",
        DeniedBy.BROKER: "broker asked for a pause",
        DeniedBy.BREAKER: "broker does not answer",
        DeniedBy.TOKEN: "access token is dead",
        DeniedBy.BLIND: "blind",
        DeniedBy.STOP: "stop_above_price",
        DeniedBy.COVER: "the account has less",
    }
)


@dataclass(frozen=True, slots=True)
class Health:
    """What is known of one account's line to its broker."""

    #: Calls without an answer since the last one that had one.
    failures: int = 0
    #: While the breaker is open: when the next entry may probe.
    probe_at: int = 0
    limited_entry: int = 0
    limited_exit: int = 0
    #: The version of the account's details whose token the broker refused.
    dead_version: str = ""

    @property
    def is_open(self) -> bool:
        """Whether entries pause."""
        return self.failures >= OPENS_AFTER

    def denies(self, leg: Leg, version: str, token_ends: int | None, now: int) -> tuple[DeniedBy, int] | None:
        """Why an attempt may not be sent now, and how long it waits, us."""
        limited = self.limited_exit if leg is Leg.EXIT else max(self.limited_entry, self.limited_exit)
        if leg is Leg.ENTRY and (self.dead_version == version != "" or (token_ends is not None and now >= token_ends)):
            return DeniedBy.TOKEN, 0
        if limited > now:
            return DeniedBy.BROKER, limited - now
        if leg is Leg.ENTRY and self.is_open and self.probe_at > now:
            return DeniedBy.BREAKER, self.probe_at - now
        return None

    def granted(self, leg: Leg, now: int) -> "Health":
        """After an attempt was granted: an entry past an open breaker is the probe of this pause."""
        return replace(self, probe_at=now + PAUSE_US) if leg is Leg.ENTRY and self.is_open else self

    def heard(
        self, what: Heard, leg: Leg, version: str, now: int, retry_after: int | None = None
    ) -> tuple["Health", tuple[Change, ...]]:
        """After a call for `leg` under the account's current `version`, and what changed with it."""
        match what:
            case Heard.SILENT:
                failures = self.failures + 1
                opens = failures >= OPENS_AFTER
                after = replace(self, failures=failures, probe_at=now + PAUSE_US if opens else 0)
                return after, (Change.OPENED,) if failures == OPENS_AFTER else ()
            case Heard.TOKEN_LIVES:
                return self._lives(version)
            case Heard.TOKEN_DEAD:
                after, changes = self._answered(now)
                died = () if self.dead_version == version else (Change.TOKEN_DIED,)
                return replace(after, dead_version=version), (*changes, *died)
            case Heard.LIMITED:
                after, changes = self._answered(now)
                until = now + retry_after if retry_after is not None else (now // SECOND_US + 1) * SECOND_US
                return after._limited(leg, until), changes
            case Heard.ANSWERED:
                after, changes = self._answered(now)
                alive, lives = after._lives(version)
                return alive, (*changes, *lives)

    def _answered(self, now: int) -> tuple["Health", tuple[Change, ...]]:
        entry, exit_ = (until if until > now else 0 for until in (self.limited_entry, self.limited_exit))
        after = replace(self, failures=0, probe_at=0, limited_entry=entry, limited_exit=exit_)
        return after, (Change.CLOSED,) if self.is_open else ()

    def _lives(self, version: str) -> tuple["Health", tuple[Change, ...]]:
        if self.dead_version != version or not version:
            return self, ()
        return replace(self, dead_version=""), (Change.TOKEN_LIVES,)

    def _limited(self, leg: Leg, until: int) -> "Health":
        if leg is Leg.EXIT:
            return replace(self, limited_exit=max(self.limited_exit, until))
        return replace(self, limited_entry=max(self.limited_entry, until))


def line_of(health: Health, version: str, now: int) -> str:
    """How an account's line to its broker is, in a word for people."""
    if version and health.dead_version == version:
        return "token refused"
    if health.is_open:
        return "entries pause: no answer"
    return "pause asked for" if max(health.limited_entry, health.limited_exit) > now else "good"


def heard_of(reply: Reply) -> Heard:
    """What a reply to placing an order tells of the account."""
    match reply.outcome:
        case Outcome.TIMEOUT | Outcome.SERVER_DOWN:
            return Heard.SILENT
        case Outcome.TOKEN_INVALID:
            return Heard.TOKEN_DEAD
        case Outcome.REJECTED if reply.cause is RejectCause.RATE_LIMITED:
            return Heard.LIMITED
        case Outcome.ACCEPTED | Outcome.REJECTED:
            return Heard.ANSWERED


#: What a human is told of each change; by tenant and account.
_TOLD: Mapping[Change, tuple[str, str]] = MappingProxyType(
    {
        Change.OPENED: (
            "critical",
            f"{OPENS_AFTER} calls of {{0}}/{{1}} in a row were not answered: entries pause, exits are tried on",
        ),
        Change.CLOSED: ("info", "the broker answers {0}/{1} again: entries go on"),
        Change.TOKEN_DIED: (
            "critical",
            "the broker refuses the access token of {0}/{1}, so nothing is bought: `engine account login {0} {1}`",
        ),
        Change.TOKEN_LIVES: ("info", "the broker takes the access token of {0}/{1} again"),
    }
)


def alert_of(change: Change, tenant: str, account: str) -> Alert:
    """What to tell a human of `change`."""
    severity, message = _TOLD[change]
    return Alert(severity, change.value, message.format(tenant, account))
