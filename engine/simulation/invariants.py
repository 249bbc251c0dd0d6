"""The invariants, checked on the broker's own ledger; the history is compared with it at the end."""

from collections import defaultdict
from functools import lru_cache

from engine.domain.orders import TERMINAL, Side
from engine.domain.run import RunId, parse_client_order_id
from engine.simulation.broker import SimulatedBroker
from engine.simulation.durable import SimulatedDurable
from engine.simulation.scenario import DEPLOYMENT, QUANTITY
from engine.simulation.store import MemoryStore


class Violation(AssertionError):
    """Raised when the ledger breaks an invariant; the message names it."""


def check_always(broker: SimulatedBroker) -> None:
    """Invariant 1: filled buys within the quantity, filled sells within the buys, one live exit."""
    bought: defaultdict[RunId, int] = defaultdict(int)
    sold: defaultdict[RunId, int] = defaultdict(int)
    live_exits: defaultdict[RunId, int] = defaultdict(int)
    for placed in broker.book:
        run = _run_of(placed.request.client_order_id)
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


def check_end(broker: SimulatedBroker, store: MemoryStore, durable: SimulatedDurable) -> None:
    """Invariants 2 and 3: everything bought is flat, every run ended, the history equals the book."""
    for placed in broker.book:
        if placed.status not in TERMINAL:
            raise Violation(f"order {placed.request.client_order_id} is still {placed.status}")
    held = sum(p.filled if p.request.side is Side.BUY else -p.filled for p in broker.book)
    if held:
        raise Violation(f"{held} units still held long after the faults ended")
    if left := {*store.runtimes, *(str(run.id) for run in durable.open_runs())}:
        raise Violation(f"runs not ended: {', '.join(sorted(left))}")
    history = {order.client_order_id: order for run in durable.runs() for order in run.orders}
    for placed in broker.book:
        known = history.get(placed.request.client_order_id)
        if known is None or (known.filled_quantity, known.status) != (placed.filled, placed.status):
            told = f"{known.status} {known.filled_quantity}" if known else "nothing"
            raise Violation(
                f"history of {placed.request.client_order_id} says {told}, the book {placed.status} {placed.filled}"
            )


@lru_cache(maxsize=1024)
def _run_of(client_order_id: str) -> RunId:
    ours = parse_client_order_id(DEPLOYMENT, client_order_id)
    if ours is None:
        raise Violation(f"an order without an id of ours: {client_order_id}")
    return ours[0]
