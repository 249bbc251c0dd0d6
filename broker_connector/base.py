"""What a connector is: the engine's `Broker` port, what operators and tools ask a broker besides, and its feed."""

from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Protocol

from broker_connector.feed_line import Event
from broker_connector.skipped import Skipped
from broker_connector.ticker import Mode
from engine.domain.broker import BookEntry, Margin, OrderChange, Reply, Trade
from engine.ports import Broker


class Connector(Broker, Protocol):
    """One account at one broker, with all this project can ask of it. Errors are those of the port."""

    #: Rows of the broker's that were left out, for they provably are not ours.
    skipped: Skipped

    def modify(self, broker_order_id: str, change: OrderChange) -> Reply:
        """Ask for another limit or quantity of a resting order; ACCEPTED means asked, not changed."""

    def order_history(self, broker_order_id: str) -> Sequence[BookEntry]:
        """Every state one order went through, oldest first."""

    def trades(self) -> Sequence[Trade]:
        """Every fill of the account today."""

    def margins(self) -> Sequence[Margin]:
        """The money of each segment the account may trade in."""


class Forged(Exception):
    """Raised where what was posted as a broker's is not proven to be the broker's."""


class Feed(Protocol):
    """One account's ticks and order updates. Used from one event loop; `events()` is iterated once."""

    async def subscribe(self, tokens: Iterable[int], mode: Mode = Mode.FULL) -> list[int]:
        """Want ticks of `tokens`, now and after every reconnection; returns those there is no room for."""

    async def unsubscribe(self, tokens: Iterable[int]) -> None:
        """Want no more ticks of `tokens`."""

    def proven(self) -> list[tuple[float, list[int]]]:
        """For each line that stands: how long ago anything came over it, seconds, and the tokens it carries."""

    def events(self) -> AsyncGenerator[Event, None]:
        """Frames as `ticker.pack_frame` makes them, updates and changes of the line, for ever; close it to hang up."""
