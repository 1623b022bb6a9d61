"""The server's own word: does its queue gauge begin to rise where the fit says that requests queue?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.bench.saturation.trial import Queue, Trial

CLEARLY_BELOW, CLEARLY_ABOVE = 0.85, 1.15
AGREES_WITHIN = 0.15
# Half a slot: of two slots, 15 % would be less than what a mean gauge can tell.
AGREES_WITHIN_SLOTS = 0.5

SHARED = "those at work share what fewer of them use up already, so the throughput ends before the slots do"
# Of the users, that many run by the server's own count.
AT_WORK = 0.85


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
        where = SHARED if _all_at_work(above) else "they queue elsewhere, or not at all"
        return Answer(contradicted=f"{source} stayed at 0 up to {most} users: {where}")
    at_work = float(np.median([users - queue.waiting_mean for users, queue in above if queue.waiting_mean > 0]))
    if abs(at_work - slots) > max(AGREES_WITHIN * slots, AGREES_WITHIN_SLOTS):
        why = f": {SHARED}" if at_work > slots else ""
        return Answer(contradicted=f"{source} says that {at_work:.1f} of {most} users are not waiting{why}")
    early = [(users, queue.waiting_mean) for users, queue in gauged if users <= CLEARLY_BELOW * slots]
    waits = [f"{waiting:.1f} of {users}" for users, waiting in early if waiting > max(0.5, 0.05 * users)]
    if waits:
        return Answer(contradicted=f"{source} shows requests waiting below the point: {waits[0]} users")
    return Answer(confirmed_by=source)


def _all_at_work(above: Sequence[tuple[int, Queue]]) -> bool:
    return all(queue.running_mean is not None and queue.running_mean >= AT_WORK * users for users, queue in above)
