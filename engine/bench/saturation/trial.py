"""One concurrency level, measured once: what came back, and whether it may be believed."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime


@dataclass(frozen=True)
class Summary:
    """A distribution in seconds."""

    mean: float
    p50: float
    p95: float
    p99: float


@dataclass(frozen=True)
class Queue:
    """The server's own gauge over the window, summed over its replicas: requests that wait, requests that run.

    `source` is the metric's name, as in `vllm:num_requests_waiting`.
    """

    source: str
    waiting_mean: float
    running_mean: float | None = None


@dataclass(frozen=True)
class Load:
    """How busy one device of one replica was over the window: shares of 0 to 1, `spread` their standard deviation.

    `device` is `gpu 0`, `gpu 1`, … as the replica numbers them, or `cpu`.
    """

    replica: int
    device: str
    mean: float
    spread: float


@dataclass(frozen=True)
class Validity:
    """The signs by which a trial is believed or not.

    Shares are of 1. `littles_law_residual` is throughput x mean latency / users in flight - 1, `drift` the relative
    change of the latency from the window's start to its end (0 where noise explains it), `send_lag_s` the 99th
    percentile of actual minus intended sending, `foreign_cpu` the share of the machines' CPU that others used,
    `cached_share` the share of prompt tokens that a prefix cache answered. `generator_limited` says why the load
    generator itself was the limit. None: unknown.
    """

    littles_law_residual: float = 0.0
    error_rate: float = 0.0
    send_lag_s: float = 0.0
    drift: float = 0.0
    foreign_cpu: float | None = None
    cached_share: float | None = None
    generator_limited: str | None = None


@dataclass(frozen=True)
class Trial:
    """A steady window at one concurrency. Latencies and rates are of the `requests` that ended well in the window.

    `throughput_ci95` is by batch means. `throughput_tok_s` counts completion tokens of all users together,
    `per_request_tok_s` is the mean over requests of completion tokens / latency; None where the server counts none.
    `ttft_s` and `itl_s` (the time per further token) are known for streams only. `latency_batches_s` are mean latencies
    of successive parts of the window, for the bootstrap. `shared_prefix`: the prompts shared one, on purpose.
    """

    deployment: str
    concurrency: int
    repeat: int
    started_at: datetime
    window_s: float
    requests: int
    errors: int
    latency_s: Summary | None
    throughput_rps: float
    throughput_ci95: tuple[float, float] | None = None
    throughput_tok_s: float | None = None
    per_request_tok_s: float | None = None
    ttft_s: Summary | None = None
    itl_s: Summary | None = None
    latency_batches_s: tuple[float, ...] = ()
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    validity: Validity = field(default_factory=Validity)
    queue: Queue | None = None
    loads: tuple[Load, ...] = ()
    shared_prefix: bool = False
    valid: bool = True
    why_not: tuple[str, ...] = ()


@dataclass(frozen=True)
class Limits:
    """From where on a sign makes a trial invalid; `send_lag_share` is of the median latency.

    llama.cpp reports some 25 cached tokens of the chat template, hence 5 % of `cached_share`.
    """

    littles_law_residual: float = 0.05
    error_rate: float = 0.01
    send_lag_share: float = 0.02
    drift: float = 0.05
    foreign_cpu: float = 0.25
    cached_share: float = 0.05


def why_not(trial: Trial, limits: Limits | None = None) -> tuple[str, ...]:
    """Why a trial is not to be believed, in words; empty when nothing speaks against it."""
    limits = limits or Limits()
    if trial.latency_s is None:
        return ("no request ended well in the window", *_errors(trial, limits))
    signs, late_s = trial.validity, limits.send_lag_share * trial.latency_s.p50
    cached = 0.0 if trial.shared_prefix else signs.cached_share or 0.0
    said = {
        f"the load generator was the limit: {signs.generator_limited}": bool(signs.generator_limited),
        f"Little's law is off by {signs.littles_law_residual:+.1%}: not steady, or users were idle": (
            abs(signs.littles_law_residual) > limits.littles_law_residual
        ),
        f"the latency drifted by {signs.drift:+.1%} within the window": abs(signs.drift) > limits.drift,
        f"requests were sent {1000 * signs.send_lag_s:.1f} ms late": signs.send_lag_s > late_s,
        f"others used {signs.foreign_cpu or 0:.0%} of the CPU": (signs.foreign_cpu or 0) > limits.foreign_cpu,
        f"a prefix cache answered {cached:.0%} of the prompt tokens": cached > limits.cached_share,
    }
    return (*_errors(trial, limits), *(reason for reason, holds in said.items() if holds))


def judged(trial: Trial, seen: Sequence[str] = (), limits: Limits | None = None) -> Trial:
    """The trial with its verdict; `seen` are further reasons against it, as "replica 1 died"."""
    reasons = (*seen, *why_not(trial, limits))
    return replace(trial, valid=not reasons, why_not=reasons)


def _errors(trial: Trial, limits: Limits) -> tuple[str, ...]:
    rate = trial.validity.error_rate
    return (f"{trial.errors} errors, {rate:.1%} of the requests",) if rate > limits.error_rate else ()


def imbalance(loads: Sequence[Load]) -> float | None:
    """(busiest - idlest replica) / mean of the replicas; None with fewer than two replicas or without load."""
    replicas: dict[int, list[float]] = {}
    for load in loads:
        replicas.setdefault(load.replica, []).append(load.mean)
    means = [sum(values) / len(values) for values in replicas.values()]
    if len(means) < 2 or sum(means) == 0:
        return None
    return (max(means) - min(means)) * len(means) / sum(means)
