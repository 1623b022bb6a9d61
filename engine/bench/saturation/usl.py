"""The Universal Scalability Law as a description of a throughput curve (Gunther, Guerrilla Capacity Planning, 2007)."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from engine.bench.saturation.sweep import Usl


def describe(users: NDArray[np.float64], rates_rps: NDArray[np.float64]) -> Usl | None:
    """Fits N / X = (1 + a (N - 1) + b N (N - 1)) / rate, which is linear, with a, b >= 0.

    Weighted by X / N, so that all points count by relative error. None with fewer than four points.
    """
    if len(users) < 4 or np.any(rates_rps <= 0):
        return None
    columns = np.stack([np.ones_like(users), users - 1, users * (users - 1)], axis=1)
    (base, linear, square), _ = nnls(columns * (rates_rps / users)[:, None], np.ones_like(users))
    if base <= 0:
        return None
    contention, coherency = float(linear / base), float(square / base)
    peak = float(np.sqrt(max(1 - contention, 0.0) / coherency)) if coherency > 0 else None
    return Usl(1 / float(base), contention, coherency, peak)
