"""From trials to a sweep: the fit, the two points, the warnings."""

from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from engine.bench.saturation import gauge, knee, physics, usl
from engine.bench.saturation.fit import Fit, fit
from engine.bench.saturation.sweep import Knee, Serialisation, Startup, Subject, Sweep, Usl
from engine.bench.saturation.trial import Trial
from engine.bench.saturation.window import trend

MISFIT = 0.1
DRIFT = 0.05


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
    found = fit(trials)
    point = _point(trials, found, path_s)
    return Sweep(
        **{field: getattr(subject, field) for field in Subject.__dataclass_fields__},
        trials=tuple(trials),
        knee=_knee(trials, found, objective_s),
        serialisation=point,
        startup=startup,
        capacity=found.capacity if found else None,
        usl=_usl(trials),
        warnings=tuple(_warnings(trials, found, point)),
        physics=physics.implausible(subject, [trial for trial in trials if trial.valid]),
    )


def _knee(trials: Sequence[Trial], found: Fit | None, objective_s: float | None) -> Knee | None:
    if objective_s:
        return knee.within_objective(trials, objective_s)
    return knee.by_elasticity(found) if found else None


def _point(trials: Sequence[Trial], found: Fit | None, path_s: float) -> Serialisation | None:
    if found is None or not found.seen:
        return None
    capacity = found.capacity
    low, high = found.interval([draw.slots for draw in found.draws], capacity.slots)
    answer = gauge.asked(trials, capacity.slots)
    return Serialisation(
        concurrency=capacity.slots,
        ci95=(low * capacity.slots_behind(path_s) / capacity.slots, high),
        latency_s=capacity.latency_s(capacity.slots),
        confirmed_by=answer.confirmed_by,
        contradicted=answer.contradicted,
    )


def _usl(trials: Sequence[Trial]) -> Usl | None:
    rates: dict[int, list[float]] = {}
    for trial in trials:
        if trial.valid:
            rates.setdefault(trial.concurrency, []).append(trial.throughput_rps)
    users = sorted(rates)
    return usl.describe(np.array(users, dtype=float), np.array([np.mean(rates[n]) for n in users]))


def _warnings(trials: Sequence[Trial], found: Fit | None, point: Serialisation | None) -> Iterator[str]:
    yield from _invalid(trials)
    valid = [trial for trial in trials if trial.valid]
    most = max((trial.concurrency for trial in valid), default=0)
    if found is None:
        yield f"only {len({trial.concurrency for trial in valid})} levels with valid trials: too few for a fit"
    elif not found.seen:
        yield f"no serialisation up to {most} users: the point lies beyond, or the load did not go far enough past it"
    elif found.capacity.residual > MISFIT:
        yield f"the capacity model misses the latencies by {found.capacity.residual:.0%}: look at the chart first"
    if point and point.contradicted:
        yield point.contradicted
    if abs(change := drift_between(valid)) > DRIFT:
        yield f"the server's latency changed by {change:+.0%} over the sweep, at the same load"
    if any(trial.shared_prefix for trial in trials):
        yield "the prompts share a prefix: a prefix cache answers part of the work"


def _invalid(trials: Sequence[Trial]) -> Iterator[str]:
    wrong = [trial for trial in trials if not trial.valid]
    if not wrong:
        return
    users = sorted({trial.concurrency for trial in wrong})
    reasons = Counter(reason.split(":")[0] for trial in wrong for reason in trial.why_not)
    common = "; ".join(reason for reason, _ in reasons.most_common(3))
    levels = ", ".join(map(str, users))
    told = f"{len(wrong)} of {len(trials)} trials are invalid and left out (at {levels} users)"
    yield f"{told}: {common or 'no reason given'}"


def drift_between(trials: Sequence[Trial]) -> float:
    """Relative change of latency from the first trial to the last, at the same load; 0.0 where noise explains it.

    Each trial is compared with its level's mean: so it needs repeats, in random order.
    """
    levels: dict[int, list[Trial]] = {}
    for trial in trials:
        if trial.latency_s is not None:
            levels.setdefault(trial.concurrency, []).append(trial)
    times, offs = [], []
    for repeats in (repeats for repeats in levels.values() if len(repeats) > 1):
        at = np.array([one.started_at.timestamp() for one in repeats])
        log_r = np.log([one.latency_s.mean for one in repeats if one.latency_s])
        times.extend(at - at.mean())
        offs.extend(log_r - log_r.mean())
    if len(times) < 6 or np.ptp(times) == 0 or np.ptp(offs) == 0:
        return 0.0
    moments = [trial.started_at.timestamp() for trial in trials]
    return float(np.expm1(trend(np.array(times), np.array(offs)) * np.ptp(moments)))


def from_json_lines(text: bytes) -> tuple[Trial, ...]:
    """The trials of a `trials.jsonl`; a last line that is cut short is left out."""
    lines = text.split(b"\n")
    return tuple(msgspec.json.decode(line, type=Trial) for line in lines[:-1] if line.strip())
