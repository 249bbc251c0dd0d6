"""Prometheus: the table of `engine.measures` as metrics, and `/metrics` over HTTP. What is measured is said there."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice, product

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from redis.client import Redis
from redis.exceptions import RedisError

from engine.measures import BUCKETS, LEDGER_LENGTH, OUTAGES, QUEUE_LENGTH, TABLE, Kind, Measure, samples
from engine.ports import Log
from engine.runtime import keys
from models.records import DeadLetter, Record

#: What gauges say when they are scraped: each one's values by its label, "" where it has none.
Look = Callable[[], Mapping[Measure, Mapping[str, float]]]


class Exporter:
    """The metrics of one process. Safe to scrape while records are observed."""

    def __init__(self, look: Look) -> None:
        """`look`: what the gauges say now; may raise RedisError, and they are left out."""
        # When each series was begun: twice as many series, and nobody asks.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        #: How each series of the table is added to. All of them are there from the start, at 0: a rate sees the first
        #: increment only of one it knows.
        self._add = {series: add for each in TABLE for series, add in self._series(each)}
        self.registry.register(_Gauges(look))

    def observe(self, entries: Iterable[Record | DeadLetter]) -> None:
        """Count and time what these entries tell; each is given once."""
        for entry in entries:
            for measure, labels, value in samples(entry):
                self._add[measure, measure.bounded(labels)](value)

    def serve(self, host: str, port: int, log: Log) -> None:
        """Serve `/metrics` from threads of its own; an address that cannot be had is logged and stops nothing else."""
        try:
            start_http_server(port, host, self.registry)
        except OSError as error:
            log("metrics_not_served", host=host, port=port, reason=f"{error}: choose another ENGINE_METRICS_PORT")
        else:
            log("metrics_served", host=host, port=port)

    def _series(self, measure: Measure) -> Iterator[tuple[tuple[Measure, tuple[str, ...]], Callable[[float], None]]]:
        """Every series of a counter or histogram, and how it is added to."""
        names = [*measure.labels]
        for_all = product(*measure.labels.values())
        match measure.kind:
            case Kind.COUNTER:
                counter = Counter(measure.name, measure.says, names, registry=self.registry)
                yield from (((measure, of), (counter.labels(*of) if of else counter).inc) for of in for_all)
            case Kind.HISTOGRAM:
                histogram = Histogram(measure.name, measure.says, names, registry=self.registry, buckets=BUCKETS)
                yield from (((measure, of), (histogram.labels(*of) if of else histogram).observe) for of in for_all)


class _Gauges(Collector):
    """The gauges, looked up when they are scraped."""

    def __init__(self, look: Look) -> None:
        self._look = look

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """What it may tell; without this, registering it would look."""
        return (_family(each) for each in TABLE if each.kind is Kind.GAUGE)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        try:
            found = self._look()
        except RedisError:
            return
        for measure, values in found.items():
            family = _family(measure)
            for label, value in values.items():
                family.add_metric([label] if measure.labels else [], value)
            yield family


def lengths(redis: "Redis", lists: Mapping[str, Sequence[str]]) -> Mapping[Measure, Mapping[str, float]]:
    """How long the queues, given with the lists each is made of, and the ledger are; one round trip."""
    with redis.pipeline(transaction=False) as asked:
        for name in chain.from_iterable(lists.values()):
            asked.llen(name)
        asked.xlen(keys.LEDGER)
        asked.smembers(keys.MARKETS)
        *found, ledger, markets = asked.execute()
    counts = iter(found)
    blind = {market: float(redis.hlen(keys.outage(market))) for market in sorted(markets)}
    queues = {queue: float(sum(islice(counts, len(names)))) for queue, names in lists.items()}
    return {QUEUE_LENGTH: queues, LEDGER_LENGTH: {"": float(ledger)}, OUTAGES: blind}


def _family(measure: Measure) -> GaugeMetricFamily:
    return GaugeMetricFamily(measure.name, measure.says, labels=[*measure.labels])
