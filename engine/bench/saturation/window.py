"""What a steady window of requests says: percentiles, throughput with its interval, drift, Little's law.

Times are seconds on one clock; arrays have one entry per request that ended well within the window.
Batch means and their intervals: Jain, The Art of Computer Systems Performance Analysis (1991), chapter 25.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import special

from engine.bench.saturation.trial import Summary

Floats = NDArray[np.float64]

LEAST_CYCLES = 5
MOST_BATCHES = 20
TREND_P = 0.01


def summary(values_s: Floats) -> Summary | None:
    """Mean and percentiles; None without values."""
    if len(values_s) == 0:
        return None
    p50, p95, p99 = np.percentile(values_s, (50, 95, 99))
    return Summary(float(np.mean(values_s)), float(p50), float(p95), float(p99))


def batches(latencies_s: Floats, ends_s: Floats, concurrency: int) -> tuple[float, ...]:
    """Mean latencies of successive parts of the window (for `Trial.latency_batches_s`)."""
    size = _batch_size(len(ends_s), concurrency)
    if size == 0:
        return ()
    ordered = latencies_s[np.argsort(ends_s, kind="stable")]
    count = len(ordered) // size
    return tuple(float(mean) for mean in ordered[: count * size].reshape(count, size).mean(axis=1))


def throughput(ends_s: Floats, concurrency: int) -> tuple[float, tuple[float, float] | None]:
    """Requests per second and its 95 % interval by batch means; 0 with fewer than two ends.

    Reckoned between ends, not over a window's length: answers that come in lumps then do no harm. For the same
    reason a batch is a whole number of cycles, in each of which every user ends once.
    """
    ends = np.sort(ends_s)
    if len(ends) < 2 or ends[-1] == ends[0]:
        return 0.0, None
    size = _batch_size(len(ends) - 1, concurrency)
    if size == 0:
        return float((len(ends) - 1) / (ends[-1] - ends[0])), None
    whole = ends[: (len(ends) - 1) // size * size + 1]
    rate = float((len(whole) - 1) / (whole[-1] - whole[0])) if whole[-1] > whole[0] else 0.0
    durations = np.diff(whole[::size])
    if len(durations) < 2 or rate == 0.0:
        return rate, None
    relative = half_width(durations)
    return rate, (rate / (1 + relative), rate / max(1 - relative, 1e-3))


def drift(latencies_s: Floats, ends_s: Floats) -> float:
    """Relative change of the latency from the window's start to its end; 0.0 where noise explains it."""
    parts = np.array(batches(latencies_s, ends_s, 1))
    if len(parts) < LEAST_CYCLES or np.ptp(parts) == 0:
        return 0.0
    return trend(np.arange(float(len(parts))), parts) * len(parts) / float(np.mean(parts))


def littles_law_residual(throughput_rps: float, latency_mean_s: float, in_flight: float) -> float:
    """X R / N - 1: 0 in a steady state (Little, A Proof for the Queuing Formula L = λW, 1961)."""
    return throughput_rps * latency_mean_s / in_flight - 1


def needs_more(latencies_s: Floats, ends_s: Floats, concurrency: int, within: float = 0.03) -> bool:
    """Whether a window has to be extended: fewer than five cycles of all users, or too wide an interval.

    `within` is the half width that the 95 % intervals of throughput and mean latency may have, relative.
    """
    if len(ends_s) <= LEAST_CYCLES * concurrency:
        return True
    rate, interval = throughput(ends_s, concurrency)
    if interval is None or (interval[1] - interval[0]) / 2 > within * rate:
        return True
    parts = np.array(batches(latencies_s, ends_s, concurrency))
    return half_width(parts) > within


def half_width(values: Floats) -> float:
    """Half of the 95 % interval of a mean, by Student's t and relative to the mean; needs two values."""
    count = len(values)
    error = np.std(values, ddof=1) / np.sqrt(count)
    return float(special.stdtrit(count - 1, 0.975) * error / np.mean(values))


def trend(at: Floats, values: Floats) -> float:
    """Slope of the least-squares line; 0.0 where noise would show such a one more often than once in a hundred."""
    at = at - np.mean(at)
    slope = float(at @ values / (at @ at))
    rest = values - np.mean(values) - slope * at
    free = len(values) - 2
    error = float(np.sqrt(rest @ rest / free / (at @ at)))
    return slope if abs(slope) > special.stdtrit(free, 1 - TREND_P / 2) * error else 0.0


def _batch_size(count: int, concurrency: int) -> int:
    """Requests per batch: whole cycles, 5 to 20 batches; below five cycles a fifth of all; 0 for too few."""
    cycles = count // max(concurrency, 1)
    if cycles < LEAST_CYCLES:
        return count // LEAST_CYCLES
    return concurrency * -(-cycles // MOST_BATCHES)
