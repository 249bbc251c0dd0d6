"""One reading of an account serves all of its runs: whoever comes first asks the broker, the others are told.

Without it a thousand runs that must know read the book a thousand times, and each waits for a broker that hangs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from engine.account_reading import read_account
from engine.domain.account_positions import AccountReading
from engine.domain.broker import BookEntry
from engine.domain.events import Event, EventType
from engine.domain.run import Run, order_id_part, run_part_of
from engine.ports import BookTold, BookWaits, Broker, Clock, Holding, Store

#: How old a reading may be that answers a run, and one it had to wait for; it is younger than what the run did last.
SHARED_FOR, WAITED_FOR = timedelta(seconds=0.5), timedelta(seconds=20)
#: How long another's reading is waited for before the run is looked at again, if nobody wakes it.
LOOKS_AGAIN = timedelta(seconds=2)
#: A reading as old as this one changes nothing, and is answered by what the account has all the same.
NEVER = AccountReading(datetime(1970, 1, 1, tzinfo=UTC), ())


@dataclass(frozen=True, slots=True)
class Read:
    """What an account's book says, when its broker was asked, real time, and whom that should wake.

    `reading` is a text where the positions could not be read: why.
    """

    at: datetime
    book: Sequence[BookEntry]
    reading: AccountReading | str
    wakes: Sequence[Event] = ()


class SharedBooks:
    """Reads accounts for their runs. Safe to use from many threads."""

    def __init__(self, store: Store, clock: Clock, deployment: str) -> None:
        self._store = store
        self._clock = clock
        self._deployment = deployment

    def read(self, holding: Holding, run: Run, broker: Broker, kind: EventType, *, anew: bool) -> Read | BookWaits:
        """The account's book for `run`, or that another reads it: then an event of `kind` wakes the run.

        `anew`: no reading counts that was asked before now. Raises BrokerUnreachable, TokenInvalid.
        """
        now = self._clock.now().real
        did_last = max((order.updated_at for order in run.orders if order.updated_at), default=now - WAITED_FOR)
        settles_from = max((run.settles_from(order) for order in run.unsettled), default=did_last)
        never_before = now if anew else max(min(now, settles_from), did_last, now - WAITED_FOR)
        part = order_id_part(self._deployment, run.id)
        known = self._store.read_book(holding, now, now - SHARED_FOR, never_before, part, kind)
        if isinstance(known, BookWaits):
            return known
        if isinstance(known, BookTold):
            return Read(known.at, known.entries, NEVER)
        return self._ask(holding, run, broker, now)

    def _ask(self, holding: Holding, run: Run, broker: Broker, now: datetime) -> Read:
        account, is_whole, parts = run.strategy.account_id, False, dict[str, list[BookEntry]]()
        try:
            book, reading = read_account(broker, self._deployment, self._clock, self._store.pool_mark(account))
            if not isinstance(reading, str):
                # The others find what the account has beside what its book says.
                self._store.cover(account, reading)
                is_whole = True
            for entry in book:
                if part := run_part_of(self._deployment, entry.tag):
                    parts.setdefault(part, []).append(entry)
        finally:
            told = self._store.tell_book(holding, now if is_whole else None, parts)
        return Read(now, book, reading, [event for event in told if event.run_id != run.id])
