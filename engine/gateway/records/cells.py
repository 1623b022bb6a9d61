"""What happened in one minute with one key and model: plain numbers, to be added up."""

from bisect import bisect_left

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
TOKEN_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0)
LEFT = 499
# Errors by kind: too many requests, other wrong requests, ours and the replica's failures, clients that left.
ERRORS = ("overloaded", "refused", "failed", "left")
# Why models ended their answers, as far as engines tell.
FINISHES = ("stop", "length", "tool_calls", "other_end")


class Histogram:
    """Counts by bucket; `observe` costs a bisection."""

    __slots__ = ("bounds", "counts", "sum_s")

    def __init__(self, bounds: tuple[float, ...] = BUCKETS_S) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum_s = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.sum_s += seconds

    def add(self, other: "Histogram") -> None:
        self.counts = [mine + more for mine, more in zip(self.counts, other.counts, strict=True)]
        self.sum_s += other.sum_s

    def cumulative(self) -> list[tuple[str, float]]:
        total, pairs = 0, []
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            total += count
            pairs.append((bound, float(total)))
        return pairs

    def quantile(self, share: float) -> float | None:
        """Seconds within its bucket, in a straight line; None of nothing. Beyond the last bound, that bound."""
        rank, below = share * sum(self.counts), 0
        if not rank:
            return None
        for i, count in enumerate(self.counts):
            if below + count >= rank and count:
                low = self.bounds[i - 1] if i else 0.0
                high = self.bounds[min(i, len(self.bounds) - 1)]
                return low + (high - low) * (rank - below) / count
            below += count
        return self.bounds[-1]


class Cell:
    """`latency` is of answers with status 200, `ttft` and `per_token` of streams; `queued_s` is a sum over requests."""

    __slots__ = (
        "bypasses", "completion_tokens", "failed", "latency", "left", "length", "other_end", "overloaded", "per_token",
        "prompt_tokens", "queued_s", "refused", "requests", "stop", "tool_calls", "ttft",
    )  # fmt: skip

    def __init__(self) -> None:
        self.requests = self.prompt_tokens = self.completion_tokens = self.bypasses = 0
        self.overloaded = self.refused = self.failed = self.left = 0
        self.stop = self.length = self.tool_calls = self.other_end = 0
        self.queued_s = 0.0
        self.latency, self.ttft = Histogram(), Histogram()
        self.per_token = Histogram(TOKEN_BUCKETS_S)

    def count(
        self,
        status: int,
        latency_s: float,
        ttft_s: float | None,
        prompt: int,
        completion: int,
        finish: str = "",
        queued_s: float = 0.0,
    ) -> None:
        """One request that has ended; `ttft_s` is None where it was not streamed, `finish` the engine's word."""
        self.requests += 1
        self.queued_s += queued_s
        self.prompt_tokens += prompt
        self.completion_tokens += completion
        if finish == "stop":
            self.stop += 1
        elif finish:
            kind = finish if finish in FINISHES else "other_end"
            setattr(self, kind, getattr(self, kind) + 1)
        if status < 400:
            self.latency.observe(latency_s)
            if ttft_s is not None:
                self.ttft.observe(ttft_s)
                if completion > 1:
                    self.per_token.observe((latency_s - ttft_s) / (completion - 1))
        elif status == 429:
            self.overloaded += 1
        elif status == LEFT:
            self.left += 1
        elif status < 500:
            self.refused += 1
        else:
            self.failed += 1

    def add(self, other: "Cell") -> None:
        for name in ("requests", "prompt_tokens", "completion_tokens", "bypasses", "queued_s", *ERRORS, *FINISHES):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("latency", "ttft", "per_token"):
            getattr(self, name).add(getattr(other, name))


# Minutes since 1970 (UTC), the key's id, the deployment's name.
CellKey = tuple[int, str, str]
Cells = dict[CellKey, Cell]
