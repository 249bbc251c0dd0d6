"""Continuous reconciliation: each account's runs held against its broker's own word, whatever pushes told or lost.

One account in one call. A broker that cannot be read is told of once, when it has been so for a while.
"""

from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from engine.accounts import AccountWatch
from engine.domain.account_positions import AccountReading
from engine.domain.broker import BrokerUnreachable, TokenInvalid
from engine.domain.orders import OrderStatus
from engine.domain.routing import Alert
from engine.orderstream import OrderStream, Unjudged
from engine.ports import AccountState, Broker, Clock, Log, Store

#: How long an account may be unreadable before a human is told.
UNREADABLE_FOR = timedelta(seconds=60)


@dataclass(slots=True)
class _Known:
    """What an account's book said last, by broker order id, and whether somebody was told that it cannot be read."""

    orders: dict[str, tuple[OrderStatus, int, Decimal]] = field(default_factory=dict)
    #: What of it cannot be read, positions or orders, and since when.
    unread_since: dict[str, datetime] = field(default_factory=dict)
    told: bool = False


class Reconciler:
    """Reconciles accounts. Calls for different accounts may overlap; not those for one."""

    def __init__(self, store: Store, updates: OrderStream, clock: Clock, log: Log) -> None:
        self._store = store
        self._updates = updates
        self._watch = AccountWatch(store, log)
        self._clock = clock
        self._log = log
        self._known: defaultdict[int, _Known] = defaultdict(_Known)

    def cover(self, account: AccountState, broker: Broker) -> None:
        """Tell the runs what the account holds. Raises StoreClosed."""
        known, asked_at = self._known[account.id], self._clock.now().real
        begun = self._store.pool_mark(account.id)
        try:
            positions = broker.positions()
        except (BrokerUnreachable, TokenInvalid) as error:
            self._unread(account, known, "positions", error)
            return
        # Whichever call the broker refused the token in, in whatever process: what it refused can be asked again.
        self._watch.read(account.id, account.version)
        self._is_read(account, known, "positions")
        self._store.cover(account.id, AccountReading(asked_at, positions, begun=begun))

    def reconcile(self, account: AccountState, broker: Broker) -> None:
        """Tell the runs what changed in the book. Raises StoreClosed."""
        known = self._known[account.id]
        try:
            book = broker.orders()
        except (BrokerUnreachable, TokenInvalid) as error:
            self._unread(account, known, "orders", error)
            return
        self._is_read(account, known, "orders")
        for entry in book:
            # A price that was not known at the fill is news as well.
            told = (entry.evidence.status, entry.evidence.filled_quantity, entry.evidence.average_price)
            if known.orders.get(entry.evidence.broker_order_id) != told:
                with suppress(Unjudged):
                    self._updates.on_update(entry, account.id)
                    known.orders[entry.evidence.broker_order_id] = told

    def _is_read(self, account: AccountState, known: _Known, what: str) -> None:
        """One of the two was read; where both are again, whoever was told otherwise is told."""
        known.unread_since.pop(what, None)
        if known.told and not known.unread_since:
            message = f"account {account.name} can be read again"
            self._log("alert", tenant=account.tenant, severity="info", code="account_readable", message=message)
            self._store.alert(account.tenant, Alert("info", "account_readable", message))
            known.told = False

    def _unread(self, account: AccountState, known: _Known, what: str, error: Exception) -> None:
        now = self._clock.now().real
        since = known.unread_since.setdefault(what, now)
        if known.told or now - since < UNREADABLE_FOR:
            return
        then = "authenticate it again" if isinstance(error, TokenInvalid) else "look at the broker's app"
        unread = f"{what} of account {account.name} cannot be read: {error}"
        message = f"{unread}; its exits may not be sent: {then}"
        self._log("alert", tenant=account.tenant, severity="critical", code="account_unreadable", message=message)
        self._store.alert(account.tenant, Alert("critical", "account_unreadable", message))
        known.told = True
