"""The Universal Scalability Law as a description of a throughput curve (Gunther, Guerrilla Capacity Planning, 2007)."""

import numpy as np
from numpy.typing import NDArray

from engine.bench.saturation.sweep import Usl


def describe(users: NDArray[np.float64], rates_rps: NDArray[np.float64]) -> Usl | None:
    """Fits N / X = (1 + a (N - 1) + b N (N - 1)) / rate, which is linear, with a, b >= 0.

    Weighted by X / N, so that all points count by relative error. None with fewer than four points.
    """
    if len(users) < 4 or np.any(rates_rps <= 0):
        return None
    columns = np.stack([np.ones_like(users), users - 1, users * (users - 1)], axis=1)
    base, linear, square = _not_negative(columns * (rates_rps / users)[:, None])
    if base <= 0:
        return None
    contention, coherency = float(linear / base), float(square / base)
    peak = float(np.sqrt(max(1 - contention, 0.0) / coherency)) if coherency > 0 else None
    return Usl(1 / float(base), contention, coherency, peak)


def _not_negative(columns: NDArray[np.float64]) -> tuple[float, float, float]:
    """Least squares to ones, coefficients at least 0: the best with both, one or none of the last two columns."""
    best, least = (0.0, 0.0, 0.0), np.inf
    for kept in ([0, 1, 2], [0, 1], [0, 2], [0]):
        found = np.linalg.lstsq(columns[:, kept], np.ones(len(columns)))[0]
        off = float(np.sum((columns[:, kept] @ found - 1) ** 2))
        if np.all(found >= 0) and off < least:
            whole = dict(zip(kept, found.tolist(), strict=True))
            best, least = (whole[0], whole.get(1, 0.0), whole.get(2, 0.0)), off
    return best
