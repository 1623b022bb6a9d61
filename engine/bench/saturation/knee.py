"""The knee: the load beyond which more users bring little. Not the serialisation point, though a FIFO has both at once.

Kneedle (Satopää et al. 2011) is not used: it erred by 13 to 41 % where the truth was known, and moves with the range.
"""

from collections.abc import Sequence

import numpy as np

from engine.bench.saturation.fit import Fit
from engine.bench.saturation.sweep import Capacity, Knee
from engine.bench.saturation.trial import Trial

ELASTICITY = 0.5


def by_elasticity(found: Fit) -> Knee | None:
    """Where one per cent more users bring only half a per cent more throughput; None when the load did not go there.

    From the fitted model: below B the elasticity is r0 / (r0 + r1 N), beyond it 0.
    """
    value = _half(found.capacity)
    if not found.seen and value >= found.capacity.slots:
        return None
    return Knee(value, found.interval([_half(one) for one in found.draws], value), "throughput elasticity 0.5")


def _half(capacity: Capacity) -> float:
    if capacity.r1_s * capacity.slots <= capacity.r0_s:
        return capacity.slots
    return max(1.0, capacity.r0_s / capacity.r1_s)


def within_objective(trials: Sequence[Trial], objective_s: float) -> Knee | None:
    """The largest load whose p95 latency is within the objective; None when even the smallest is not.

    Between levels the latency is taken as straight in log-log. The interval spans the repeats.
    """
    by_users: dict[int, list[float]] = {}
    for trial in trials:
        if trial.valid and trial.latency_s is not None:
            by_users.setdefault(trial.concurrency, []).append(trial.latency_s.p95)
    if not by_users:
        return None
    users = sorted(by_users)
    rule = f"p95 latency within {objective_s:g} s"
    crossings = [
        _crossing(users, [float(pick(by_users[n])) for n in users], objective_s) for pick in (max, np.mean, min)
    ]
    low, value, high = crossings
    if value is None:
        return None
    if value >= users[-1]:
        return Knee(value, None, f"{rule}: met up to the largest load tried")
    return Knee(value, (low or 1.0, high or value), rule)


def _crossing(users: Sequence[int], p95_s: Sequence[float], objective_s: float) -> float | None:
    over = next((index for index, value in enumerate(p95_s) if value > objective_s), len(users))
    if over == 0:
        return None
    if over == len(users):
        return float(users[-1])
    (left, right), (low, high) = np.log(users[over - 1 : over + 1]), np.log(p95_s[over - 1 : over + 1])
    return float(np.exp(left + (right - left) * (np.log(objective_s) - low) / (high - low)))
