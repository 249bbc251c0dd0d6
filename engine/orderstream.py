"""What a broker says of an order, unasked, left in the run as evidence and a worker woken to absorb it.

Knows no connection. A tag that is none of ours is somebody else's order: counted, never touched. Nor may an account's
stream speak of another account's run, whatever tag its owner gives an order.
"""

from typing import Protocol

from engine.domain.afterwards import alert_of, is_beyond
from engine.domain.broker import BookEntry
from engine.domain.events import Event, EventType
from engine.domain.orders import Evidence, OrderStatus
from engine.domain.run import RunId, parse_client_order_id
from engine.ports import Clock, Ended, Log, Publisher, Store


class Unjudged(Exception):
    """Raised where it cannot be told now whether an update of an ended run is news; the book tells it again."""


class History(Protocol):
    """What is remembered of runs for good."""

    def ended(self, run_id: RunId) -> Ended | None:
        """What is left of a run that needs the engine no more; None where it does, or never was. Raises Unjudged."""


class OrderStream:
    """Turns a broker's updates into evidence of runs."""

    def __init__(
        self,
        store: Store,
        publisher: Publisher,
        clock: Clock,
        deployment: str,
        log: Log,
        history: History | None = None,
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._clock = clock
        self._deployment = deployment
        self._log = log
        self._history = history

    def on_update(self, entry: BookEntry, account: int) -> bool:
        """Leave one update of `account`'s stream in its run; whether it was ours. Raises StoreClosed, Unjudged."""
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
        if answer in ("gone", "unknown"):
            self._look_back(ours[0], entry, account)
        return True

    def _look_back(self, run_id: RunId, entry: BookEntry, account: int) -> None:
        """Tell a human what an order of a run that has ended does beyond what its run knew."""
        ended = self._store.remains(run_id)
        if ended is None and self._history is not None:
            ended = self._history.ended(run_id)
        if ended is None or ended.account_id != account:
            return
        told = entry.evidence
        known = [order for order in ended.orders if order.client_order_id == told.client_order_id]
        if not is_beyond(known[0] if known else None, told):
            return
        alert = alert_of(run_id, entry)
        once = f"{alert.code}:{told.client_order_id}:{told.broker_order_id}:{told.filled_quantity}"
        if self._store.alert_once(ended.tenant, alert, once):
            self._log("alert", tenant=ended.tenant, severity=alert.severity, code=alert.code, message=alert.message)


def _is_news(evidence: Evidence) -> bool:
    """Whether a worker must know now: that an order stands, its own answer has told, and the run keeps it."""
    return evidence.status is not OrderStatus.ACCEPTED or evidence.filled_quantity > 0
