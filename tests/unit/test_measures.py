"""What the engine measures: the table, what one record adds to it, and the metrics Prometheus reads."""

import json
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from prometheus_client import generate_latest
from redis.exceptions import ConnectionError as RedisConnectionError

from engine.domain.broker import Outcome
from engine.domain.orders import Leg
from engine.exporter import Exporter, Look
from engine.measures import (
    BUCKETS,
    LEDGER_LENGTH,
    OUTAGES,
    PAGE,
    QUEUE_LENGTH,
    TABLE,
    Cause,
    Kind,
    durations,
    page,
    samples,
)
from engine.replay import distribution
from models.records import DeadLetter, Record, parse

NOW = datetime(2026, 1, 5, 4, 10, tzinfo=UTC)
SENT = {"intend_ms": 0.8, "send_ms": 0.2, "broker_ms": 12.345}
BREACHED = SENT | {"wake_ms": 1.2, "publish_ms": 0.2, "queue_ms": 1.0, "claim_ms": 0.9, "tick_to_order_ms": 3.1}
TIMED = SENT | {"claim_ms": 0.9, "timer_lateness_ms": 1.7}


def _record(kind: str, side: str = "sell", stages: Mapping[str, float] = {}, **fields: Any) -> Record:
    order = {
        "client_order_id": "EE00000010009FF01X001",
        "leg": "exit" if side == "sell" else "entry",
        "side": side,
        "attempt": 1,
        "quantity": 10,
        "status": "accepted",
        "send_by": NOW.isoformat(),
        "settles_at": NOW.isoformat(),
        "stages": stages,
    }
    body = {"run": "1-20260105-1", "epoch": 1, "seq": 1, "kind": kind, "real_time": NOW.isoformat(), "orders": [order]}
    parsed = parse("1-1", json.dumps(body | fields), NOW)
    assert isinstance(parsed, Record)
    return parsed


def _exporter(look: Look = dict) -> Exporter:
    return Exporter(look)


def _value(exporter: Exporter, name: str, **labels: str) -> float | None:
    return exporter.registry.get_sample_value(name, labels)


def test_the_committed_page_is_the_generated_one() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m engine.measures"


def test_every_metric_of_the_table_is_scraped_under_its_name_and_no_other() -> None:
    exporter = _exporter(lambda: {QUEUE_LENGTH: {"stoploss": 3.0}, LEDGER_LENGTH: {"": 1.0}, OUTAGES: {"m": 1.0}})
    told = generate_latest(exporter.registry).decode()
    kinds = dict(line.split()[2:] for line in told.splitlines() if line.startswith("# TYPE"))
    assert kinds == {each.name: each.kind for each in TABLE}
    assert 'engine_queue_length{queue="stoploss"} 3.0' in told


def test_names_end_in_their_unit_and_buckets_hold_the_budgets() -> None:
    ends: dict[Kind, tuple[str, ...]] = {
        Kind.HISTOGRAM: ("_seconds",),
        Kind.COUNTER: ("_total",),
        Kind.GAUGE: ("_length", "_tenants"),
    }
    assert [each.name for each in TABLE if not each.name.endswith(ends[each.kind])] == []
    assert list(BUCKETS) == sorted(BUCKETS)
    assert (BUCKETS[0], BUCKETS[-1]) == (0.001, 10.0)


@pytest.mark.parametrize(
    ("stages", "cause", "named"),
    [
        (BREACHED, Cause.BREACH, ["publish", "queue", "claim", "intend", "send", "broker"]),
        (TIMED, Cause.TIMER, ["claim", "intend", "send", "broker"]),
        (SENT, Cause.OTHER, ["intend", "send", "broker"]),
        ({}, Cause.OTHER, []),
        ({"of_tomorrow_ms": 1.0}, Cause.OTHER, []),
    ],
)
def test_stages_become_durations(stages: Mapping[str, float], cause: Cause, named: list[str]) -> None:
    took = durations(stages)
    assert (took.cause, [*took.stages]) == (cause, named)
    assert took.tick_to_order == stages.get("tick_to_order_ms")
    assert took.timer_lateness == stages.get("timer_lateness_ms")


def test_the_report_and_the_histograms_tell_the_same_numbers() -> None:
    exporter, told = _exporter(), [BREACHED | {"tick_to_order_ms": ms} for ms in (0.5, 4.0, 60.0)]
    exporter.observe([_record("exit_accepted", stages=stages) for stages in told])
    report = distribution(durations(stages).tick_to_order for stages in told)
    assert (report.p50, report.n) == (4.0, _value(exporter, "engine_tick_to_order_seconds_count"))
    assert _value(exporter, "engine_tick_to_order_seconds_sum") == pytest.approx(0.0645)
    found = {bound: _value(exporter, "engine_tick_to_order_seconds_bucket", le=bound) for bound in ("0.001", "0.005")}
    assert found == {"0.001": 1, "0.005": 2}


def test_an_order_is_timed_by_its_stages_its_cause_and_its_side() -> None:
    exporter = _exporter()
    exporter.observe([_record("exit_accepted", stages=BREACHED), _record("entry_accepted", "buy", TIMED)])
    name = "engine_order_stage_seconds"
    assert _value(exporter, f"{name}_sum", cause="breach", stage="queue") == pytest.approx(0.001)
    assert _value(exporter, f"{name}_sum", cause="timer", stage="broker") == pytest.approx(0.012345)
    assert _value(exporter, f"{name}_count", cause="timer", stage="queue") == 0
    assert _value(exporter, "engine_timer_lateness_seconds_sum", side="buy") == pytest.approx(0.0017)
    assert _value(exporter, "engine_timer_lateness_seconds_count", side="sell") == 0


@pytest.mark.parametrize("leg", Leg)
def test_an_attempt_is_counted_when_granted_and_by_every_end_of_its_call(leg: Leg) -> None:
    exporter = _exporter()
    exporter.observe([_record(f"{leg}_intended"), *(_record(f"{leg}_{outcome}") for outcome in Outcome)])
    assert _value(exporter, "engine_attempts_total", leg=leg) == 1
    assert {_value(exporter, "engine_orders_total", leg=leg, outcome=outcome) for outcome in Outcome} == {1}
    assert _value(exporter, "engine_records_total") == 1 + len(Outcome)


def test_refusals_alerts_and_dead_letters_are_counted() -> None:
    exporter = _exporter()
    alerts = [{"severity": level, "code": "x", "message": "y"} for level in ("critical", "critical", "info", "loud")]
    letters = [DeadLetter(source, NOW, source, "", "") for source in ("queue", "of tomorrow")]
    exporter.observe([_record("denied", alerts=alerts), _record("event"), *letters])
    assert _value(exporter, "engine_denied_total") == 1
    levels = ("critical", "warning", "info", "other")
    assert [_value(exporter, "engine_alerts_total", severity=level) for level in levels] == [2, 0, 1, 1]
    sources = ("queue", "stream", "other")
    assert [_value(exporter, "engine_dead_letters_total", source=source) for source in sources] == [1, 0, 1]
    assert _value(exporter, "engine_records_total") == 2


def test_no_record_makes_a_series_the_table_does_not_have() -> None:
    exporter = _exporter()
    before = generate_latest(exporter.registry).decode().count("\n")
    strange = [_record(kind, tenant=f"tenant-{kind}", stages={f"{kind}_ms": 1.0}) for kind in ("a", "b", "entry_odd")]
    exporter.observe([*strange, DeadLetter("k", NOW, "strange", "", "")])
    assert generate_latest(exporter.registry).decode().count("\n") == before
    assert [sample.measure.name for sample in samples(strange[0])] == ["engine_records_total"]


def test_while_redis_is_away_everything_but_the_gauges_is_told() -> None:
    def away() -> dict[Any, Any]:
        raise RedisConnectionError("away")

    told = generate_latest(_exporter(away).registry).decode()
    assert "engine_records_total 0.0" in told
    assert "engine_queue_length" not in told


def test_a_port_somebody_else_has_is_told_and_stops_nothing() -> None:
    lines: list[tuple[str, dict[str, object]]] = []

    def log(action: str, /, **facts: object) -> None:
        lines.append((action, facts))

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        _exporter().serve("127.0.0.1", port, log)
    ((action, facts),) = lines
    assert action == "metrics_not_served"
    assert "ENGINE_METRICS_PORT" in str(facts["reason"])
