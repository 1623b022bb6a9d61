"""A sweep: the trials of one deployment, and the two points that they show."""

from dataclasses import dataclass, field
from typing import Any

import msgspec

from engine.bench.saturation.trial import Trial
from engine.errors import ConfigurationError

Interval = tuple[float, float]


@dataclass(frozen=True)
class Knee:
    """The load beyond which more users bring little: see `rule`. `ci95` is None where the data cannot tell it."""

    concurrency: float
    ci95: Interval | None
    rule: str


@dataclass(frozen=True)
class Serialisation:
    """From here requests queue and latency grows in proportion to the load: the star of the paper's Figure 3.

    `confirmed_by` names the server's own queue gauge where it agrees; `contradicted` says how it does not.
    """

    concurrency: float
    ci95: Interval
    latency_s: float
    confirmed_by: str | None = None
    contradicted: str | None = None


@dataclass(frozen=True)
class Capacity:
    """The fitted R(N) = (r0_s + r1_s min(N, slots)) max(1, N / slots); `residual` is its rms on log R."""

    r0_s: float
    r1_s: float
    slots: float
    residual: float = 0.0

    def latency_s(self, concurrency: float) -> float:
        """Mean latency at a concurrency."""
        full = self.r0_s + self.r1_s * min(concurrency, self.slots)
        return full * max(1.0, concurrency / self.slots)

    def slots_behind(self, path_s: float) -> float:
        """The server's slots when `path_s` of each latency is spent on the way, where no slot is held.

        The path moves the point: R(N) = max(s + path, s N / B) bends at B (1 + path / s).
        """
        at_point = self.latency_s(self.slots)
        return self.slots * (at_point - path_s) / at_point


@dataclass(frozen=True)
class Usl:
    """Gunther's Universal Scalability Law: X(N) = rate N / (1 + contention (N - 1) + coherency N (N - 1)).

    A description of a curve, not a knee: as an estimator of slots it erred by 429 %. `peak` is where X is largest.
    """

    rate_rps: float
    contention: float
    coherency: float
    peak: float | None


@dataclass(frozen=True)
class Startup:
    """From the submission to the first token, apart from all trials: wait for the scheduler, load, first token."""

    queue_s: float | None
    load_s: float | None
    first_token_s: float | None
    container: bool = False


@dataclass(frozen=True)
class Subject:
    """What is swept. `parameters_b` are thousand millions, `gpus` those of all `replicas` together.

    `time_scale`: one second of a simulated server stands for 1 / time_scale seconds (36 ms shown as 3.6 s has 100).
    """

    deployment: str
    model: str = ""
    engine: str = ""
    arguments: dict[str, str] = field(default_factory=dict)
    precision: str = ""
    parameters_b: float | None = None
    gpu: str = ""
    gpus: int = 0
    replicas: int = 1
    target: str = "gateway"
    simulated: bool = False
    time_scale: float = 1.0


@dataclass(frozen=True)
class Sweep(Subject):
    """A subject with all its trials, valid or not, and what was concluded from the valid ones.

    A point is None where the trials do not show it; `warnings` say why. `physics` is a warning of its own: more was
    measured than the GPU can compute.
    """

    trials: tuple[Trial, ...] = ()
    knee: Knee | None = None
    serialisation: Serialisation | None = None
    startup: Startup | None = None
    capacity: Capacity | None = None
    usl: Usl | None = None
    warnings: tuple[str, ...] = ()
    physics: str | None = None


def sweep_json(sweep: Sweep) -> dict[str, Any]:
    """The sweep as plain JSON values, field for field."""
    plain: dict[str, Any] = msgspec.to_builtins(sweep)
    return plain


def sweep_of(value: Any) -> Sweep:
    """The inverse of `sweep_json`; raises ConfigurationError for what is none."""
    try:
        return msgspec.convert(value, Sweep)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"this is no sweep: {error}") from error
