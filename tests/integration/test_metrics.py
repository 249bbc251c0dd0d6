"""The drainer's metrics: real orders of a desk, drained by the real process, scraped from it over HTTP."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from engine.domain.events import Event, EventType
from engine.measures import TABLE, durations
from engine.trading import free_port
from models import schema
from tests.commands import engine
from tests.desk import Desk, environment
from tests.eager import bought, call, heard
from tests.processes import eventually

Scraped = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture(scope="module")
def redis_url(valkey_url: str) -> str:
    """One server is enough: no script is tested here."""
    return valkey_url


@contextmanager
def _drainer(redis_url: str, database_url: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    env = {**os.environ, **environment(redis_url, database_url), "ENGINE_METRICS_PORT": str(port)}
    process = subprocess.Popen(engine("process", "drainer"), env=env, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def _scrape(port: int) -> Scraped:
    try:
        answer = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=5)
    except requests.ConnectionError:
        return {}
    families = text_string_to_metric_families(answer.text)
    return {(each.name, frozenset(each.labels.items())): each.value for family in families for each in family.samples}


def _of(found: Scraped, name: str, **labels: str) -> float | None:
    return found.get((name, frozenset(labels.items())))


def test_what_a_drainer_stored_is_scraped_from_it(desk: Desk, redis_url: str, database_url: str) -> None:
    run = bought(desk)
    (breach,) = desk.tick("1490.00")
    assert call(Event(breach.event_id, EventType.STOPLOSS, run.id)) == "submitted: accepted"
    assert heard(desk, run) == ("stopped", "exited_by_sl")
    desk.parts.store.dead_letter("queue", "no event", "?")
    for name in ("stoploss", "orders", "orders:3"):
        desk.parts.redis.lpush(name, "a message nobody takes")
    took = [durations(order.get("stages", {})) for body in desk.records() for order in body.get("orders", ())]
    records = len(desk.records()) - 1
    schema.upgrade(database_url)
    found: Scraped = {}

    def is_stored() -> bool:
        found.update(_scrape(port))
        return _of(found, "engine_records_total") == records

    with _drainer(redis_url, database_url, port := free_port()):
        assert eventually(is_stored, within=30), found
        # One series is collected after the other: what came between is in the later ones alone.
        found = _scrape(port)

    (from_tick,) = [each.tick_to_order for each in took if each.tick_to_order is not None]
    assert _of(found, "engine_tick_to_order_seconds_count") == 1
    assert _of(found, "engine_tick_to_order_seconds_sum") == pytest.approx(from_tick / 1000)
    assert _of(found, "engine_timer_lateness_seconds_count", side="buy") == 1
    stages = ("publish", "queue", "claim", "intend", "send")
    parts = [_of(found, "engine_order_stage_seconds_sum", cause="breach", stage=stage) or 0 for stage in stages]
    assert sum(parts) == pytest.approx(from_tick / 1000, abs=1e-5)
    for leg in ("entry", "exit"):
        assert _of(found, "engine_attempts_total", leg=leg) == 1
        assert _of(found, "engine_orders_total", leg=leg, outcome="accepted") == 1
    assert _of(found, "engine_dead_letters_total", source="queue") == 1
    assert (_of(found, "engine_ledger_length") or 0) >= 1
    waiting = {queue: _of(found, "engine_queue_length", queue=queue) for queue in ("stoploss", "orders", "safety")}
    assert waiting == {"stoploss": 1, "orders": 2, "safety": 0}
    assert {each.name for each in TABLE} <= {name.removesuffix("_count") for name, _ in found}
