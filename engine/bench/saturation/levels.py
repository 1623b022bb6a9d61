"""Which concurrencies to try next."""

from collections.abc import Sequence

from engine.bench.saturation.trial import Trial


def next_levels(trials: Sequence[Trial], most: int = 4096) -> tuple[int, ...]:
    """The concurrencies that the trials so far still lack, at most `most`; empty when they suffice.

    One at a time while it doubles (1, 2, 4, …) until the throughput stops growing; then all those around the fitted
    serialisation point at once: 0.5, 0.7, 0.85, 1, 1.15, 1.4 and 2 times it. Repeats are the caller's.
    """
    raise NotImplementedError
