"""What a broker says of an order, unasked, left in the run as evidence and a worker woken to absorb it.

Knows no connection. A tag that is none of ours is somebody else's order: counted, never touched. Nor may an account's
stream speak of another account's run, whatever tag its owner gives an order.
"""

from engine.domain.broker import BookEntry
from engine.domain.events import Event, EventType
from engine.domain.orders import Evidence, OrderStatus
from engine.domain.run import parse_client_order_id
from engine.ports import Clock, Log, Publisher, Store


class OrderStream:
    """Turns a broker's updates into evidence of runs."""

    def __init__(self, store: Store, publisher: Publisher, clock: Clock, deployment: str, log: Log) -> None:
        self._store = store
        self._publisher = publisher
        self._clock = clock
        self._deployment = deployment
        self._log = log

    def on_update(self, entry: BookEntry, account: int) -> bool:
        """Leave one update of `account`'s stream in its run; whether it was ours. Raises StoreClosed."""
        ours = parse_client_order_id(self._deployment, entry.tag)
        if ours is None:
            self._log("foreign_order", tag=entry.tag, symbol=entry.symbol)
            return False
        if self._store.account_of(ours[0]) not in (account, None):
            self._log("forged_order", tag=entry.tag, account=account)
            self._store.dead_letter("order_update", f"account {account} names a run of another account", entry.tag)
            return False
        evidence = entry.evidence
        answer = self._store.tell(ours[0], evidence, self._clock.now().real)
        if answer in ("ok", "full") and _is_news(evidence):
            name = f"upd:{evidence.client_order_id}:{evidence.status}:{evidence.filled_quantity}"
            self._publisher.publish(Event(name, EventType.ORDER_UPDATE, ours[0]))
        return True


def _is_news(evidence: Evidence) -> bool:
    """Whether a worker must know now: that an order stands, its own answer has told, and the run keeps it."""
    return evidence.status is not OrderStatus.ACCEPTED or evidence.filled_quantity > 0
