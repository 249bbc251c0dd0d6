"""The invariants, checked on the brokers' own ledgers; the history is compared with them at the end."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import lru_cache

from engine.domain.events import Event
from engine.domain.orders import TERMINAL, Leg, Side
from engine.domain.run import Run, RunId, parse_client_order_id
from engine.ports import Refused
from engine.simulation.broker import Placed
from engine.simulation.durable import SimulatedDurable
from engine.simulation.livestate import LiveState
from engine.simulation.scenario import DEPLOYMENT, QUANTITY, START, Seed


class Violation(AssertionError):
    """Raised when the ledger breaks an invariant; the message names it."""


def check_always(book: Iterable[Placed]) -> None:
    """Invariant 1: filled buys within the quantity, filled sells within the buys, one live exit."""
    bought, sold, live_exits = Counter[RunId](), Counter[RunId](), Counter[RunId]()
    for placed in book:
        run = run_id_of(placed)
        if placed.request.side is Side.BUY:
            bought[run] += placed.filled
        else:
            sold[run] += placed.filled
            live_exits[run] += placed.status not in TERMINAL
    for run in {*bought, *sold, *live_exits}:
        if bought[run] > QUANTITY:
            raise Violation(f"{run} bought {bought[run]} of {QUANTITY}")
        if sold[run] > bought[run]:
            raise Violation(f"{run} sold {sold[run]} of {bought[run]} bought: a short")
        if live_exits[run] > 1:
            raise Violation(f"{run} has {live_exits[run]} live exits")


def check_end(book: Sequence[Placed], store: LiveState, durable: SimulatedDurable) -> None:
    """Invariants 2 and 3: everything bought is flat, every run ended, the history equals the book."""
    check_history(book, durable)
    held = Counter[RunId]()
    for placed in book:
        held[run_id_of(placed)] += placed.filled if placed.request.side is Side.BUY else -placed.filled
        if placed.status not in TERMINAL:
            raise Violation(f"order {placed.request.client_order_id} is still {placed.status}")
    if left := [f"{quantity} of {run}" for run, quantity in held.items() if quantity]:
        raise Violation(f"still held long after the faults ended: {', '.join(left)}")
    if open_runs := {*store.runtimes, *(str(run.id) for run in durable.open_runs())}:
        raise Violation(f"runs not ended: {', '.join(sorted(open_runs))}")


def check_history(book: Iterable[Placed], durable: SimulatedDurable) -> None:
    """Invariant 3: of every order the history says what its broker's book does; one that ended may have two names."""
    history = {order.client_order_id: order for run in durable.runs() for order in run.orders}
    # After a loss two orders may stand under one id: the history counts them together.
    by_id: defaultdict[str, list[Placed]] = defaultdict(list)
    for placed in book:
        by_id[placed.request.client_order_id].append(placed)
    for name, orders in by_id.items():
        known, filled = history.get(name), sum(placed.filled for placed in orders)
        is_over = all(placed.status in TERMINAL for placed in orders)
        is_told = known is not None and known.filled_quantity == filled
        if not is_told or (known is not None and known.status in TERMINAL) is not is_over:
            told = f"{known.status} {known.filled_quantity}" if known else "nothing"
            raise Violation(f"history of {name} says {told}, the book {orders[-1].status} {filled}")


class Observer:
    """What is checked over time: breaches served, runs that ended staying so, one terminal record an event."""

    def __init__(self, seed: Seed) -> None:
        self._seed = seed
        #: Since when a breach has waited for an exit, and how many it got before.
        self._waiting: dict[RunId, tuple[datetime, int]] = {}
        self._checked_at = START
        self._ended: dict[RunId, int] = {}
        self._answered: set[tuple[str, str]] = set()

    def wants_exit(self, run_id: RunId, at: datetime, book: Iterable[Placed]) -> None:
        """A tick breached the stop of a run, or its user stopped it; it counts where something is held."""
        if _held(run_id, book) > 0:
            self._waiting.setdefault(run_id, (at, 0))

    def ended(self, run_id: RunId, book: Iterable[Placed]) -> None:
        """The run's STOP was committed: from now on it sends nothing."""
        self._ended[run_id] = sum(run_id_of(placed) == run_id for placed in book)

    def lost(self, durable: Iterable[Run]) -> None:
        """The live state is gone: what ended and is not told so by `durable` lives again, and rightly."""
        alive = {run.id for run in durable}
        self._ended = {run_id: count for run_id, count in self._ended.items() if run_id not in alive}

    def answered(self, event: Event, outcome: str) -> None:
        """A worker served an event to its end; one of a run that ended is no dead letter while the live state lasts."""
        if outcome != Refused.UNKNOWN:
            self._answered.add((str(event.run_id), event.id))
        elif self._seed.keeps_state and event.run_id in self._ended:
            raise Violation(f"{event.type} {event.id} found nothing of its run, which has ended")

    def check(self, now: datetime, book: Iterable[Placed], *, is_busy: bool) -> None:
        """Invariant 6, as far as this world's faults allow, and that what ended stays ended.

        `is_busy`: every thread is taken, so that no breach can be served sooner.
        """
        if is_busy:
            idle = now - self._checked_at
            self._waiting = {run_id: (since + idle, exits) for run_id, (since, exits) in self._waiting.items()}
        self._checked_at = now
        orders: defaultdict[RunId, list[Placed]] = defaultdict(list)
        for placed in book:
            orders[run_id_of(placed)].append(placed)
        for run_id, count in self._ended.items():
            if len(orders[run_id]) > count:
                raise Violation(f"{run_id} sent an order after it had ended")
        for run_id, (since, known) in [*self._waiting.items()]:
            own = orders[run_id]
            exits = sum(each.request.side is Side.SELL for each in own)
            patience = self._seed.patience(self._seed.account_of(run_id.strategy_id))
            if _held(run_id, own) <= 0:
                del self._waiting[run_id]
            elif exits > known or any(each.request.side is Side.SELL and each.status not in TERMINAL for each in own):
                self._waiting[run_id] = (now, exits)
            elif patience is not None and now - since > patience:
                raise Violation(f"{run_id} is to be sold since {since:%M:%S} and has no exit at {now:%M:%S}")

    def check_end(self, durable: SimulatedDurable) -> None:
        """Invariant 5, and that what only repeats itself keeps no run from its trade."""
        twice = [key for key, count in durable.terminals.items() if count > 1]
        if twice:
            raise Violation(f"event {twice[0]} has more than one terminal record")
        if not self._seed.keeps_state:
            return
        recorded = {(run, event_id) for _, run, event_id in durable.terminals}
        if self._seed.loses_nothing:
            self._check_trades(durable)
        if missing := sorted(self._answered - recorded):
            raise Violation(f"event {missing[0]} was served and has no terminal record")

    def _check_trades(self, durable: SimulatedDurable) -> None:
        for run in durable.runs():
            is_calm = run.strategy.account_id > self._seed.ill_accounts and run.stop_requested is None
            # A breach takes back what of the entry has not filled yet.
            wanted = QUANTITY if run.latch is None else 1
            # Its stop was reached before it could buy: then nothing is bought, and rightly.
            is_calm = is_calm and "stop_above_price" not in run.failure
            if is_calm and run.filled(Leg.ENTRY) < wanted:
                raise Violation(f"{run.id} was not bought, though nothing it needs failed: {run.status} {run.failure}")


def run_id_of(placed: Placed) -> RunId:
    """The run an order belongs to; Violation where it is none of ours."""
    return _run_id(placed.request.client_order_id)


@lru_cache(maxsize=1024)
def _run_id(client_order_id: str) -> RunId:
    ours = parse_client_order_id(DEPLOYMENT, client_order_id)
    if ours is None:
        raise Violation(f"an order without an id of ours: {client_order_id}")
    return ours[0]


def _held(run_id: RunId, book: Iterable[Placed]) -> int:
    own = [placed for placed in book if run_id_of(placed) == run_id]
    return sum(placed.filled if placed.request.side is Side.BUY else -placed.filled for placed in own)
