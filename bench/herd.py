"""Many trades due at one instant: how late their tasks start, beside stock RedBeat; how soon their orders are sent,
beside a bare loop.

A start is the task released at T with a body that does nothing, on both sides. Orders are counted as they reach the
paper broker, by its own ledger.
"""

import statistics
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from redbeat.schedulers import RedBeatSchedulerEntry
from redbeat.schedules import rrule

from bench import noop
from bench.bare import Bare
from bench.figures import Figures
from bench.stand import Stand, sleep_until, stand, wait
from broker_connector.paper.process import paper_broker
from engine.dispatch import CeleryPublisher
from engine.domain.moment import Moment
from engine.domain.run import Run
from engine.schedule import TOO_CLOSE, RedBeatTimers
from tasks.app import app_at
from tests.desk import PAPER, Desk, open_desk

SIZES = (1, 100, 1000, 5000)
#: The largest herd whose orders are sent: 5,000 would fill the paper broker's book, not the engine.
ORDERS_UP_TO = 1000
#: Threads of a worker, and of the bare loop.
THREADS = 32
WORKER = ("--pool", "threads", "-c", str(THREADS), "--without-gossip", "--without-mingle")


def run(say: Any = print) -> dict[str, Figures]:
    """Every size, both sides; what `latest.json` holds under "herd"."""
    found: dict[str, Figures] = {}
    for size in SIZES:
        with stand() as at:
            ours = _lateness(_starts_of_ours(at, size))
        with stand() as at:
            stock = _lateness(_starts_of_stock(at, size))
        found[str(size)] = {
            "median_ms": ours["median"],
            "last_ms": ours["last"],
            "early_ms": ours["early"],
            "stock_median_ms": stock["median"],
            "stock_last_ms": stock["last"],
        }
        if size <= ORDERS_UP_TO:
            found[str(size)] |= _orders(size)
        say(f"herd {size}: {found[str(size)]}")
    return found


def _lateness(late: Sequence[float]) -> Figures:
    return {
        "median": round(statistics.median(late), 2),
        "last": round(max(late), 2),
        "early": round(max(0.0, -min(late)), 3),
    }


def _starts_of_ours(at: Stand, size: int) -> list[float]:
    """ms after T at which each task of `size` timers of the engine started."""
    noted = at.directory / "starts"
    at.start_from_procfile("beat", ready="leads")
    worker = at.start(
        "worker", ("celery", "-A", "bench.noop:ours", "worker", "-Q", "orders", *WORKER),
        ready=noop.READY, BENCH_STARTS=str(noted),
    )  # fmt: skip
    with open_desk_without_broker(at) as desk:
        due = _instant(size)
        _schedule(desk, [desk.run(buy_in=60) for _ in range(size)], due)
    sleep_until(due + timedelta(seconds=2 + size / 1000))
    at.end(worker)
    return _after(due, noted, size)


def _starts_of_stock(at: Stand, size: int) -> list[float]:
    """ms after T at which each task of `size` one-shot entries of stock RedBeat started."""
    noted = at.directory / "starts"
    queue = noop.stock_at(at.url)
    worker = at.start(
        "worker", ("celery", "-A", "bench.noop:stock", "worker", "-Q", "stock", *WORKER),
        ready=noop.READY, BENCH_STARTS=str(noted),
    )  # fmt: skip
    due = _instant(size)
    for number in range(size):
        RedBeatSchedulerEntry(
            name=f"buy-{number}", task="stock.buy", args=[{}],
            schedule=rrule("SECONDLY", dtstart=due, count=1, app=queue), app=queue,
        ).save()  # fmt: skip
    beat = at.start("beat", ("celery", "-A", "bench.noop:stock", "beat"), ready="starting")
    sleep_until(due + timedelta(seconds=5 + size / 200))
    at.end(beat, worker)
    return _after(due, noted, size)


def _orders(size: int) -> Figures:
    """ms after T at which the last of `size` orders stood at the broker: the engine's, and a bare loop's."""
    with stand() as at, paper_broker(*PAPER) as paper, open_desk(at.url, paper) as desk:
        at.start_from_procfile("beat", ready="leads")
        at.start_from_procfile("worker-orders")
        wait(lambda: desk.parts.redis.exists("process:orders") == 1, 30, "the worker is not ready")
        bare = Bare(desk, [desk.arm(buy_in=0) for _ in range(size)], THREADS)
        began = datetime.now(UTC)
        bare.run()
        floor = _last_order(desk, size) - began
        # Their market is the same, their book is empty again.
        desk.paper.reset()
        due = _instant(size)
        runs = [desk.arm(buy_in=(due - datetime.now(UTC)).total_seconds()) for _ in range(size)]
        _schedule(desk, runs, due)
        # Asked seldom: the broker answers this, too, and the floor asked nothing.
        wait(lambda: len(desk.sent("buy")) == size, 60 + size / 10, "not every order was sent", every=1)
        ours = _last_order(desk, size) - due
    ms = timedelta(milliseconds=1)
    return {"orders_sent_ms": round(ours / ms, 1), "floor_orders_sent_ms": round(floor / ms, 1)}


def _last_order(desk: Desk, size: int) -> datetime:
    sent = desk.sent("buy")
    assert len(sent) == size, f"{len(sent)} orders where {size} were wanted"
    return max(datetime.fromisoformat(row["received_at"]) for row in sent)


def _schedule(desk: Desk, runs: Iterable[Run], due: datetime) -> None:
    """Timers for `runs` at `due`, their selling far away."""
    queue = app_at(desk.parts.settings.redis_url)
    timers = RedBeatTimers(queue, desk.parts.redis, CeleryPublisher(queue, desk.parts.redis, desk.parts.log))
    for each in runs:
        now = datetime.now(UTC)
        # Told from the exact instant: what a run was armed with is a little off it.
        timers.schedule(each, Moment(each.buy_at + (now - due), now))
    if datetime.now(UTC) > due - TOO_CLOSE:
        raise TimeoutError(f"the timers of {due} were written too late for a bucket: the machine is too busy")


def _instant(size: int) -> datetime:
    """A whole second far enough ahead for `size` timers to be written before their bucket is fired."""
    ahead = TOO_CLOSE + timedelta(seconds=3 + size / 250)
    return (datetime.now(UTC) + ahead).replace(microsecond=0) + timedelta(seconds=1)


def _after(due: datetime, noted: Path, size: int) -> list[float]:
    instant = int(due.timestamp()) * 1_000_000_000
    late = [(int(line) - instant) / 1e6 for line in noted.read_text().split()]
    assert len(late) == size, f"{len(late)} tasks started where {size} were wanted"
    return late


def open_desk_without_broker(at: Stand) -> Any:
    """A desk that places no order."""
    return open_desk(at.url, _NoBroker())  # type: ignore[arg-type]


class _NoBroker:
    """What a desk asks of its paper broker when it is opened."""

    base_url, ws_url = "http://127.0.0.1:1", "ws://127.0.0.1:1"

    def __getattr__(self, _name: str) -> Any:
        return lambda *_args, **_options: None
