"""The server's own word: does its queue gauge begin to rise where the fit says that requests queue?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.bench.saturation.trial import Trial

CLEARLY_BELOW, CLEARLY_ABOVE = 0.85, 1.15
AGREES_WITHIN = 0.15
# Half a slot: of two slots, 15 % would be less than what a mean gauge can tell.
AGREES_WITHIN_SLOTS = 0.5


@dataclass(frozen=True)
class Answer:
    """One of the two is set, or none where there is no gauge or too little to compare."""

    confirmed_by: str | None = None
    contradicted: str | None = None


def asked(trials: Sequence[Trial], slots: float) -> Answer:
    """Compares a fitted point with the gauge: beyond it users - waiting is the number of slots, below it none waits."""
    gauged = [(one.concurrency, one.queue) for one in trials if one.valid and one.queue is not None]
    above = [(users, queue) for users, queue in gauged if users >= CLEARLY_ABOVE * slots]
    if not above:
        return Answer()
    source = above[-1][1].source
    most = max(users for users, _ in above)
    if max(queue.waiting_mean for _, queue in above) == 0:
        return Answer(contradicted=f"{source} stayed at 0 up to {most} users: they queue elsewhere, or not at all")
    at_work = float(np.median([users - queue.waiting_mean for users, queue in above]))
    if abs(at_work - slots) > max(AGREES_WITHIN * slots, AGREES_WITHIN_SLOTS):
        return Answer(contradicted=f"{source} says that {at_work:.1f} of {most} users are not waiting")
    early = [(users, queue.waiting_mean) for users, queue in gauged if users <= CLEARLY_BELOW * slots]
    waits = [f"{waiting:.1f} of {users}" for users, waiting in early if waiting > max(0.5, 0.05 * users)]
    if waits:
        return Answer(contradicted=f"{source} shows requests waiting below the point: {waits[0]} users")
    return Answer(confirmed_by=source)
