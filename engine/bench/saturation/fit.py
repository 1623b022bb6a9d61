"""The capacity model, fitted to mean latencies by concurrency, with bootstrap intervals.

R(N) = (r0 + r1 min(N, B)) max(1, N / B): up to B slots each further user costs r1 more (0 for a first-in-first-out
server, positive where a batch shares one GPU), beyond B the users take turns and latency grows in proportion,
as the asymptotes of a closed queueing network do (Denning and Buzen 1978; Jain 1991, chapter 33). On servers of known
slots, first in first out, other estimators erred by 13 to 41 % (Kneedle: Satopää et al. 2011) and 429 % (Gunther's
USL), and a plain hinge knows no r1: hence this one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.bench.saturation.sweep import Capacity, Interval
from engine.bench.saturation.trial import Trial

Floats = NDArray[np.float64]

LEAST_LEVELS = 3
# Nothing is known to better than this: path and timers shift a deterministic server's point without any scatter.
RESOLUTION = 0.01
# Log residuals below this are the clock's, and no reason for a richer model.
CLOCK = 0.002
DRAWS = 400
STEPS = 60
# The point is seen only when the load went this far beyond it.
BEYOND = 1.1


@dataclass(frozen=True)
class Levels:
    """Log mean latencies by concurrency, with the standard errors of these means; users are rising."""

    users: Floats
    log_r: Floats
    error: Floats


@dataclass(frozen=True)
class Fit:
    """A fitted capacity and the draws of its bootstrap. `seen`: the load went beyond the slots, so they are known."""

    capacity: Capacity
    draws: tuple[Capacity, ...]
    seen: bool

    def interval(self, values: Sequence[float], value: float) -> Interval:
        """The 95 % interval of a quantity from its values over the draws, never narrower than the resolution."""
        low, high = np.percentile(values, (2.5, 97.5)) if len(values) else (value, value)
        return min(float(low), value * (1 - RESOLUTION)), max(float(high), value * (1 + RESOLUTION))


def levels_of(trials: Sequence[Trial]) -> Levels:
    """The valid trials by concurrency: means over repeats, errors from repeats and from batches within them."""
    by_users: dict[int, list[Trial]] = {}
    for trial in trials:
        if trial.valid and trial.latency_s is not None and trial.latency_s.mean > 0:
            by_users.setdefault(trial.concurrency, []).append(trial)
    users = sorted(by_users)
    means = [[np.log(one.latency_s.mean) for one in by_users[n] if one.latency_s] for n in users]
    return Levels(
        np.array(users, dtype=float),
        np.array([float(np.mean(values)) for values in means]),
        np.array([_error(by_users[n], values) for n, values in zip(users, means, strict=True)]),
    )


def _error(trials: Sequence[Trial], log_means: Sequence[float]) -> float:
    """Standard error of a level's mean: the larger of what repeats show and what batches within them show."""
    count = len(trials)
    between = float(np.std(log_means, ddof=1)) / count**0.5 if count > 1 else 0.0
    parts = [np.log(one.latency_batches_s) for one in trials if len(one.latency_batches_s) > 1]
    within = [float(np.std(part, ddof=1)) / len(part) ** 0.5 for part in parts]
    return max(between, float(np.mean(within)) / count**0.5 if within else 0.0)


def fit(trials: Sequence[Trial], draws: int = DRAWS, seed: int = 0) -> Fit | None:
    """The capacity model of the valid trials; None with fewer than three levels. Same trials, same answer."""
    levels = levels_of(trials)
    if len(levels.users) < LEAST_LEVELS:
        return None
    capacity, linear = _choose(levels.users, levels.log_r)
    seen = capacity.slots * BEYOND <= levels.users[-1]
    return Fit(capacity, tuple(_bootstrap(levels, capacity, linear, draws, seed) if draws else ()), bool(seen))


def _choose(users: Floats, log_r: Floats) -> tuple[Capacity, bool]:
    """First in, first out (r1 = 0) unless the batch's r1 explains enough more (Schwarz's criterion on the levels)."""
    flat, batch = _best(users, log_r, linear=False), _best(users, log_r, linear=True)
    count = len(users)
    gain = count * np.log((flat.residual**2 + CLOCK**2) / (batch.residual**2 + CLOCK**2))
    linear = bool(count > LEAST_LEVELS and gain > np.log(count))
    return (batch, True) if linear else (flat, False)


def _bootstrap(levels: Levels, capacity: Capacity, linear: bool, draws: int, seed: int) -> list[Capacity]:
    """Wild bootstrap over levels (Wu 1986) plus each level's own error.

    A residual's sign is flipped, its size kept: so misfit widens the interval where repeats agree with one another.
    """
    rng = np.random.default_rng(seed)
    fitted = np.log([capacity.latency_s(n) for n in levels.users])
    count, free = len(fitted), 3 if linear else 2
    residuals = (levels.log_r - fitted) * (count / max(count - free, 1)) ** 0.5
    signs = rng.choice((-1.0, 1.0), size=(draws, count))
    noise = rng.standard_normal((draws, count)) * levels.error
    drawn = fitted + signs * residuals + noise
    start = np.full((draws, 2), (np.log(capacity.slots), capacity.r1_s / capacity.r0_s))
    return _refine(levels.users, drawn, start, linear)


def _best(users: Floats, log_r: Floats, linear: bool) -> Capacity:
    """The best fit from a grid of starts: the sum of squares may have a valley between every two levels."""
    slots = np.geomspace(1.0, 2 * users[-1], 121)
    ratios = np.concatenate([[0.0], np.geomspace(1e-3, 10, 33)]) if linear else np.zeros(1)
    squares = np.var(log_r - _shape(users, np.log(slots)[None, :, None], ratios[:, None, None]), axis=-1)
    start = np.stack([np.log(slots), ratios[squares.argmin(axis=0)]], axis=1)
    around = np.pad(squares.min(axis=0), 1, constant_values=np.inf)
    valley = (around[1:-1] <= around[:-2]) & (around[1:-1] <= around[2:])
    return min(_refine(users, log_r, start[valley], linear), key=lambda one: one.residual)


def _refine(users: Floats, log_r: Floats, start: Floats, linear: bool) -> list[Capacity]:
    """Least squares on log residuals by Levenberg and Marquardt's method, all starts at once.

    `start` has rows of (log B, r1 / r0); `log_r` is one row for all, or one each. r0 is what is left over, so it needs
    no search. Written out because a call of a library's solver for each draw takes fifty times as long.
    """
    x, damping = start.copy(), np.full(len(start), 1e-3)
    most = np.log(2 * users[-1])
    rest = _rest(users, log_r, x)
    for _ in range(STEPS):
        slope = _slopes(users, x) if linear else _slopes(users, x)[..., :1]
        normal = slope.transpose(0, 2, 1) @ slope
        diagonal = np.einsum("kii->ki", normal)
        diagonal += damping[:, None] * diagonal + 1e-15
        step = np.linalg.solve(normal, slope.transpose(0, 2, 1) @ rest[..., None])[..., 0]
        tried = x.copy()
        tried[:, : step.shape[1]] += step
        tried = np.clip(tried, 0.0, (most, np.inf))
        left = _rest(users, log_r, tried)
        better = np.sum(left**2, axis=1) < np.sum(rest**2, axis=1)
        x, rest = np.where(better[:, None], tried, x), np.where(better[:, None], left, rest)
        damping = np.clip(np.where(better, damping / 5, damping * 4), 1e-12, 1e12)
    r0_s = np.exp(np.mean(log_r - _shape(users, x[:, :1], x[:, 1:]), axis=1))
    columns = r0_s, r0_s * x[:, 1], np.exp(x[:, 0]), np.sqrt(np.mean(rest**2, axis=1))
    return [Capacity(*row) for row in np.stack(columns, axis=1).tolist()]


def _shape(users: Floats, log_slots: Floats, ratio: Floats) -> Floats:
    """log R - log r0, for r1 = ratio x r0."""
    slots = np.exp(log_slots)
    return np.asarray(np.log1p(ratio * np.minimum(users, slots)) + np.log(np.maximum(1.0, users / slots)))


def _rest(users: Floats, log_r: Floats, x: Floats) -> Floats:
    """Log residuals with the best r0, a row for each row of x."""
    off = log_r - _shape(users, x[:, :1], x[:, 1:])
    return np.asarray(off - off.mean(axis=1, keepdims=True))


def _slopes(users: Floats, x: Floats) -> Floats:
    """Derivatives of the centred shape by log B and by the ratio: rows of x, levels, two."""
    slots, ratio = np.exp(x[:, :1]), x[:, 1:]
    by_log_slots = np.where(users > slots, ratio * slots / (1 + ratio * slots) - 1, 0.0)
    at_work = np.minimum(users, slots)
    slopes = np.stack([by_log_slots, at_work / (1 + ratio * at_work)], axis=2)
    return np.asarray(slopes - slopes.mean(axis=1, keepdims=True))
