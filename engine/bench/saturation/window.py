"""What a steady window of requests says: percentiles, throughput with its interval, drift, Little's law.

Times are seconds on one clock; arrays have one entry per request that ended well within the window.
"""

import numpy as np
from numpy.typing import NDArray

from engine.bench.saturation.trial import Summary

Floats = NDArray[np.float64]


def summary(values_s: Floats) -> Summary | None:
    """Mean and percentiles; None without values."""
    raise NotImplementedError


def batches(latencies_s: Floats, ends_s: Floats, concurrency: int) -> tuple[float, ...]:
    """Mean latencies of successive parts of the window (for `Trial.latency_batches_s`)."""
    raise NotImplementedError


def throughput(ends_s: Floats, concurrency: int) -> tuple[float, tuple[float, float] | None]:
    """Requests per second and its 95 % interval by batch means."""
    raise NotImplementedError


def drift(latencies_s: Floats, ends_s: Floats) -> float:
    """Relative change of the latency from the window's start to its end; 0.0 where noise explains it."""
    raise NotImplementedError


def littles_law_residual(throughput_rps: float, latency_mean_s: float, in_flight: float) -> float:
    """X R / N - 1: 0 in a steady state (Little 1961)."""
    raise NotImplementedError


def needs_more(latencies_s: Floats, ends_s: Floats, concurrency: int, within: float = 0.03) -> bool:
    """Whether a window has to be extended: fewer than five cycles of all users, or too wide an interval."""
    raise NotImplementedError
