"""Sweeps as flat rows: what the charts draw and what the CSV files hold.

Times and rates are those of the server that a simulated one stands for: seconds are divided by the sweep's time scale.
Rows of levels are means over valid trials.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from engine.bench.saturation import Load, Sweep, Trial
from engine.bench.saturation.trial import Summary

Row = dict[str, Any]
QUANTILES = ("mean", "p50", "p95", "p99")
LINE_POINTS = 60


def names(sweeps: Sequence[Sweep]) -> list[str]:
    """One name per sweep, all different, `simulated` said where it is."""
    seen: Counter[str] = Counter()
    found = []
    for sweep in sweeps:
        seen[sweep.deployment] += 1
        again = f" #{seen[sweep.deployment]}" if seen[sweep.deployment] > 1 else ""
        found.append(f"{sweep.deployment}{again}{' (simulated)' if sweep.simulated else ''}")
    return found


def by_level(sweep: Sweep) -> dict[int, list[Trial]]:
    """The valid trials by concurrency, which rises."""
    found: dict[int, list[Trial]] = {}
    for trial in sorted(sweep.trials, key=lambda one: one.concurrency):
        if trial.valid and trial.latency_s is not None:
            found.setdefault(trial.concurrency, []).append(trial)
    return found


def levels(sweep: Sweep, name: str) -> list[Row]:
    """One row per concurrency: latency, TTFT and time per token by quantile in seconds, rates, the queue gauge."""
    return [_level(sweep, name, users, trials) for users, trials in by_level(sweep).items()]


def _level(sweep: Sweep, name: str, users: int, trials: Sequence[Trial]) -> Row:
    scale = sweep.time_scale
    return {
        "series": name,
        "concurrency": users,
        "trials": len(trials),
        **_quantiles("latency", [one.latency_s for one in trials], scale),
        **_quantiles("ttft", [one.ttft_s for one in trials], scale),
        **_quantiles("itl", [one.itl_s for one in trials], scale),
        "throughput_rps": fmean(one.throughput_rps for one in trials) * scale,
        "throughput_tok_s": _mean([one.throughput_tok_s for one in trials], scale),
        "per_request_tok_s": _mean([one.per_request_tok_s for one in trials], scale),
        "waiting": _mean([one.queue.waiting_mean if one.queue else None for one in trials], 1.0),
    }


def _quantiles(what: str, found: Sequence[Summary | None], scale: float) -> Row:
    known = [one for one in found if one is not None]
    return {f"{what}_{q}_s": fmean(getattr(one, q) for one in known) / scale if known else None for q in QUANTILES}


def _mean(values: Sequence[float | None], scale: float) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) * scale if known else None


def trials(sweep: Sweep, name: str) -> list[Row]:
    """One row per trial, valid or not, as it was measured: times are not divided by the time scale."""
    return [_trial(one, name, sweep) for one in sweep.trials]


def _trial(one: Trial, name: str, sweep: Sweep) -> Row:
    summaries = {"latency": one.latency_s, "ttft": one.ttft_s, "itl": one.itl_s}
    return {
        "series": name,
        "simulated": sweep.simulated,
        "time_scale": sweep.time_scale,
        "concurrency": one.concurrency,
        "repeat": one.repeat,
        "started_at": one.started_at.isoformat(),
        "window_s": one.window_s,
        "requests": one.requests,
        "errors": one.errors,
        **{f"{what}_{q}_s": getattr(found, q, None) for what, found in summaries.items() for q in QUANTILES},
        "throughput_rps": one.throughput_rps,
        "throughput_tok_s": one.throughput_tok_s,
        "per_request_tok_s": one.per_request_tok_s,
        "littles_law_residual": one.validity.littles_law_residual,
        "error_rate": one.validity.error_rate,
        "send_lag_s": one.validity.send_lag_s,
        "drift": one.validity.drift,
        "foreign_cpu": one.validity.foreign_cpu,
        "cached_share": one.validity.cached_share,
        "waiting": one.queue.waiting_mean if one.queue else None,
        "valid": one.valid,
        "why_not": "; ".join(one.why_not),
    }


def invalid(sweep: Sweep, name: str) -> list[Row]:
    """The trials that were left out, as far as they have a latency."""
    return [
        {
            "series": name,
            "concurrency": one.concurrency,
            "latency_p50_s": one.latency_s.p50 / sweep.time_scale,
            "why_not": "; ".join(one.why_not) or "no reason given",
        }
        for one in sweep.trials
        if not one.valid and one.latency_s is not None
    ]


def model_line(sweep: Sweep, name: str) -> list[Row]:
    """The fitted latency from one user to the largest load; a corner lies exactly at the slots."""
    users = list(by_level(sweep))
    if sweep.capacity is None or not users:
        return []
    steps = {*np.geomspace(users[0], users[-1], LINE_POINTS).tolist(), sweep.capacity.slots}
    return [
        {"series": name, "concurrency": n, "latency_s": sweep.capacity.latency_s(n) / sweep.time_scale}
        for n in sorted(steps)
        if n <= users[-1]
    ]


def tokens_per_request(sweep: Sweep) -> float | None:
    """Completion tokens of a request, over all valid trials."""
    known = [one for trials in by_level(sweep).values() for one in trials if one.throughput_tok_s is not None]
    rates = sum(one.throughput_rps for one in known)
    return sum(one.throughput_tok_s or 0.0 for one in known) / rates if rates else None


def point(sweep: Sweep, name: str) -> Row | None:
    """The serialisation point with its interval, and the rates there after the fitted model."""
    star = sweep.serialisation
    if star is None:
        return None
    latency_s, tokens = star.latency_s / sweep.time_scale, tokens_per_request(sweep)
    low, high = star.ci95
    return {
        "series": name,
        "concurrency": star.concurrency,
        "low": low,
        "high": high,
        "latency_s": latency_s,
        "throughput_rps": star.concurrency / latency_s,
        "throughput_tok_s": tokens and tokens * star.concurrency / latency_s,
        "per_request_tok_s": tokens and tokens / latency_s,
        "label": f"{short(star.concurrency)} users, {duration(latency_s)}",
        "confirmed_by": star.confirmed_by or "nothing",
    }


def startup(sweep: Sweep, name: str) -> Iterator[Row]:
    """One row per known part, in the order of their happening."""
    if sweep.startup is None:
        return
    where = "container" if sweep.startup.container else "bare"
    parts = (("queue", sweep.startup.queue_s), ("load", sweep.startup.load_s))
    for order, (part, seconds) in enumerate((*parts, ("first token", sweep.startup.first_token_s))):
        if seconds is not None:
            yield {"series": f"{name}, {where}", "part": part, "order": order, "seconds": seconds}


def device_loads(sweep: Sweep, name: str) -> list[Row]:
    """The load of each device at the level nearest to the serialisation point, or at the largest load."""
    loaded = {users: trials for users, trials in by_level(sweep).items() if any(one.loads for one in trials)}
    if not loaded:
        return []
    aim = sweep.serialisation.concurrency if sweep.serialisation else max(loaded)
    users = min(loaded, key=lambda n: abs(np.log(n / aim)))
    found: dict[tuple[int, str], list[Load]] = {}
    for load in (load for one in loaded[users] for load in one.loads):
        found.setdefault((load.replica, load.device), []).append(load)
    return [_device(name, users, key, loads) for key, loads in sorted(found.items())]


def _device(name: str, users: int, key: tuple[int, str], loads: Sequence[Load]) -> Row:
    mean, spread = fmean(one.mean for one in loads), fmean(one.spread for one in loads)
    return {
        "series": name,
        "device": f"replica {key[0]}, {key[1]}",
        "concurrency": users,
        "mean": mean,
        "low": max(0.0, mean - spread),
        "high": min(1.0, mean + spread),
    }


def short(value: float) -> str:
    """A number of users: 2.02, 20.1, 128."""
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def duration(seconds: float) -> str:
    """36 ms, 2.13 s."""
    return f"{1000 * seconds:.3g} ms" if seconds < 0.9995 else f"{seconds:.3g} s"
