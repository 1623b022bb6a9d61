"""Which replica takes the next request: pure; time is passed in, seconds of one monotonic clock."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

FAILURES_TO_OPEN = 3
FIRST_OPEN_S = 0.5
LONGEST_OPEN_S = 30.0
EXPIRES_SOON_S = 600.0
NEVER = math.inf


@dataclass(slots=True)
class Breaker:
    """Keeps requests from a replica whose connections fail.

    Closed until FAILURES_TO_OPEN failures in a row; then open for a time that doubles at each failed probe; then half
    open: one probe goes through, and its outcome closes the breaker or opens it again.
    """

    failures: int = 0
    open_until: float = 0.0
    probing: bool = False

    def allows(self, now: float) -> bool:
        return self.failures < FAILURES_TO_OPEN or (now >= self.open_until and not self.probing)

    def begin(self) -> None:
        """Told of every request that is sent, so that a half-open breaker lets through one at a time."""
        if self.failures >= FAILURES_TO_OPEN:
            self.probing = True

    def succeeded(self) -> None:
        self.failures = 0
        self.probing = False

    def failed(self, now: float) -> None:
        self.probing = False
        if self.failures >= FAILURES_TO_OPEN and now < self.open_until:
            return  # late news of requests that were sent before it opened
        self.failures += 1
        if self.failures >= FAILURES_TO_OPEN:
            doubled = FIRST_OPEN_S * 2.0 ** min(self.failures - FAILURES_TO_OPEN, 16)
            self.open_until = now + min(doubled, LONGEST_OPEN_S)

    def gave_no_verdict(self) -> None:
        """The request ended without telling anything of the replica: its client left."""
        self.probing = False


class Candidate(Protocol):
    """What the choice looks at. `capacity` is in requests, 0 when unknown; `expires_at` is NEVER without a walltime."""

    in_flight: int
    capacity: float
    expires_at: float
    breaker: Breaker


C = TypeVar("C", bound=Candidate)


def load(candidate: Candidate, now: float) -> float:
    """The load that one more request would make; doubled when the replica soon expires, so that it gets half."""
    share = (candidate.in_flight + 1) / (candidate.capacity or 1.0)
    return share * 2 if candidate.expires_at - now < EXPIRES_SOON_S else share


def pick(candidates: Sequence[C], now: float, turn: int, tried: Collection[C] = ()) -> C | None:
    """The least loaded candidate, ties by rotation with `turn`; None when all were tried.

    One whose breaker is open is taken only when there is no other: a try that may fail beats a sure refusal.
    """
    count = len(candidates)
    if count == 1 and not tried:
        return candidates[0]
    best: C | None = None
    least = (True, NEVER)
    for step in range(count):
        candidate = candidates[(turn + step) % count]
        if tried and candidate in tried:
            continue
        rank = (not candidate.breaker.allows(now), load(candidate, now))
        if best is None or rank < least:
            best, least = candidate, rank
    return best
