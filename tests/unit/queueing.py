"""A closed loop in front of a server with slots, first in first out, reckoned event by event: data of a known truth."""

import heapq
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count

import numpy as np

from engine.bench.saturation import Queue, Trial, Validity, window
from engine.bench.saturation.levels import next_levels

BEGIN = datetime(2026, 11, 1, tzinfo=UTC)
Service = Callable[[int], float]


def constant(service_s: float) -> Service:
    return lambda running: service_s


def batching(r0_s: float, r1_s: float) -> Service:
    """A batch shares one GPU: each further request at work makes all of them slower."""
    return lambda running: r0_s + r1_s * running


def closed_loop(users: int, slots: int, service: Service, cycles: int, path_s: float = 0.0) -> np.ndarray:
    """Rows of (start, end) in seconds of `cycles` x `users` requests, after a warm-up; starts are staggered.

    `path_s` is spent on the way, where no slot is held. A service time is fixed when its request gets a slot.
    """
    stagger = service(1) / users
    arrivals = [(index * stagger + path_s / 2, index * stagger) for index in range(users)]
    heapq.heapify(arrivals)
    free = [0.0] * slots
    rows = []
    warm = 2 * users
    for _ in range(warm + cycles * users):
        arrived, started = heapq.heappop(arrivals)
        begin = max(arrived, heapq.heappop(free))
        done = begin + service(min(users, slots))
        heapq.heappush(free, done)
        end = done + path_s / 2
        rows.append((started, end))
        heapq.heappush(arrivals, (end + path_s / 2, end))
    return np.array(rows[warm:])


def trial(users: int, rows: np.ndarray, repeat: int = 0, order: int = 0, waiting: float | None = None) -> Trial:
    """The trial that an experiment would make of these requests."""
    latencies, ends = rows[:, 1] - rows[:, 0], rows[:, 1]
    rate, interval = window.throughput(ends, users)
    return Trial(
        deployment="sim",
        concurrency=users,
        repeat=repeat,
        started_at=BEGIN + timedelta(seconds=60 * order),
        window_s=float(np.ptp(ends)),
        requests=len(rows),
        errors=0,
        latency_s=window.summary(latencies),
        throughput_rps=rate,
        throughput_ci95=interval,
        throughput_tok_s=64 * rate,
        per_request_tok_s=float(np.mean(64 / latencies)),
        latency_batches_s=window.batches(latencies, ends, users),
        prompt_tokens=1024 * len(rows),
        completion_tokens=64 * len(rows),
        cached_tokens=0,
        validity=Validity(littles_law_residual=window.littles_law_residual(rate, float(latencies.mean()), users)),
        queue=None if waiting is None else Queue("vllm:num_requests_waiting", waiting),
    )


def sweep_trials(
    slots: int, service: Service, repeats: int = 1, noise: Callable[[], float] | None = None, path_s: float = 0.0
) -> list[Trial]:
    """All the levels that `next_levels` asks for, each repeated."""
    trials: list[Trial] = []
    order = count()
    noisy: Service = (lambda running: service(running) * noise()) if noise else service
    while levels := next_levels(trials, most=1024):
        for users in levels:
            for repeat in range(repeats):
                rows = closed_loop(users, slots, noisy, 12, path_s)
                trials.append(trial(users, rows, repeat, next(order), max(0.0, users - slots)))
    return trials


def known(levels: Sequence[int], latency_s: Callable[[int], float]) -> list[Trial]:
    """Trials whose latencies are given exactly."""
    return [trial(users, _even(users, latency_s(users)), order=index) for index, users in enumerate(levels)]


def _even(users: int, latency_s: float) -> np.ndarray:
    ends = latency_s + np.arange(12 * users) * latency_s / users
    return np.stack([ends - latency_s, ends], axis=1)
