"""What a row of the fault table is: a fault, how and when it is put in, and what is right in its world."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from engine.chaos.courses import Put
from engine.chaos.trial import Style
from engine.domain.orders import Product

#: The longest recovery after a worker's kill, and after anything else, seconds.
WORKER_BOUND, OTHER_BOUND = 35.0, 60.0


#: Whoever must be told may be told by any alert.
ANYTHING = frozenset({"anything"})


class When(StrEnum):
    """The phase of the trials in which a fault is put in."""

    #: Before the strategies are stored.
    START = "start"
    ENTRY = "entry"
    HOLDING = "holding"
    EXIT = "exit"


class Scope(StrEnum):
    """Whose fault it is: one account's, so that others go on beside it, or the whole system's."""

    ACCOUNT = "account"
    SYSTEM = "system"


class Sharing(StrEnum):
    """What the trials of one fault have in common."""

    NOTHING = "nothing"
    ACCOUNT = "account"
    #: The account and the symbol, and so one position at the broker.
    POSITION = "position"


#: What a whole system's fault meets: strategies before entry, in it, holding, and in each kind of exit.
ALL_STYLES = (Style.SCHEDULE, Style.STOP_LOSS, Style.FORCE_STOP, Style.LATE)


@dataclass(frozen=True, slots=True)
class Fault:
    """One row. A system's fault counts one trial for each of its `styles`."""

    name: str
    #: Rows of one family differ in the point alone; the short form plays one of each.
    family: str
    put: Put
    whens: Sequence[When]
    scope: Scope = Scope.SYSTEM
    bound: float = OTHER_BOUND
    styles: Sequence[Style] = ALL_STYLES
    #: A fault of the broker's that leads processes to where this one waits, on each trial's account.
    led_by: Mapping[str, Any] | None = None
    #: Seconds the strategies are held longer than usual.
    hold: float = 0.0
    #: Seconds their buy is further ahead than usual: what is near goes past the beats.
    ahead: float = 0.0
    #: Alerts of which each trial's tenant must get one; none where nobody need be told.
    told: frozenset[str] = frozenset()
    sharing: Sharing = Sharing.NOTHING
    #: Whether a tenant beside it, whom it does not concern, must be sold out in time.
    bystander: bool = False
    #: Whether its course makes the stop's breach itself, for a moment: nobody keeps the price there.
    dips: bool = False
    #: Whether anything may be bought in its world.
    buys: bool = True
    #: Seconds after the asked exit before a trial may be over: what must not happen shows only with time.
    settles: float = 0.0
    product: Product = Product.INTRADAY
