"""The workers' lane: nothing before its instant, the most urgent first, never more at once than there are threads."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from engine.clock import RealTime
from tasks.lane import Lane
from tests.processes import eventually

THREADS = 4
SOON = timedelta(milliseconds=150)


class Runs:
    """What ran, in its order, and when."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.at: list[datetime] = []

    def of(self, name: str, clock: RealTime) -> None:
        self.at.append(clock.now())
        self.names.append(name)


@pytest.fixture
def clock() -> RealTime:
    return RealTime()


@pytest.fixture
def lane(clock: RealTime) -> Iterator[Lane]:
    with ThreadPoolExecutor(THREADS) as pool:
        made = Lane(clock, pool.submit, THREADS)
        yield made
        made.close()


@pytest.fixture
def single(clock: RealTime) -> Iterator[Lane]:
    """A lane of one thread: its order can be seen."""
    with ThreadPoolExecutor(1) as pool:
        made = Lane(clock, pool.submit, 1)
        yield made
        made.close()


def test_a_thousand_of_one_instant_run_once_each_and_none_before_it(lane: Lane, clock: RealTime) -> None:
    runs, at = Runs(), clock.now() + SOON
    for number in range(1000):
        lane.add(lambda number=number: runs.of(str(number), clock), priority=0, at=at)  # type: ignore[misc]
    assert eventually(lambda: len(runs.names) == 1000)
    assert sorted(runs.names, key=int) == [str(number) for number in range(1000)]
    assert min(runs.at) >= at


def test_an_earlier_instant_added_later_is_not_kept_waiting(single: Lane, clock: RealTime) -> None:
    runs, now = Runs(), clock.now()
    single.add(lambda: runs.of("later", clock), priority=0, at=now + timedelta(hours=1))
    single.add(lambda: runs.of("sooner", clock), priority=6, at=now + SOON)
    assert eventually(lambda: runs.names == ["sooner"])


def test_what_is_urgent_overtakes_what_waits_and_equals_keep_their_order(single: Lane, clock: RealTime) -> None:
    runs, gate = Runs(), threading.Event()
    single.add(gate.wait, priority=0)
    for name, priority in (("entry-1", 6), ("entry-2", 6), ("exit-1", 0), ("retry", 3), ("exit-2", 0)):
        single.add(lambda name=name: runs.of(name, clock), priority)  # type: ignore[misc]
    gate.set()
    assert eventually(lambda: len(runs.names) == 5)
    assert runs.names == ["exit-1", "exit-2", "retry", "entry-1", "entry-2"]


def test_of_two_alike_that_wait_one_runs_and_what_comes_once_it_has_begun_is_news(
    single: Lane, clock: RealTime
) -> None:
    runs, gate, begun = Runs(), threading.Event(), threading.Event()

    def first() -> None:
        begun.set()
        gate.wait(5)

    single.add(first, priority=0, does="a")
    assert begun.wait(5)
    took = [
        single.add(lambda name=name: runs.of(name, clock), priority=0, does=does)  # type: ignore[misc]
        for name, does in (("a again", "a"), ("a once more", "a"), ("b", "b"), ("any", None), ("any", None))
    ]
    assert took == [True, False, True, True, True]
    gate.set()
    assert eventually(lambda: runs.names == ["a again", "b", "any", "any"])
    assert single.add(lambda: runs.of("a at last", clock), priority=0, does="a")
    assert eventually(lambda: runs.names[-1] == "a at last")


def test_what_waits_for_its_instant_leaves_out_nothing(single: Lane, clock: RealTime) -> None:
    runs = Runs()
    single.add(lambda: runs.of("later", clock), priority=0, at=clock.now() + SOON, does="a")
    assert single.add(lambda: runs.of("now", clock), priority=0, does="a")
    assert eventually(lambda: runs.names == ["now", "later"])


def test_what_comes_for_an_instant_is_kept_though_another_alike_waits_for_a_thread(
    single: Lane, clock: RealTime
) -> None:
    """The look that waits may come before the instant, and find nothing to do."""
    runs, gate = Runs(), threading.Event()
    single.add(gate.wait, priority=0)
    assert single.add(lambda: runs.of("now", clock), priority=0, does="a")
    assert single.add(lambda: runs.of("timed", clock), priority=0, at=clock.now() + SOON, does="a")
    gate.set()
    assert eventually(lambda: runs.names == ["now", "timed"])


def test_of_one_instant_exits_start_before_entries(single: Lane, clock: RealTime) -> None:
    runs, at = Runs(), clock.now() + SOON
    for name, priority in (("entry", 6), ("exit", 0)):
        single.add(lambda name=name: runs.of(name, clock), priority, at)  # type: ignore[misc]
    assert eventually(lambda: runs.names == ["exit", "entry"])


def test_it_tells_what_waits_for_a_thread_but_not_what_waits_for_its_instant(single: Lane, clock: RealTime) -> None:
    go_on = threading.Event()
    single.add(go_on.wait, 0)
    assert eventually(lambda: single.waiting() == {})
    for priority in (3, 6, 3):
        single.add(lambda: None, priority)
    single.add(lambda: None, 0, clock.now() + timedelta(minutes=1))
    assert single.waiting() == {3: 2, 6: 1}
    go_on.set()
    assert eventually(lambda: single.waiting() == {})


def test_no_more_run_at_once_than_there_are_threads_and_all_threads_do(lane: Lane) -> None:
    lock, running, most, gate = threading.Lock(), [0], [0], threading.Event()

    def run() -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        gate.wait()
        with lock:
            running[0] -= 1

    for _ in range(THREADS * 3):
        lane.add(run, priority=0)
    assert eventually(lambda: running[0] == THREADS)
    time.sleep(0.05)
    gate.set()
    assert eventually(lambda: running[0] == 0)
    assert most[0] == THREADS


def test_one_that_waits_for_its_broker_keeps_no_other_waiting(lane: Lane, clock: RealTime) -> None:
    runs, gate = Runs(), threading.Event()
    try:
        for _ in range(THREADS - 1):
            lane.add(gate.wait, priority=0)
            time.sleep(0.02)
        lane.add(lambda: runs.of("next", clock), priority=6)
        assert eventually(lambda: runs.names == ["next"], within=2)
        lane.add(lambda: runs.of("held", clock), priority=6, at=clock.now() + SOON)
        assert eventually(lambda: runs.names == ["next", "held"], within=2)
    finally:
        gate.set()


def test_a_task_that_fails_takes_no_thread_along(
    single: Lane, clock: RealTime, caplog: pytest.LogCaptureFixture
) -> None:
    runs = Runs()
    single.add(lambda: 1 // 0, priority=0)
    single.add(lambda: runs.of("next", clock), priority=0)
    assert eventually(lambda: runs.names == ["next"])
    assert "a task failed" in caplog.text


def test_a_closed_lane_starts_nothing_more(clock: RealTime) -> None:
    runs = Runs()
    with ThreadPoolExecutor(1) as pool:
        lane = Lane(clock, pool.submit, 1)
        lane.add(lambda: runs.of("held", clock), priority=0, at=datetime.now(UTC) + SOON)
        lane.close()
        time.sleep(SOON.total_seconds() * 2)
    assert runs.names == []


def test_a_pool_that_is_being_stopped_is_no_error(clock: RealTime) -> None:
    pool = ThreadPoolExecutor(1)
    lane = Lane(clock, pool.submit, 1)
    pool.shutdown()
    begun: list[int] = []
    lane.add(lambda: begun.append(1), priority=0)
    lane.close()
    assert not begun


def held(lane: Lane, number: int, gate: threading.Event, owner: str, *, is_entry: bool = False) -> None:
    """Give the lane jobs of an owner that hang until the gate opens."""
    for _ in range(number):
        lane.add(gate.wait, 6 if is_entry else 0, whose=lambda: owner, is_entry=is_entry)


@pytest.fixture
def shared(clock: RealTime) -> Iterator[Lane]:
    """Eight threads; an owner may hold two, and entries six."""
    with ThreadPoolExecutor(8) as pool:
        made = Lane(clock, pool.submit, 8, account_share=4, exit_share=4)
        yield made
        made.close()


def test_an_owner_whose_jobs_hang_leaves_threads_to_others_and_its_own_jobs_follow(
    shared: Lane, clock: RealTime
) -> None:
    runs, gate = Runs(), threading.Event()
    held(shared, 40, gate, "A")
    for name in ("B-1", "B-2", "B-3"):
        shared.add(lambda name=name: runs.of(name, clock), 6, whose=lambda: "B", is_entry=True)  # type: ignore[misc]
    shared.add(lambda: runs.of("A last", clock), 6, whose=lambda: "A")
    assert eventually(lambda: sorted(runs.names) == ["B-1", "B-2", "B-3"], within=2)
    gate.set()
    assert eventually(lambda: runs.names[-1] == "A last")


def test_an_owners_exit_begins_before_its_entries_that_were_put_aside(shared: Lane, clock: RealTime) -> None:
    runs, gate = Runs(), threading.Event()
    held(shared, 2, gate, "A")
    for name, priority in (("entry", 6), ("other entry", 6), ("exit", 0)):
        shared.add(
            lambda name=name: runs.of(name, clock),  # type: ignore[misc]
            priority,
            whose=lambda: "A",
            is_entry=priority > 0,
        )
    assert eventually(lambda: shared.waiting() == {})
    gate.set()
    assert eventually(lambda: len(runs.names) == 3)
    assert runs.names.index("exit") < runs.names.index("other entry")


def test_exits_have_threads_no_entry_can_take(shared: Lane, clock: RealTime) -> None:
    runs, gate = Runs(), threading.Event()
    try:
        for owner in "ABCDEFGH":
            held(shared, 4, gate, owner, is_entry=True)
        shared.add(lambda: runs.of("entry", clock), 6, whose=lambda: "Z", is_entry=True)
        shared.add(lambda: runs.of("exit", clock), 0, whose=lambda: "Z")
        assert eventually(lambda: runs.names == ["exit"], within=2)
        time.sleep(0.1)
        assert runs.names == ["exit"]
    finally:
        gate.set()
    assert eventually(lambda: runs.names == ["exit", "entry"])


def test_a_thread_that_served_an_exit_takes_no_entry_of_those_that_wait(shared: Lane, clock: RealTime) -> None:
    runs, gate, exits = Runs(), threading.Event(), threading.Event()
    try:
        for owner in "ABCDEFGH":
            held(shared, 1, gate, owner, is_entry=True)
        shared.add(exits.wait, 0, whose=lambda: "Y")
        for name in ("entry-1", "entry-2", "entry-3"):
            shared.add(lambda name=name: runs.of(name, clock), 6, whose=lambda: "Z", is_entry=True)  # type: ignore[misc]
        exits.set()
        shared.add(lambda: runs.of("exit", clock), 0, whose=lambda: "Z")
        assert eventually(lambda: "exit" in runs.names, within=2)
        time.sleep(0.1)
        assert runs.names == ["exit"]
    finally:
        gate.set()
    assert eventually(lambda: len(runs.names) == 4)


def test_whoever_cannot_be_asked_whose_a_job_is_keeps_it_from_nothing(single: Lane, clock: RealTime) -> None:
    runs = Runs()

    def unknown() -> str:
        raise RuntimeError("nobody knows")

    assert single.add(lambda: runs.of("first", clock), 0, does="a", whose=unknown)
    assert eventually(lambda: runs.names == ["first"])
    assert single.add(lambda: runs.of("second", clock), 0, does="a")
    assert eventually(lambda: runs.names == ["first", "second"])
