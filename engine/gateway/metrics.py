"""Counters of the gateway: plain ints on the hot path, made into Prometheus' text at a scrape."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from engine.fleet.deployments import Snapshot
from engine.gateway.records.cells import Cell, Histogram

STAGES = ("queued", "loading", "ready", "draining", "failed")
NO_MODEL = ""


class Counts:
    """What the gateway counts. Labels are names of deployments, so it grows with these and not with requests."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.errors: Counter[tuple[str, str]] = Counter()
        self.ttft: dict[str, Histogram] = {}
        self.verdicts: Counter[tuple[str, str]] = Counter()
        self.in_flight = 0
        self.retries = 0
        self.broken = 0
        self.left = 0

    def ended(self, model: str, status: int) -> None:
        self.requests[model, status // 100] += 1

    def failed(self, model: str, kind: str) -> None:
        """`kind` is an error's code, or `replica_` and the status of what a replica answered."""
        self.errors[model, kind] += 1

    def judged(self, model: str, outcome: str) -> None:
        """A tribunal's outcome: accepted, rejected or bypassed."""
        self.verdicts[model, outcome] += 1

    def answered(self, model: str, seconds: float) -> None:
        histogram = self.ttft.get(model)
        if histogram is None:
            histogram = self.ttft[model] = Histogram()
        histogram.observe(seconds)

    def keep_only(self, models: Iterable[str]) -> None:
        """Forgets deployments that are gone."""
        kept = {*models, NO_MODEL}
        self.requests = Counter({key: n for key, n in self.requests.items() if key[0] in kept})
        self.errors = Counter({key: n for key, n in self.errors.items() if key[0] in kept})
        self.verdicts = Counter({key: n for key, n in self.verdicts.items() if key[0] in kept})
        self.ttft = {name: histogram for name, histogram in self.ttft.items() if name in kept}


@dataclass(frozen=True)
class Page:
    """What /metrics is made of: `cells` are sums by model, `queued` the waiting requests, `limit` how many a model may
    have at once.
    """

    counts: Counts
    snapshot: Snapshot | None
    squeue_calls: int
    load: Callable[[str], int]
    cells: Mapping[str, Cell] = field(default_factory=dict)
    queued: Mapping[str, int] = field(default_factory=dict)
    limit: Callable[[str], int] = lambda name: 0


class _Scrape(Collector):
    def __init__(self, page: Page) -> None:
        self.page, self.counts = page, page.counts

    def collect(self) -> Iterator[Metric]:
        counts = self.counts
        requests = CounterMetricFamily("engine_requests", "By model and status class", labels=["model", "status"])
        for (model, klass), n in sorted(counts.requests.items()):
            requests.add_metric([model, f"{klass}xx"], n)
        yield requests
        errors = CounterMetricFamily("engine_errors", "By model and kind", labels=["model", "kind"])
        for (model, kind), n in sorted(counts.errors.items()):
            errors.add_metric([model, kind], n)
        yield errors
        ttft = HistogramMetricFamily("engine_time_to_first_byte_seconds", "Request to first byte", labels=["model"])
        for model, histogram in sorted(counts.ttft.items()):
            ttft.add_metric([model], histogram.cumulative(), histogram.sum_s)
        yield ttft
        yield GaugeMetricFamily("engine_in_flight", "Requests in the gateway now", counts.in_flight)
        yield CounterMetricFamily("engine_retries", "Tries on another replica before the first byte", counts.retries)
        yield CounterMetricFamily("engine_broken", "Answers that broke off after their first byte", counts.broken)
        yield CounterMetricFamily("engine_clients_left", "Requests whose client left", counts.left)
        yield CounterMetricFamily("engine_squeue_calls", "Times that the scheduler was asked", self.page.squeue_calls)
        yield from self._cells()
        yield from self._fleet()

    def _cells(self) -> Iterator[Metric]:
        for name, about, of in _SUMS:
            family = CounterMetricFamily(name, about, labels=["model"])
            for model, cell in sorted(self.page.cells.items()):
                family.add_metric([model], getattr(cell, of))
            yield family
        for name, about, of in _HISTOGRAMS:
            histograms = HistogramMetricFamily(name, about, labels=["model"])
            for model, cell in sorted(self.page.cells.items()):
                found: Histogram = getattr(cell, of)
                histograms.add_metric([model], found.cumulative(), found.sum_s)
            yield histograms
        verdicts = CounterMetricFamily("engine_verdicts", "Tribunals by outcome", labels=["model", "outcome"])
        for (model, outcome), n in sorted(self.counts.verdicts.items()):
            verdicts.add_metric([model, outcome], n)
        yield verdicts

    def _fleet(self) -> Iterator[Metric]:
        replicas = GaugeMetricFamily("engine_replicas", "Replicas by stage", labels=["deployment", "stage"])
        wanted = GaugeMetricFamily("engine_replicas_wanted", "Replicas asked for", labels=["deployment"])
        running = GaugeMetricFamily("engine_replica_requests", "Requests now with a model's replicas", labels=["model"])
        queued = GaugeMetricFamily("engine_queued", "Requests that wait for a slot", labels=["model"])
        limit = GaugeMetricFamily("engine_capacity", "Requests that may run at once", labels=["model"])
        for name, status in sorted(self.page.snapshot.statuses.items() if self.page.snapshot else ()):
            stages = Counter(replica.stage for replica in status.replicas)
            for stage in STAGES:
                replicas.add_metric([name, stage], stages[stage])
            wanted.add_metric([name], status.deployment.replicas)
            if status.deployment.kind == "model":
                running.add_metric([name], self.page.load(name))
                queued.add_metric([name], self.page.queued.get(name, 0))
                limit.add_metric([name], self.page.limit(name))
        yield from (replicas, wanted, running, queued, limit)


_SUMS = (
    ("engine_prompt_tokens", "Tokens of prompts, as the inference engines counted them", "prompt_tokens"),
    ("engine_generation_tokens", "Tokens generated, as the inference engines counted them", "completion_tokens"),
    ("engine_bypasses", "Workflows that fell back to the plain model at peak", "bypasses"),
)
_HISTOGRAMS = (
    ("engine_request_duration_seconds", "Request to the end of its answer", "latency"),
    ("engine_time_to_first_token_seconds", "Of streams, request to the first data", "ttft"),
    ("engine_time_per_output_token_seconds", "Of streams, between tokens after the first", "per_token"),
)


def text(page: Page) -> bytes:
    """The page of `/metrics`."""
    if page.snapshot is not None:
        page.counts.keep_only(page.snapshot.statuses)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Scrape(page))
    return generate_latest(registry)
