"""What the engine measures of itself: one table, what each record adds to it, and how long an attempt took.

`docs/metrics.md` is written from the table, see `page`. Knows neither an exporter nor how records are read.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from engine.domain.broker import Outcome
from engine.domain.orders import Leg, Side
from models.records import DeadLetter, OrderState, Record

#: Where the table is read.
PAGE = Path(__file__).parents[1] / "docs" / "metrics.md"

#: What a label says where its value is none of the table's: the number of series is the table's, whatever comes.
OTHER = "other"


class Kind(StrEnum):
    """What Prometheus calls it."""

    HISTOGRAM = "histogram"
    COUNTER = "counter"
    GAUGE = "gauge"


class Cause(StrEnum):
    """What an attempt was sent for."""

    #: A tick breached its stop.
    BREACH = "breach"
    #: Its time to buy or to sell had come.
    TIMER = "timer"
    #: A user's stop, an abort, a retry without either.
    OTHER = OTHER


#: An order's stages as its record names them, in their order, and as the histograms do.
STAGES: Mapping[str, str] = {
    "publish_ms": "publish",
    "queue_ms": "queue",
    "claim_ms": "claim",
    "intend_ms": "intend",
    "send_ms": "send",
    "broker_ms": "broker",
}

#: Upper bounds, seconds: closest where the budgets are, from a millisecond to ten seconds.
BUCKETS = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True, slots=True, eq=False)
class Measure:
    """One metric. `labels`: each label's values; () where they are looked up."""

    name: str
    kind: Kind
    unit: str
    says: str
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def bounded(self, values: Sequence[str]) -> tuple[str, ...]:
        """A value for each label, with `OTHER` for one that is none of the table's."""
        known = zip(values, self.labels.values(), strict=True)
        return tuple(value if value in among else OTHER for value, among in known)


TICK_TO_ORDER = Measure(
    "engine_tick_to_order_seconds",
    Kind.HISTOGRAM,
    "seconds",
    "From the frame the listener held, whose tick breached a stop, to the first byte of the exit's request.",
)
TIMER_LATENESS = Measure(
    "engine_timer_lateness_seconds",
    Kind.HISTOGRAM,
    "seconds",
    "How long after its time a BUY or SELL was decided under its claim.",
    {"side": tuple(Side)},
)
ORDER_STAGE = Measure(
    "engine_order_stage_seconds",
    Kind.HISTOGRAM,
    "seconds",
    "Each stage of an attempt. Breaches only: publish (frame held to the call of the script that latches and sends "
    "the wake-up) and queue (that call to the task begun); then claim (and the decision), intend, send (granted to the "
    "request's first byte), broker (first byte to the end of the call).",
    {"cause": tuple(Cause), "stage": tuple(STAGES.values())},
)
ATTEMPTS = Measure(
    "engine_attempts_total", Kind.COUNTER, "attempts", "Attempts granted by intend.", {"leg": tuple(Leg)}
)
ORDERS = Measure(
    "engine_orders_total",
    Kind.COUNTER,
    "attempts",
    "Attempts by how the broker's call ended; one whose worker died in it is in engine_attempts_total only.",
    {"leg": tuple(Leg), "outcome": tuple(Outcome)},
)
DENIED = Measure("engine_denied_total", Kind.COUNTER, "attempts", "Attempts the engine itself refused.")
ALERTS = Measure(
    "engine_alerts_total",
    Kind.COUNTER,
    "alerts",
    "Alerts raised, by severity.",
    {"severity": ("critical", "warning", "info", OTHER)},
)
DEAD_LETTERS = Measure(
    "engine_dead_letters_total",
    Kind.COUNTER,
    "dead letters",
    "Input that was refused, by where it came from.",
    {"source": ("queue", "event", "order_update", "sweep", "stream", "drain", OTHER)},
)
RECORDS = Measure("engine_records_total", Kind.COUNTER, "records", "Records stored in PostgreSQL.")
BLIND = Measure(
    "engine_blind_seconds_total",
    Kind.COUNTER,
    "seconds",
    "How long runs held something while no feed of its symbol lived, summed over them; told when it is over.",
)
NAKED = Measure(
    "engine_naked_seconds_total",
    Kind.COUNTER,
    "seconds",
    "How long runs held something while no stop of theirs could fire: blind, or the access token refused; as above.",
)
OUTAGES = Measure(
    "engine_blind_tenants",
    Kind.GAUGE,
    "tenants",
    "Tenants that hold something blind now, by market.",
    {"market": ()},
)
QUEUE_LENGTH = Measure(
    "engine_queue_length",
    Kind.GAUGE,
    "messages",
    "Messages no worker has taken, when scraped.",
    {"queue": ()},
)
LEDGER_LENGTH = Measure(
    "engine_ledger_length",
    Kind.GAUGE,
    "records",
    "Records in Redis' stream when scraped, the last stored among them; it grows while the drainer is held up.",
)

#: Every metric there is.
TABLE = (
    TICK_TO_ORDER,
    TIMER_LATENESS,
    ORDER_STAGE,
    ATTEMPTS,
    ORDERS,
    DENIED,
    ALERTS,
    DEAD_LETTERS,
    RECORDS,
    BLIND,
    NAKED,
    OUTAGES,
    QUEUE_LENGTH,
    LEDGER_LENGTH,
)


class Sample(NamedTuple):
    """What a record adds: one to a counter, or an observation in the measure's unit to a histogram."""

    measure: Measure
    #: A value for each of the measure's labels.
    labels: tuple[str, ...] = ()
    value: float = 1.0


#: What a record's kind alone counts.
_COUNTED: Mapping[str, Sample] = {
    "denied": Sample(DENIED),
    **{f"{leg}_intended": Sample(ATTEMPTS, (leg,)) for leg in Leg},
    **{f"{leg}_{end}": Sample(ORDERS, (leg, end)) for leg in Leg for end in Outcome},
}


@dataclass(frozen=True, slots=True)
class Durations:
    """How long one attempt took, real milliseconds; None where its cause has no such duration."""

    tick_to_order: float | None
    timer_lateness: float | None
    #: By the names of `STAGES`.
    stages: Mapping[str, float]

    @property
    def cause(self) -> Cause:
        """What it was sent for."""
        if self.tick_to_order is not None:
            return Cause.BREACH
        return Cause.TIMER if self.timer_lateness is not None else Cause.OTHER


def durations(stages: Mapping[str, float]) -> Durations:
    """The durations of an order by the stages its record tells; unknown ones are left out."""
    return Durations(
        stages.get("tick_to_order_ms"),
        stages.get("timer_lateness_ms"),
        {name: stages[told] for told, name in STAGES.items() if told in stages},
    )


def samples(entry: Record | DeadLetter) -> Iterator[Sample]:
    """Everything one entry of the stream adds."""
    if isinstance(entry, DeadLetter):
        yield Sample(DEAD_LETTERS, (entry.source,))
        return
    if entry.kind in _COUNTED:
        yield _COUNTED[entry.kind]
    if entry.blind_ms:
        yield Sample(BLIND, value=entry.blind_ms / 1000)
    if entry.naked_ms:
        yield Sample(NAKED, value=entry.naked_ms / 1000)
    for alert in entry.alerts:
        yield Sample(ALERTS, (alert.severity,))
    for order in entry.orders:
        yield from _timed(order)
    # Last: once a record is counted all that it tells is.
    yield Sample(RECORDS)


def _timed(order: OrderState) -> Iterator[Sample]:
    took = durations(order.stages)
    if took.tick_to_order is not None:
        yield Sample(TICK_TO_ORDER, value=took.tick_to_order / 1000)
    if took.timer_lateness is not None:
        yield Sample(TIMER_LATENESS, (order.side,), took.timer_lateness / 1000)
    for stage, spent in took.stages.items():
        yield Sample(ORDER_STAGE, (took.cause, stage), spent / 1000)


def page() -> str:
    """The text of docs/metrics.md."""
    return "\n".join([*_head(), *map(_row, TABLE), "", *_tail()]) + "\n"


def _head() -> Iterator[str]:
    yield "# Metrics"
    yield ""
    yield "Written by `python -m engine.measures` from the table the exporter is built of; do not edit."
    yield ""
    yield "The drainer serves them at `/metrics` for Prometheus, on `ENGINE_METRICS_HOST` (127.0.0.1) and"
    yield "`ENGINE_METRICS_PORT`; without a port there are none. `engine up` chooses 9464."
    yield ""
    yield "| metric | kind | unit | labels | says |"
    yield "|---|---|---|---|---|"


def _row(measure: Measure) -> str:
    labels = "; ".join(f"{label}: {', '.join(values)}" if values else label for label, values in measure.labels.items())
    return f"| `{measure.name}` | {measure.kind} | {measure.unit} | {labels} | {measure.says} |"


def _tail() -> Iterator[str]:
    yield f"Buckets of every histogram, seconds: {', '.join(f'{bound:g}' for bound in BUCKETS)}."
    yield ""
    yield "A record is counted when it is stored for the first time, so the path of an order pays nothing for it."
    yield "Counters begin at 0 with the drainer. What a recoverer stores itself, before it opens a new epoch, and a"
    yield "batch whose commit was not answered are in the history alone. All times are real, in a replay too:"
    yield "`latency_ms` of its report are the same durations of the same records."
    yield ""
    yield "| to see | ask |"
    yield "|---|---|"
    yield from (f"| {what} | `{query}` |" for what, query in _queries())


def _queries() -> Iterator[tuple[str, str]]:
    """What is worth a graph or an alarm, in PromQL."""
    late = f"sum by (le) (rate({TICK_TO_ORDER.name}_bucket[5m]))"
    yield "99 in 100 exits left within, seconds", f"histogram_quantile(0.99, {late})"
    spent, began = (f'rate({ORDER_STAGE.name}_{part}{{cause="breach"}}[5m])' for part in ("sum", "count"))
    yield "where a breach's time goes, seconds a stage", f"{spent} / {began}"
    yield "entries or exits in doubt", f'increase({ORDERS.name}{{outcome="timeout"}}[5m]) > 0'
    yield "a human is needed", f'increase({ALERTS.name}{{severity="critical"}}[5m]) > 0'
    yield "a queue without its workers", f"min_over_time({QUEUE_LENGTH.name}[1m]) > 0"


def main() -> None:
    """Write the page anew."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
