"""What an endpoint of the paper broker is: its name in faults, its place, its budgets and its handler. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from broker_connector.paper.accounts import Account, Budget
from broker_connector.paper.exchange import Exchange
from broker_connector.paper.forms import Form

#: What most requests count against, quotes, and candles.
OTHER, QUOTE, HISTORICAL = (Budget.OTHER,), (Budget.QUOTE,), (Budget.HISTORICAL,)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as its handler sees it: token, rate and faults have been dealt with."""

    exchange: Exchange
    account: Account
    #: Market time.
    now: datetime
    #: The parts of the path that vary.
    path: Mapping[str, str]
    query: Mapping[str, Sequence[str]]
    form: Form
    #: The body where it is JSON.
    json: Any = None

    def first(self, name: str) -> str:
        """The first value of a query parameter, "" where absent."""
        return next(iter(self.query.get(name, ())), "")


@dataclass(frozen=True, slots=True)
class Csv:
    """An answer that is no JSON."""

    text: str


@dataclass(frozen=True, slots=True)
class Operation:
    """One endpoint. A handler answers JSON data or Csv; refusals are raised as the broker's errors."""

    name: str
    method: str
    path: str
    handler: Callable[[Asked], Any]
    budgets: tuple[Budget, ...] = OTHER
