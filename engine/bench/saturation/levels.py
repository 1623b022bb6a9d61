"""Which concurrencies to try next."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from engine.bench.saturation.fit import fit
from engine.bench.saturation.trial import Trial

# Less than this from one doubling to the next is no growth.
GROWTH = 1.05
# A queue that is not seen makes the doubling go on, but not for ever.
DOUBLINGS_AT_REST = 3
LEAST_DOUBLED = 4
AROUND = (0.5, 0.7, 0.85, 1.0, 1.15, 1.4, 2.0)
# A level this near to a wanted one serves for it.
NEAR = 0.07


def next_levels(trials: Sequence[Trial], most: int = 4096) -> tuple[int, ...]:
    """The concurrencies that the trials so far still lack, at most `most`; empty when they suffice.

    One at a time while it doubles (1, 2, 4, …) until the throughput stops growing; then all those around the fitted
    serialisation point at once: 0.5, 0.7, 0.85, 1, 1.15, 1.4 and 2 times it. Repeats are the caller's. A level whose
    trials are all invalid counts as tried, and ends the doubling.
    """
    tried = {trial.concurrency for trial in trials}
    users = _doubled(tried)
    if not users:
        return (1,)
    found = fit(trials, draws=0)
    if users[-1] < most and _goes_on(trials, users, found is not None and found.seen):
        return (min(2 * users[-1], most),)
    if found is None or not found.seen:
        return ()
    wanted = {max(1, round(factor * found.capacity.slots)) for factor in AROUND}
    return tuple(sorted(n for n in wanted if n <= most and not any(_serves(one, n) for one in tried)))


def _doubled(tried: set[int]) -> list[int]:
    """The unbroken run of doublings among what was tried, with a last one cut short by the caller's `most`."""
    run = [n for n in (2**power for power in range(32)) if n in tried]
    if run and max(tried) > run[-1]:
        run.append(max(tried))
    return run


def _goes_on(trials: Sequence[Trial], users: Sequence[int], seen: bool) -> bool:
    """Whether to double once more: the throughput grew, or it did not and yet no queue is seen.

    Under continuous batching the throughput flattens before requests queue: there the server's gauge or the fit
    (`seen`) tells that the point has not come; they are heard for a few doublings.
    """
    rates = [_rate(trials, n) for n in users]
    if rates[-1] is None:
        return False
    grew = [before is None or after is None or after >= GROWTH * before for before, after in pairwise(rates)]
    if len(users) < LEAST_DOUBLED or grew[-1]:
        return True
    waiting = [one.queue.waiting_mean for one in trials if one.concurrency == users[-1] and one.queue]
    at_rest = max(waiting) == 0 if waiting else not seen
    return at_rest and any(grew[-DOUBLINGS_AT_REST:])


def _rate(trials: Sequence[Trial], users: int) -> float | None:
    rates = [trial.throughput_rps for trial in trials if trial.concurrency == users and trial.valid]
    return float(np.mean(rates)) if rates else None


def _serves(tried: int, wanted: int) -> bool:
    return abs(tried - wanted) <= NEAR * wanted
