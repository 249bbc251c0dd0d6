"""Real processes on hosts whose wall jumps, was wrong from the start, or turns to summer time: no trade minds it."""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from broker_connector.paper.process import PaperControl, paper_broker
from engine import bootstrap
from engine.domain.events import Event, EventType
from engine.runtime import keys
from engine.schedule import TOO_CLOSE, RedBeatTimers
from tasks.app import app_at
from tests.celery_nodes import ProcessContainer, WorkerContainer, WorkerNode, command_of
from tests.desk import PAPER, Desk, environment, event_of, open_desk
from tests.processes import eventually

HOUR = 3600
#: How late a task may start on a busy machine; its precision is the benchmarks' to measure.
IN_TIME = timedelta(seconds=2)


def changing_at(at: datetime) -> str:
    """A zone in the POSIX form of TZ, whose clocks go ahead by an hour at `at` and back half a year on."""
    day = at.timetuple().tm_yday
    seconds = at.hour * HOUR + at.minute * 60 + at.second
    return f"HOST0SUMR-1,J{day}/{seconds // HOUR}:{seconds // 60 % 60}:{seconds % 60},J{(day + 180) % 365 + 1}/0"


class Wall:
    """The wall of a host of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.jump(0)

    def jump(self, seconds: int) -> None:
        """Be off by so much from now on."""
        draft = self._path.with_suffix(".new")
        draft.write_text(str(seconds))
        draft.replace(self._path)

    def on(self, argv: tuple[str, ...]) -> tuple[str, ...]:
        """The Celery process of `argv` on a host with this wall; whatever else is said of it there is left out."""
        return (sys.executable, "-m", "tests.shifted", str(self._path), *argv[argv.index("celery") :])


@pytest.fixture(scope="module")
def paper() -> Iterator[PaperControl]:
    with paper_broker(*PAPER) as control:
        yield control


@pytest.fixture
def desk(valkey_url: str, paper: PaperControl, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setattr(bootstrap, "app", app_at(valkey_url))
    with open_desk(valkey_url, paper) as opened:
        opened.parts.redis.flushall()
        opened.open()
        yield opened


class Host:
    """A beat and the orders' worker behind one wall."""

    def __init__(self, redis_url: str, directory: Path, zone: str) -> None:
        self.wall = Wall(directory / "wall")
        chosen = environment(redis_url) | {"TZ": zone}
        self.beat = ProcessContainer("beat", self.wall.on(command_of("beat")), chosen, directory / "beat.log")
        self._worker = WorkerContainer("worker-orders", chosen, directory / "orders.log")
        self._worker._argv = self.wall.on(self._worker._argv)
        self.worker = WorkerNode(self._worker, None)

    def start(self, desk: Desk) -> None:
        """Start both and wait until they are ready."""
        self.beat.start()
        self._worker.start()
        assert eventually(lambda: desk.parts.redis.exists(keys.process("orders")) == 1, within=30), self.worker.logs()
        assert eventually(lambda: '"beat: leads"' in self.beat.logs(), within=30), self.beat.logs()

    def end(self) -> None:
        """Stop both."""
        self.beat.ask_to_end()
        self._worker.teardown()
        self.beat.teardown()


@pytest.fixture
def host(desk: Desk, tmp_path: Path) -> Iterator[Host]:
    made = Host(desk.parts.settings.redis_url, tmp_path, changing_at(datetime.now(UTC) + timedelta(seconds=6)))
    yield made
    made.end()


@pytest.mark.slow
@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_a_jump_of_the_wall_moves_no_timer(desk: Desk, host: Host, jump: int) -> None:
    host.start(desk)
    timers = RedBeatTimers(app_at(desk.parts.settings.redis_url), desk.parts.redis, desk.parts.publisher)
    waiting = desk.arm(buy_in=TOO_CLOSE.total_seconds() + 4)
    timers.schedule(waiting, desk.parts.clock.now())
    host.wall.jump(jump)
    # One that is set after the jump, too.
    fresh = desk.arm(buy_in=TOO_CLOSE.total_seconds() + 3)
    timers.schedule(fresh, desk.parts.clock.now())
    for run in (fresh, waiting):
        # Two, if it was released at its instant and served: there is one order, and it was not early.
        assert eventually(lambda run=run: host.worker.served(f"buy:{run.id}") != [], within=20), host.worker.logs()  # type: ignore[misc]
    assert len(desk.sent("buy")) == 2
    for run in (fresh, waiting):
        (intended,) = [body for body in desk.records("entry_intended") if body["orders"][0]["client_order_id"]
                       == desk.live(run).orders[0].client_order_id]  # fmt: skip
        late = datetime.fromisoformat(intended["market_time"]) - run.buy_at
        assert timedelta(0) <= late < IN_TIME
    assert "clock_disagrees" not in host.worker.logs()


@pytest.mark.slow
@pytest.mark.parametrize("off", [HOUR, -HOUR])
def test_a_process_started_on_a_wrong_clock_buys_nothing_until_its_host_is_set_right(
    desk: Desk, host: Host, off: int
) -> None:
    host.wall.jump(off)
    host.start(desk)
    run = desk.arm(buy_in=0.0)
    held = event_of(run, EventType.BUY)
    desk.parts.publisher.publish(held)
    assert eventually(lambda: desk.outcomes(held) != [], within=20), host.worker.logs()
    assert desk.sent() == []
    assert desk.ended(run) is None
    assert [alert["code"] for body in desk.records("alert") for alert in body["alerts"]] == ["clock_disagrees"]
    host.wall.jump(0)
    assert eventually(lambda: '"clock_agrees"' in host.worker.logs())
    desk.parts.publisher.publish(Event(f"again:{run.id}", EventType.BUY, run.id))
    assert eventually(lambda: len(desk.sent("buy")) == 1)
