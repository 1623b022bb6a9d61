"""The simulator's /metrics, under the names that vLLM gives them."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence

SECONDS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class Histogram:
    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def lines(self, name: str, labels: str) -> Iterator[str]:
        total = 0
        for bound, count in zip([*map(str, self.bounds), "+Inf"], self.counts, strict=True):
            total += count
            yield f'{name}_bucket{{{labels},le="{bound}"}} {total}'
        yield f"{name}_sum{{{labels}}} {self.sum}"
        yield f"{name}_count{{{labels}}} {total}"


class Metrics:
    """Counts of one simulator; constant in size whatever is served."""

    def __init__(self, model: str) -> None:
        escaped = model.replace("\\", "\\\\").replace('"', '\\"')
        self._labels = f'engine="0",model_name="{escaped}"'
        self.prompt_tokens = 0
        self.generation_tokens = 0
        self.finished = {"stop": 0, "length": 0, "abort": 0}
        self.queue_s = Histogram()
        self.first_token_s = Histogram()
        self.latency_s = Histogram()

    def text(self, running: int, waiting: int, capacity: int) -> bytes:
        return ("\n".join(self._lines(running, waiting, capacity)) + "\n").encode()

    def _lines(self, running: int, waiting: int, capacity: int) -> Iterator[str]:
        gauges = {
            "vllm:num_requests_running": running,
            "vllm:num_requests_waiting": waiting,
            "vllm:kv_cache_usage_perc": running / capacity,
            "simulator:capacity": capacity,
        }
        counters = {
            "vllm:prompt_tokens_total": self.prompt_tokens,
            "vllm:generation_tokens_total": self.generation_tokens,
        }
        histograms = {
            "vllm:request_queue_time_seconds": self.queue_s,
            "vllm:time_to_first_token_seconds": self.first_token_s,
            "vllm:e2e_request_latency_seconds": self.latency_s,
        }
        for kind, values in (("gauge", gauges), ("counter", counters)):
            for name, value in values.items():
                yield from (f"# TYPE {name} {kind}", f"{name}{{{self._labels}}} {value}")
        yield "# TYPE vllm:request_success_total counter"
        for reason, count in self.finished.items():
            yield f'vllm:request_success_total{{{self._labels},finished_reason="{reason}"}} {count}'
        for name, histogram in histograms.items():
            yield f"# TYPE {name} histogram"
            yield from histogram.lines(name, self._labels)
