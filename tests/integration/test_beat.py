"""A real beat process with RedBeat, and a worker behind it: timers fire, never early, and not once canceled."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from broker_connector.paper.process import PaperControl, paper_broker
from engine import bootstrap
from engine.domain.run import Run
from engine.runtime import keys
from engine.schedule import RedBeatTimers
from tasks.app import app_at
from tests.celery_nodes import ProcessContainer, WorkerContainer, WorkerNode, command_of
from tests.desk import PAPER, Desk, environment, open_desk
from tests.processes import eventually

#: How late a task may start on a busy machine; its precision is the benchmarks' to measure.
IN_TIME = timedelta(seconds=2)


@dataclass(frozen=True)
class Timed:
    """A desk with beat and the orders' worker running."""

    desk: Desk
    timers: RedBeatTimers
    worker: WorkerNode

    def schedule(self, run: Run) -> None:
        self.timers.schedule(run, self.desk.parts.clock.now())

    def entries(self) -> int:
        """How many RedBeat entries of runs there are; Celery adds one of its own."""
        names: Any = self.desk.parts.redis.zrange("redbeat::schedule", 0, -1)
        return sum(name.endswith((":buy", ":sell")) for name in names)

    def served(self, event_id: str) -> bool:
        """Whether an event's task runs in time to come."""
        return eventually(lambda: self.starts(event_id) != [], within=15)

    def starts(self, event_id: str) -> list[datetime]:
        """When the task of an event began, each time it ran, by its own log line."""
        return [
            datetime.fromisoformat(line["timestamp"]) - timedelta(milliseconds=line["ms"])
            for line in self.worker.served(event_id)
        ]


@pytest.fixture(scope="module")
def paper() -> Iterator[PaperControl]:
    with paper_broker(*PAPER) as control:
        yield control


@pytest.fixture
def timed(valkey_url: str, paper: PaperControl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Timed]:
    app = app_at(valkey_url)
    monkeypatch.setattr(bootstrap, "app", app)
    chosen = environment(valkey_url)
    beat = ProcessContainer("beat", command_of("beat"), chosen, tmp_path / "beat.log")
    orders = WorkerContainer("worker-orders", chosen, tmp_path / "orders.log")
    with open_desk(valkey_url, paper) as desk:
        desk.parts.redis.flushall()
        desk.open()
        beat.start()
        orders.start()
        try:
            orders.ready()
            assert eventually(lambda: desk.parts.redis.exists(keys.process("beat")) == 1, within=20), beat.logs()
            yield Timed(desk, RedBeatTimers(app, desk.parts.publisher), WorkerNode(orders, None))
        finally:
            beat.ask_to_end()
            orders.teardown()
            beat.teardown()
            app.close()


def assert_on_time(starts: list[datetime], due: datetime) -> None:
    (start,) = starts
    assert timedelta(0) <= start - due < IN_TIME


def test_buy_and_sell_fire_at_their_instants_and_never_early(timed: Timed) -> None:
    desk = timed.desk
    # 3.5 s ahead is the closest at which an entry is saved at all, and the one fired soonest after it.
    runs = [desk.arm(buy_in=ahead, sell_in=ahead + 5) for ahead in (3.5, 4.25, 4.999)]
    for run in runs:
        timed.schedule(run)
    assert timed.entries() == 2 * len(runs)
    for run in runs:
        assert timed.served(f"buy:{run.id}")
        assert_on_time(timed.starts(f"buy:{run.id}"), run.buy_at)
    assert eventually(lambda: len(desk.sent("buy")) == len(runs))
    # What is heard waits in the run: no maintenance worker takes it, the SELL finds it.
    desk.hear()
    for run in runs:
        assert timed.served(f"sell:{run.id}")
        assert_on_time(timed.starts(f"sell:{run.id}"), run.sell_at)
    assert eventually(lambda: len(desk.sent("sell")) == len(runs))


def test_a_timer_closer_than_an_entry_allows_is_released_at_its_instant_too(timed: Timed) -> None:
    run = timed.desk.arm(buy_in=2.0)
    timed.schedule(run)
    # Only SELL, an hour away, is an entry.
    assert timed.entries() == 1
    assert timed.served(f"buy:{run.id}")
    assert_on_time(timed.starts(f"buy:{run.id}"), run.buy_at)


def test_canceled_timers_do_not_fire_and_leave_nothing_behind(timed: Timed) -> None:
    canceled, kept = timed.desk.arm(buy_in=4), timed.desk.arm(buy_in=4)
    for run in (canceled, kept):
        timed.schedule(run)
    assert timed.entries() == 4
    for _ in range(2):
        timed.timers.cancel(canceled.id)
    assert timed.entries() == 2
    assert [name for name in timed.desk.parts.redis.scan_iter(f"*{canceled.id}*") if "redbeat" in name] == []
    assert timed.served(f"buy:{kept.id}")
    timed.desk.parts.clock.sleep_until(kept.buy_at + IN_TIME)
    assert timed.starts(f"buy:{canceled.id}") == []
    assert len(timed.desk.sent()) == 1


def test_a_run_that_ended_takes_its_timers_along(timed: Timed) -> None:
    run = timed.desk.arm(buy_in=-3600)
    timed.timers.schedule(run, timed.desk.parts.clock.now())
    # An hour late, BUY is published at once and missed; SELL, still ahead, is canceled with the run.
    assert eventually(lambda: timed.desk.ended(run) == ("missed", "none"))
    assert eventually(lambda: timed.entries() == 0)
