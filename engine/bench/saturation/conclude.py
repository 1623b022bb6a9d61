"""From trials to a sweep: the fit, the two points, the warnings."""

from collections.abc import Sequence

from engine.bench.saturation.sweep import Startup, Subject, Sweep
from engine.bench.saturation.trial import Trial


def conclude(
    subject: Subject,
    trials: Sequence[Trial],
    startup: Startup | None = None,
    objective_s: float | None = None,
    path_s: float = 0.0,
) -> Sweep:
    """The sweep of a subject's trials: fitted, judged, warned about. Never raises for lack of data.

    With `objective_s` the knee is the largest load whose p95 latency is within it. `path_s` is the measured delay
    between load generator and server: the interval of the serialisation point then reaches down to where the
    server's own slots lie without it.
    """
    raise NotImplementedError
