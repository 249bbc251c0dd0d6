"""Real beat processes on RedBeat, and a worker behind them: timers fire, never early, and whichever beat is away."""

import base64
import json
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from broker_connector.paper.process import PaperControl, paper_broker
from engine import bootstrap
from engine.dispatch import BatchPublisher, CeleryPublisher
from engine.dispatch import Timed as TimedEvent
from engine.domain.events import Event, EventType
from engine.domain.orders import Leg
from engine.domain.run import Run, RunId, client_order_id
from engine.schedule import TOO_CLOSE, Buckets, RedBeatTimers, fire
from tasks.app import app_at
from tests.celery_nodes import ProcessContainer, WorkerContainer, WorkerNode, command_of
from tests.desk import PAPER, Desk, environment, open_desk
from tests.processes import eventually

#: How late a task may start on a busy machine; its precision is the benchmarks' to measure.
IN_TIME = timedelta(seconds=2)
#: Seconds ahead at which a timer just goes into a bucket.
AHEAD = TOO_CLOSE.total_seconds() + 0.5
#: How long a worker may take to start on a busy machine.
STARTED_WITHIN = timedelta(seconds=8)
#: Seconds within which another beat leads after the first is gone.
TAKEN_OVER_WITHIN = 5.0


@dataclass(frozen=True)
class Timed:
    """A desk with two beats and the orders' worker running."""

    desk: Desk
    timers: RedBeatTimers
    worker: WorkerNode
    beats: Mapping[str, ProcessContainer]

    def schedule(self, run: Run) -> None:
        self.timers.schedule(run, self.desk.parts.clock.now())

    def waiting(self) -> int:
        """How many timers wait in buckets."""
        redis = self.desk.parts.redis
        return sum(name != "fired" for key in redis.scan_iter("timers:*") for name in redis.hkeys(key))

    def served(self, event_id: str) -> bool:
        """Whether an event's task runs in time to come."""
        return eventually(lambda: self.starts(event_id) != [], within=15)

    def starts(self, event_id: str) -> list[datetime]:
        """When the task of an event began, each time it ran, by its own log line."""
        return [
            datetime.fromisoformat(line["timestamp"]) - timedelta(milliseconds=line["ms"])
            for line in self.worker.served(event_id)
        ]

    def leader(self) -> str:
        """The beat whose last word is that it leads; "" where that is none or both."""
        leading = [name for name, beat in self.beats.items() if last_word(beat).endswith("leads")]
        return leading[0] if len(leading) == 1 else ""

    def led_by(self, name: str, *, within: float) -> bool:
        """Whether `name` comes to lead in time."""
        return eventually(lambda: last_word(self.beats[name]).endswith("leads"), within=within)


def last_word(beat: ProcessContainer) -> str:
    """The last a beat said of its part."""
    said = [line for line in beat.logs().splitlines() if '"beat: ' in line and ("leads" in line or "stands by" in line)]
    return said[-1].rstrip('"}') if said else ""


@pytest.fixture(scope="module")
def paper() -> Iterator[PaperControl]:
    with paper_broker(*PAPER) as control:
        yield control


@pytest.fixture
def timed(valkey_url: str, paper: PaperControl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Timed]:
    app = app_at(valkey_url)
    monkeypatch.setattr(bootstrap, "app", app)
    chosen = environment(valkey_url)
    beats = {
        name: ProcessContainer(name, command_of(name), chosen | {"ENGINE_PROCESS": name}, tmp_path / f"{name}.log")
        for name in ("beat", "beat-2")
    }
    orders = WorkerContainer("worker-orders", chosen, tmp_path / "orders.log")
    with open_desk(valkey_url, paper) as desk:
        desk.parts.redis.flushall()
        desk.open()
        for beat in beats.values():
            beat.start()
        orders.start()
        try:
            orders.ready()
            running = Timed(
                desk, RedBeatTimers(app, desk.parts.redis, desk.parts.publisher), WorkerNode(orders, None), beats
            )
            assert eventually(lambda: running.leader() != "", within=20), [beat.logs() for beat in beats.values()]
            yield running
        finally:
            for beat in beats.values():
                with suppress(ProcessLookupError):
                    os.kill(beat.pid, signal.SIGCONT)
                beat.ask_to_end()
            orders.teardown()
            for beat in beats.values():
                beat.teardown()
            app.close()


def assert_on_time(starts: list[datetime], due: datetime) -> None:
    (start,) = starts
    assert timedelta(0) <= start - due < IN_TIME


def test_buy_and_sell_fire_at_their_instants_and_never_early(timed: Timed) -> None:
    desk = timed.desk
    runs = [desk.arm(buy_in=AHEAD + more, sell_in=AHEAD + more + 5) for more in (0.0, 0.75, 1.499)]
    for run in runs:
        timed.schedule(run)
    assert timed.waiting() == 2 * len(runs)
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


@pytest.mark.slow
def test_a_timer_closer_than_a_bucket_allows_is_released_at_its_instant_too(timed: Timed) -> None:
    run = timed.desk.arm(buy_in=2.0)
    timed.schedule(run)
    # Only SELL, an hour away, waits.
    assert timed.waiting() == 1
    assert timed.served(f"buy:{run.id}")
    assert_on_time(timed.starts(f"buy:{run.id}"), run.buy_at)


@pytest.mark.slow
def test_canceled_timers_do_not_fire_and_leave_nothing_behind(timed: Timed) -> None:
    canceled, kept = timed.desk.arm(buy_in=AHEAD), timed.desk.arm(buy_in=AHEAD)
    for run in (canceled, kept):
        timed.schedule(run)
    assert timed.waiting() == 4
    for _ in range(2):
        timed.timers.cancel(canceled.id)
    assert timed.waiting() == 2
    assert list(timed.desk.parts.redis.scan_iter(f"timers*{canceled.id}*")) == []
    assert timed.served(f"buy:{kept.id}")
    timed.desk.parts.clock.sleep_until(kept.buy_at + IN_TIME)
    assert timed.starts(f"buy:{canceled.id}") == []
    assert len(timed.desk.sent()) == 1


def test_a_run_that_ended_takes_its_timers_along(timed: Timed) -> None:
    run = timed.desk.arm(buy_in=-3600)
    timed.timers.schedule(run, timed.desk.parts.clock.now())
    # An hour late, BUY is published at once and missed; SELL, still ahead, is canceled with the run.
    assert eventually(lambda: timed.desk.ended(run) == ("missed", "none"))
    assert eventually(lambda: timed.waiting() == 0)


@pytest.mark.slow
def test_a_timer_that_is_moved_fires_at_its_new_instant_alone(timed: Timed) -> None:
    run = timed.desk.arm(buy_in=AHEAD)
    timed.schedule(run)
    timed.schedule(replace(run, buy_at=run.buy_at + timedelta(seconds=2)))
    assert timed.waiting() == 2
    assert timed.served(f"buy:{run.id}")
    assert_on_time(timed.starts(f"buy:{run.id}"), run.buy_at + timedelta(seconds=2))


@pytest.mark.slow
def test_when_the_leading_beat_is_killed_the_other_takes_over_and_fires(timed: Timed) -> None:
    first = timed.leader()
    (second,) = set(timed.beats) - {first}
    timed.beats[first].kill()
    run = timed.desk.arm(buy_in=AHEAD + TAKEN_OVER_WITHIN)
    timed.schedule(run)
    assert timed.led_by(second, within=TAKEN_OVER_WITHIN)
    assert timed.served(f"buy:{run.id}")
    assert_on_time(timed.starts(f"buy:{run.id}"), run.buy_at)


@pytest.mark.slow
def test_a_beat_paused_past_its_lock_steps_down_and_comes_back_by_itself(timed: Timed) -> None:
    first = timed.leader()
    (second,) = set(timed.beats) - {first}
    os.kill(timed.beats[first].pid, signal.SIGSTOP)
    assert timed.led_by(second, within=TAKEN_OVER_WITHIN)
    os.kill(timed.beats[first].pid, signal.SIGCONT)
    assert eventually(lambda: timed.leader() == second)
    run = timed.desk.arm(buy_in=AHEAD)
    timed.schedule(run)
    assert timed.served(f"buy:{run.id}")
    assert_on_time(timed.starts(f"buy:{run.id}"), run.buy_at)
    # Asked to end, it hands over at once.
    timed.beats[second].ask_to_end()
    assert timed.led_by(first, within=TAKEN_OVER_WITHIN)


@pytest.fixture
def sweeper(timed: Timed, tmp_path: Path) -> Iterator[ProcessContainer]:
    """The sweeper's process: what beat or a worker took along comes back by what is due."""
    process = ProcessContainer(
        "sweeper", command_of("sweeper"), environment(timed.desk.parts.settings.redis_url), tmp_path / "sweeper.log"
    )
    process.start()
    yield process
    process.teardown()


def entered_late(desk: Desk, runs: Sequence[Run]) -> list[timedelta]:
    """How late each run's entry was granted, by its own record, ascending."""
    granted = {body["orders"][0]["client_order_id"]: body["market_time"] for body in desk.records("entry_intended")}
    names = {run.id: client_order_id(desk.parts.settings.deployment, run.id, Leg.ENTRY, 1) for run in runs}
    return sorted(datetime.fromisoformat(granted[names[run.id]]) - run.buy_at for run in runs)


@pytest.mark.slow
def test_what_a_worker_held_when_it_was_killed_is_bought_within_two_seconds(
    timed: Timed, sweeper: ProcessContainer, tmp_path: Path
) -> None:
    desk = timed.desk
    other = WorkerContainer(
        "worker-orders", environment(desk.parts.settings.redis_url), tmp_path / "other.log", "-n", "other@%h"
    )
    runs = [desk.arm(buy_in=AHEAD + 3) for _ in range(50)]
    try:
        for run in runs:
            timed.schedule(run)
        # Fired ahead, all of it is in the memory of the one worker there is.
        assert eventually(lambda: timed.waiting() == len(runs), within=15)
        assert eventually(lambda: desk.parts.redis.llen("orders:6") == 0)
        timed.worker.kill()
        other.start()
        assert eventually(lambda: len(desk.sent("buy")) == len(runs), within=15)
    finally:
        other.ask_to_end()
        other.teardown()
    late = entered_late(desk, runs)
    assert timedelta(0) <= late[0]
    # Another worker was being started all the while: that is not what is bounded here.
    assert late[-1] < timedelta(seconds=2) + STARTED_WITHIN
    assert sweeper.status == "running"


@pytest.mark.slow
def test_with_every_beat_dead_the_sweeper_alone_fires_what_is_due(timed: Timed, sweeper: ProcessContainer) -> None:
    for beat in timed.beats.values():
        beat.kill()
    desk = timed.desk
    runs = [desk.arm(buy_in=AHEAD + number / 50) for number in range(100)]
    for run in runs:
        timed.schedule(run)
    assert eventually(lambda: len(desk.sent("buy")) == len(runs), within=30)
    late = entered_late(desk, runs)
    assert timedelta(0) <= late[0]
    assert late[-2] < timedelta(seconds=1.5)
    assert sweeper.status == "running"


class Published:
    """The publisher's port, keeping what it was given."""

    def __init__(self) -> None:
        self.given: list[tuple[str, datetime | None]] = []

    def publish(self, event: Event, at: datetime | None = None) -> None:
        self.given.append((event.id, at))


@pytest.fixture
def desk(valkey_url: str, paper: PaperControl, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setattr(bootstrap, "app", app_at(valkey_url))
    with open_desk(valkey_url, paper) as opened:
        opened.parts.redis.flushall()
        opened.open()
        yield opened


def test_who_adds_to_a_bucket_that_was_fired_publishes_himself(desk: Desk) -> None:
    published = Published()
    queue = app_at(desk.parts.settings.redis_url)
    timers = RedBeatTimers(queue, desk.parts.redis, published)
    buckets = Buckets(desk.parts.redis, BatchPublisher(queue))
    early, late = desk.arm(buy_in=60), desk.arm(buy_in=60)
    late = replace(late, buy_at=early.buy_at)
    now = desk.parts.clock.now()
    timers.schedule(early, now)
    assert published.given == []
    assert fire(buckets, int(early.buy_at.timestamp())) == 1
    timers.schedule(late, now)
    assert published.given == [(f"buy:{late.id}", early.buy_at)]
    # What was left in it goes out should it be fired again; what was published does not.
    assert [each.event.id for each in buckets.take(int(early.buy_at.timestamp()))] == [f"buy:{late.id}"]


@pytest.mark.parametrize("kind", [EventType.BUY, EventType.SELL])
def test_a_message_of_a_batch_is_the_one_celery_would_have_sent(desk: Desk, kind: EventType) -> None:
    queue, redis = app_at(desk.parts.settings.redis_url), desk.parts.redis
    event, at = Event(f"{kind}:1-20260105-1", kind, RunId(1, date(2026, 1, 5))), datetime(2026, 1, 5, 9, 30, tzinfo=UTC)
    lists = {"orders", "orders:6"}
    CeleryPublisher(queue, redis, desk.parts.log).publish(event, at)
    BatchPublisher(queue).publish([TimedEvent(event, at)])
    (found,) = [name for name in lists if redis.exists(name)]
    ours, celerys = (json.loads(text) for text in redis.lrange(found, 0, -1))
    own = {"headers": ("id", "root_id", "argsrepr"), "properties": ("correlation_id", "delivery_tag", "reply_to")}
    for message in (ours, celerys):
        assert message["headers"]["id"] == message["headers"]["root_id"] == message["properties"]["correlation_id"]
        for part, names in own.items():
            for name in names:
                message[part].pop(name)
        body = json.loads(base64.b64decode(message.pop("body")))
        assert body[:2] == [[event.as_wire()], {}]
        assert not any(body[2].values())
    assert ours == celerys
