"""What each loses by kill -9: events published at once, the worker killed while it holds some, then started again.

Served is what was committed in the end; sent twice is worse than lost.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from bench.peer.work import LEDGER
from bench.rivals import ENGINE, Rival, runs_of_rivals, start_nautilus, told
from bench.sink import Sink
from bench.stand import Stand, stand, wait
from broker_connector.paper.process import paper_broker
from engine.domain.orders import OrderStatus
from engine.runtime import keys
from engine.stack.child import Child
from tests.desk import PAPER, open_desk

#: Seconds a broker takes to answer here, so that events are held.
ANSWER = 0.1
#: Seconds after which nothing more is waited for.
PATIENCE = 40.0
#: Of a client order id, the attempt.
ATTEMPT_DIGITS = 3
#: Orders in one of these came to nothing yet.
OPEN_ENDS = {OrderStatus.SENDING, OrderStatus.UNKNOWN}


@dataclass(frozen=True)
class Size:
    """How much is at stake."""

    events: int = 100
    #: Orders at the broker at which the worker is killed.
    killed_at: int = 25
    #: Seconds without progress after which what was not served is lost; the engine asks for an order in doubt after 7.
    quiet: float = 10.0


@dataclass(frozen=True)
class Killed:
    """What became of the events."""

    events: int
    served: int
    sent_twice: int
    #: Orders at the broker that nobody will ever know of.
    orphans: int
    #: Lying in Redis for a redelivery that did not come within the wait: Celery's, after an hour.
    kept_for_later: int = 0

    @property
    def row(self) -> dict[str, int]:
        """As it is written down."""
        return asdict(self) | {"lost": self.events - self.served - self.kept_for_later}


def rival(at: Stand, orders: Sink, each: Rival, worker: Child, size: Size) -> Killed:
    """A rival's worker, which runs."""
    redis: Any = at.redis
    before = redis.xlen(LEDGER)
    orders.forget(delay=ANSWER)
    publishing = each.publishing(at, runs_of_rivals(at, size.events), 0)
    wait(lambda: len(orders.noted()) >= size.killed_at, 30, "the orders do not come")
    worker.kill()
    told(publishing)
    worker.start()
    served = _settled(lambda: int(redis.xlen(LEDGER)) - int(before), size)
    sent = [tag for tag, _ in orders.noted()]
    known = {fields["run"] for _, fields in redis.xrange(LEDGER)}
    return Killed(size.events, served, _twice(sent), len(set(sent) - known), int(redis.hlen("unacked")))


def engine(size: Size) -> Killed:
    """The engine: with the sweeper, which repeats what was lost, and a broker that has a book to ask."""
    with stand() as at, paper_broker(*PAPER) as paper, open_desk(at.url, paper) as desk:
        worker = at.start_from_procfile("worker-orders")
        for name in ("worker-maintenance", "sweeper"):
            at.start_from_procfile(name)
        redis: Any = desk.parts.redis
        wait(lambda: redis.exists(keys.process("orders"), keys.process("maintenance")) == 2, 30, "no worker is ready")
        desk.paper.fault("slow", operation="place", times=2 * size.events, seconds=ANSWER)
        runs = [desk.arm(buy_in=0) for _ in range(size.events)]
        publishing = ENGINE.publishing(at, [str(each.id) for each in runs], 0)
        wait(lambda: len(desk.sent()) >= size.killed_at, 30, "the orders do not come")
        worker.kill()
        told(publishing)
        worker.start()

        def known() -> set[str]:
            found = [order for each in runs for order in desk.live(each).orders]
            return {order.client_order_id for order in found if order.status not in OPEN_ENDS}

        # A second attempt has a tag of its own: what the attempts of one leg have in common is looked at.
        served = _settled(lambda: len({tag[:-ATTEMPT_DIGITS] for tag in known()}), size)
        sent = [row["tag"] for row in desk.sent()]
        return Killed(size.events, served, _twice(tag[:-ATTEMPT_DIGITS] for tag in sent), len(set(sent) - known()))


def nautilus(at: Stand, orders: Sink, size: Size) -> Killed:
    """The process that holds its stops in memory; started again it breaches what it then has."""
    orders.forget(delay=ANSWER)
    process = start_nautilus(at, orders, size.events, ANSWER)
    wait(lambda: len(orders.noted()) >= size.killed_at, 30, "the orders do not come")
    process.kill()
    again = start_nautilus(at, orders, 0, 0)
    served, known = _settled(lambda: len(orders.noted()), size), int(again.last_words("armed").split()[0])
    return Killed(size.events, served, _twice(tag for tag, _ in orders.noted()), served - known)


def _settled(progress: Callable[[], int], size: Size) -> int:
    """How far it got: through all events, or no further for a while."""
    reached, moved_at, began = -1, time.monotonic(), time.monotonic()
    while reached < size.events and time.monotonic() - moved_at < size.quiet and time.monotonic() - began < PATIENCE:
        now = progress()
        if now != reached:
            reached, moved_at = now, time.monotonic()
        time.sleep(0.2)
    return reached


def _twice(tags: Any) -> int:
    return sum(number > 1 for number in Counter(tags).values())
