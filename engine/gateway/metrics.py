"""Counters of the gateway: plain ints on the hot path, made into Prometheus' text at a scrape."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from engine.fleet.deployments import Snapshot

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
STAGES = ("queued", "loading", "ready", "draining", "failed")
NO_MODEL = ""


class Histogram:
    """Counts by bucket; `observe` costs a bisection."""

    __slots__ = ("counts", "sum_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_S) + 1)
        self.sum_s = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(BUCKETS_S, seconds)] += 1
        self.sum_s += seconds

    def cumulative(self) -> list[tuple[str, float]]:
        total, pairs = 0, []
        for bound, count in zip((*map(str, BUCKETS_S), "+Inf"), self.counts, strict=True):
            total += count
            pairs.append((bound, float(total)))
        return pairs


class Counts:
    """What the gateway counts. Labels are names of deployments, so it grows with these and not with requests."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.ttft: dict[str, Histogram] = {}
        self.in_flight = 0
        self.retries = 0
        self.broken = 0
        self.left = 0

    def ended(self, model: str, status: int) -> None:
        self.requests[model, status // 100] += 1

    def answered(self, model: str, seconds: float) -> None:
        histogram = self.ttft.get(model)
        if histogram is None:
            histogram = self.ttft[model] = Histogram()
        histogram.observe(seconds)

    def keep_only(self, models: Iterable[str]) -> None:
        """Forgets deployments that are gone."""
        kept = {*models, NO_MODEL}
        self.requests = Counter({key: n for key, n in self.requests.items() if key[0] in kept})
        self.ttft = {name: histogram for name, histogram in self.ttft.items() if name in kept}


class _Scrape(Collector):
    def __init__(
        self, counts: Counts, snapshot: Snapshot | None, squeue_calls: int, load: Callable[[str], int]
    ) -> None:
        self.counts, self.snapshot, self.squeue_calls, self.load = counts, snapshot, squeue_calls, load

    def collect(self) -> Iterator[Metric]:
        counts = self.counts
        requests = CounterMetricFamily("engine_requests", "By model and status class", labels=["model", "status"])
        for (model, klass), n in sorted(counts.requests.items()):
            requests.add_metric([model, f"{klass}xx"], n)
        yield requests
        ttft = HistogramMetricFamily("engine_time_to_first_byte_seconds", "Request to first byte", labels=["model"])
        for model, histogram in sorted(counts.ttft.items()):
            ttft.add_metric([model], histogram.cumulative(), histogram.sum_s)
        yield ttft
        yield GaugeMetricFamily("engine_in_flight", "Requests in the gateway now", counts.in_flight)
        yield CounterMetricFamily("engine_retries", "Tries on another replica before the first byte", counts.retries)
        yield CounterMetricFamily("engine_broken", "Answers that broke off after their first byte", counts.broken)
        yield CounterMetricFamily("engine_clients_left", "Requests whose client left", counts.left)
        yield CounterMetricFamily("engine_squeue_calls", "Times that the scheduler was asked", self.squeue_calls)
        yield from self._fleet()

    def _fleet(self) -> Iterator[Metric]:
        replicas = GaugeMetricFamily("engine_replicas", "Replicas by stage", labels=["deployment", "stage"])
        wanted = GaugeMetricFamily("engine_replicas_wanted", "Replicas asked for", labels=["deployment"])
        running = GaugeMetricFamily("engine_replica_requests", "Requests now with a model's replicas", labels=["model"])
        for name, status in sorted(self.snapshot.statuses.items() if self.snapshot else ()):
            stages = Counter(replica.stage for replica in status.replicas)
            for stage in STAGES:
                replicas.add_metric([name, stage], stages[stage])
            wanted.add_metric([name], status.deployment.replicas)
            if status.deployment.kind == "model":
                running.add_metric([name], self.load(name))
        yield from (replicas, wanted, running)


def text(counts: Counts, snapshot: Snapshot | None, squeue_calls: int, load: Callable[[str], int]) -> bytes:
    """The page of `/metrics`."""
    if snapshot is not None:
        counts.keep_only(snapshot.statuses)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Scrape(counts, snapshot, squeue_calls, load))
    return generate_latest(registry)
