"""Poison on every queue of real workers: one dead letter for each message, and valid work goes on as before."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from broker_connector.paper.process import PaperControl, paper_broker
from engine import bootstrap
from engine.domain.events import Event, EventType
from engine.domain.orders import OrderStatus
from engine.domain.run import Position, Run
from tasks.app import app_at
from tests.celery_nodes import WorkerContainer, WorkerNode
from tests.desk import PAPER, PRICE, Desk, environment, event_of, open_desk
from tests.poison import GOOD, KIND_OF, message, refused_by_the_engine, refused_by_the_gate
from tests.processes import eventually


@dataclass(frozen=True)
class Floor:
    """A desk, and a real worker at each of its queues."""

    desk: Desk
    workers: dict[str, WorkerNode]

    def push(self, queue: str, *raw: bytes) -> None:
        """Lay messages into a queue as they are."""
        self.desk.parts.redis.lpush(queue, *raw)

    def publish(self, run: Run, kind: EventType) -> Event:
        event = event_of(run, kind)
        self.desk.parts.publisher.publish(event)
        return event

    def outcome(self, event: Event) -> str:
        """What came of an event, once it was served."""
        assert eventually(lambda: self.desk.outcomes(event) != []), f"{event} was served by nobody"
        (outcome,) = self.desk.outcomes(event)
        return outcome

    def buy(self) -> Run:
        """A run that was bought, at a price above its stop."""
        self.desk.tick(PRICE)
        run = self.desk.arm()
        assert self.outcome(self.publish(run, EventType.BUY)) == "submitted: accepted"
        assert eventually(lambda: self.desk.live(run).orders[0].status is not OrderStatus.SENDING)
        self.desk.hear()
        assert eventually(lambda: self.desk.live(run).position is Position.BOUGHT)
        return run

    def letters(self) -> Counter[str]:
        """The reasons of the dead letters."""
        return Counter(letter["reason"] for letter in self.desk.records("dead_letter"))


@pytest.fixture(scope="module")
def paper() -> Iterator[PaperControl]:
    with paper_broker(*PAPER) as control:
        yield control


@pytest.fixture(scope="module")
def floor(valkey_url: str, paper: PaperControl, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Floor]:
    app, logs, chosen = app_at(valkey_url), tmp_path_factory.mktemp("floor"), environment(valkey_url)
    with ExitStack() as stack:
        # The desk publishes by the app it is composed with.
        stack.enter_context(pytest.MonkeyPatch.context()).setattr(bootstrap, "app", app)
        desk = stack.enter_context(open_desk(valkey_url, paper))
        desk.parts.redis.flushall()
        desk.open()
        containers = {
            queue: WorkerContainer(f"worker-{queue}", chosen, logs / f"{queue}.log", "-c", "2") for queue in KIND_OF
        }
        for container in containers.values():
            container.start()
        try:
            for container in containers.values():
                container.ready()
            yield Floor(desk, {queue: WorkerNode(container, None) for queue, container in containers.items()})
        finally:
            for container in containers.values():
                container.ask_to_end()
            for container in containers.values():
                container.teardown()
            app.close()


def test_poison_on_every_queue_ends_as_one_dead_letter_each_and_stops_nobody(floor: Floor) -> None:
    desk, held = floor.desk, floor.buy()
    before, pids = desk.live(held), {queue: node.container.pid for queue, node in floor.workers.items()}
    sent = 0
    for queue in KIND_OF:
        poison = [*refused_by_the_gate(queue).values(), *refused_by_the_engine(queue).values()]
        floor.push(queue, *poison)
        sent += len(poison)
    assert eventually(lambda: floor.letters().total() >= sent, within=30), floor.letters()

    # Valid work in each queue, behind the poison.
    assert floor.outcome(floor.publish(held, EventType.ORDER_UPDATE)).startswith("ignored")
    assert desk.live(held) == before
    (breach,) = desk.tick("1490.00")
    exit_event = Event(breach.event_id, EventType.STOPLOSS, breach.run_id)
    desk.parts.publisher.publish(exit_event)
    assert floor.outcome(exit_event) == "submitted: accepted"
    desk.hear()
    assert eventually(lambda: desk.ended(held) == ("stopped", "exited_by_sl"))
    other = desk.arm()
    desk.ask(other, stop_requested="close")
    assert floor.outcome(floor.publish(other, EventType.FORCE_STOP)) == "stopped: force_stop_close"
    floor.buy()

    assert floor.letters().total() == sent
    assert floor.letters()["unknown run"] == len(KIND_OF)
    assert {queue: node.container.pid for queue, node in floor.workers.items()} == pids
    assert {node.container.status for node in floor.workers.values()} == {"running"}
    assert eventually(lambda: desk.parts.redis.hlen("unacked") == 0)
    for node in floor.workers.values():
        assert "Traceback" not in node.logs()


def test_a_forged_event_naming_anothers_run_is_a_wake_up_and_changes_nothing(floor: Floor) -> None:
    held, waiting = floor.buy(), floor.desk.arm(buy_in=3600)
    before = [floor.desk.live(run) for run in (held, waiting)]
    sent = len(floor.desk.sent())
    for run in (held, waiting):
        for queue in KIND_OF:
            for kind in EventType:
                name = f"forged:{queue}:{kind}:{run.id}"
                # Whatever queue it lies in, and whatever task it names.
                floor.push(queue, message(queue, GOOD | {"id": name, "type": kind.value, "run": str(run.id)}))
    forged = 2 * len(KIND_OF) * len(EventType)
    assert eventually(lambda: len(_of(floor, "forged:")) >= forged)
    outcomes = Counter(record["outcome"] for record in _of(floor, "forged:"))
    assert outcomes.total() == forged
    assert {outcome.split(":")[0] for outcome in outcomes} <= {"ignored", "waits", "coalesced"}, outcomes
    assert eventually(lambda: [floor.desk.live(run) for run in (held, waiting)] == before)
    assert len(floor.desk.sent()) == sent


def _of(floor: Floor, prefix: str) -> list[dict[str, str]]:
    return [record for record in floor.desk.records() if str(record.get("event_id", "")).startswith(prefix)]
