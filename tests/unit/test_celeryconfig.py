"""Queues, routes and priorities: each event has a task and a way, STOPLOSS one of its own, one module names them."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from kombu import Queue

import celeryconfig
from engine.dispatch import TASK_OF
from engine.domain.events import EventType
from engine.stack import procfile
from tasks import execution
from tasks.app import app

ROOT = Path(__file__).parents[2]
QUEUES: dict[EventType, str] = {
    EventType.STOPLOSS: "stoploss",
    EventType.BUY: "orders",
    EventType.SELL: "orders",
    EventType.RETRY: "orders",
    EventType.SAFETY_ABORT: "safety",
    EventType.FORCE_STOP: "safety",
    EventType.ORDER_UPDATE: "maintenance",
}


def consumed_by_worker() -> dict[str, set[str]]:
    """Each worker process of the Procfile with the queues it takes from."""
    found = {}
    for process in procfile.read(ROOT / "Procfile"):
        if "worker" in process.argv:
            found[process.name] = set(process.argv[process.argv.index("-Q") + 1].split(","))
    return found


@pytest.mark.parametrize("kind", EventType)
def test_every_event_has_a_task_and_a_route_to_its_queue(kind: EventType) -> None:
    assert execution.__name__ in celeryconfig.imports
    task = app.tasks[TASK_OF[kind]]
    route = app.amqp.router.route({}, task.name)
    assert route["queue"].name == QUEUES[kind]
    assert route["priority"] in celeryconfig.PRIORITY_STEPS


def test_there_is_a_route_for_every_task_of_ours_and_for_nothing_else() -> None:
    ours = {name for name in app.tasks if name.startswith("execution.")}
    assert ours == set(TASK_OF.values()) == set(celeryconfig.task_routes)


def test_every_queue_is_consumed_by_exactly_one_worker_of_the_procfile() -> None:
    declared = {queue.name for queue in celeryconfig.task_queues}
    consumed = [queue for queues in consumed_by_worker().values() for queue in queues]
    assert sorted(consumed) == sorted(declared) == sorted(set(QUEUES.values()))


def test_a_message_of_one_queue_reaches_no_other_by_any_exchange() -> None:
    bindings = [(queue.exchange.name, queue.routing_key) for queue in app.amqp.queues.values()]
    assert sorted(bindings) == sorted((name, name) for name in set(QUEUES.values()))


def test_the_stoploss_worker_takes_nothing_else_and_no_other_worker_takes_stoploss() -> None:
    assert {name: queues for name, queues in consumed_by_worker().items() if "stoploss" in queues} == {
        "worker-stoploss": {"stoploss"}
    }
    shared = [name for name, route in celeryconfig.task_routes.items() if route["queue"] == "stoploss"]
    assert shared == [TASK_OF[EventType.STOPLOSS]]


def test_exits_go_before_retries_and_retries_before_entries() -> None:
    priority = {kind: app.amqp.router.route({}, TASK_OF[kind])["priority"] for kind in EventType}
    # 0 is the highest on Redis.
    assert priority[EventType.SELL] < priority[EventType.RETRY] < priority[EventType.BUY]


def sources() -> Iterator[Path]:
    for folder in ("engine", "tasks", "models", "broker_connector"):
        yield from (ROOT / folder).rglob("*.py")


def routing_words(path: Path) -> list[str]:
    """Where a module chooses a queue or a priority for a message, or declares a queue."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            found += [f"{path}:{node.lineno} {k.arg}=" for k in node.keywords if k.arg in {"queue", "routing_key"}]
            found += [
                f"{path}:{node.lineno} priority="
                for keyword in node.keywords
                if keyword.arg == "priority" and ast.unparse(node.func).endswith(("send_task", "apply_async"))
            ]
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("kombu"):
            found += [f"{path}:{node.lineno} {name.name}" for name in node.names if name.name == Queue.__name__]
    return found


def test_only_celeryconfig_names_queues_and_priorities(tmp_path: Path) -> None:
    looked_at = list(sources())
    assert ROOT / "engine" / "dispatch.py" in looked_at
    assert [word for path in looked_at for word in routing_words(path)] == []
    # The search itself finds what it is there to find.
    guilty = tmp_path / "guilty.py"
    guilty.write_text("from kombu import Queue\napp.send_task('t', queue='stoploss', priority=0)\n", encoding="utf-8")
    assert len(routing_words(guilty)) == 3
