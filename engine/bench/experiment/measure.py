"""One trial: a staggered start, a warm-up, a steady window, a drain."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from engine.bench.experiment import machine
from engine.bench.experiment.aim import Aim
from engine.bench.experiment.gauges import Gauges
from engine.bench.experiment.machine import Machine
from engine.bench.load.closed import closed
from engine.bench.load.prompts import Prompts
from engine.bench.load.run import Run
from engine.bench.load.samples import Window
from engine.bench.saturation import Trial, Validity, window

Say = Callable[[str], None]
# A run in which so many requests failed, and more than half of all, is ended: its trial can't become valid.
MANY_ERRORS = 20
# What a chat template puts before the first word of a prompt, at most (25 of SmolLM2's in llama.cpp).
TEMPLATE_TOKENS = 32


@dataclass(frozen=True)
class Pace:
    """How long a trial takes. A cycle is the time in which each user gets one answer: the mean latency.

    The warm-up lasts `warm_cycles` after the last user has begun. The window lasts `cycles`, and `least_s` where that
    is no more than `more_cycles`; where its intervals are too wide it is extended up to `most_extension` times that.
    A level with so many invalid `attempts` is given up.
    """

    warm_cycles: float = 2.0
    cycles: float = 6.0
    least_s: float = 1.5
    more_cycles: float = 30.0
    most_extension: float = 3.0
    request_timeout_s: float = 600.0
    patience_s: float = 60.0
    attempts: int = 3

    def window_s(self, latency_s: float) -> float:
        return max(self.cycles * latency_s, min(self.more_cycles * latency_s, self.least_s))

    def deadline_s(self, latency_s: float) -> float:
        """From when on a phase that should take some cycles is given up."""
        return max(self.patience_s, 20 * latency_s)

    def trial_s(self, latency_s: float) -> float:
        """What a trial takes if nothing has to be extended."""
        return (2.0 + self.warm_cycles) * latency_s + self.window_s(latency_s)


@dataclass(frozen=True)
class Plan:
    """What a trial is to measure; `expected_s` is a guess of the latency."""

    deployment: str
    concurrency: int
    repeat: int
    expected_s: float


async def measure(
    plan: Plan, aim: Aim, prompts: Prompts, gauges: Gauges, ours: Machine, pace: Pace, say: Say
) -> tuple[Trial, tuple[str, ...]]:
    """Runs one trial to its end. Returns what was seen, not yet judged, and why the window is none, if it is none."""
    started_at = datetime.now(UTC)
    say("starting")
    run = await closed(
        aim.target, prompts, plan.concurrency, stagger_s=plan.expected_s, timeout_s=pace.request_timeout_s
    )
    async with run:
        whole = time.perf_counter(), ours.reading()
        steady = await _warm_up(run, plan, pace, say)
        begin, before = (time.perf_counter(), ours.reading()) if steady else whole
        if steady:
            await _steady(run, plan, begin, pace, say)
        end, after = time.perf_counter(), ours.reading()
        in_flight = run.mean_in_flight(begin, end)
        watch = run.watch(begin, end)
        say("draining")
        await run.drain(pace.deadline_s(plan.expected_s) if steady else 1.0)
        seen = run.samples.between(begin, end)
    signs = Validity(
        error_rate=(len(seen) - len(seen.answered)) / max(1, len(seen)),
        send_lag_s=watch.send_lag_p99_s,
        foreign_cpu=machine.foreign(before, after),
        cached_share=_cached_share(seen.answered),
        generator_limited=watch.limited,
    )
    why = () if steady else ("no steady state was reached: too many errors, or answers that did not come",)
    return _trial(plan, started_at, seen, in_flight, signs, gauges, prompts), why


async def _warm_up(run: Run, plan: Plan, pace: Pace, say: Say) -> bool:
    """Until every user has begun and `warm_cycles` have passed since; false when that never comes."""
    say("warming up")
    begun = time.perf_counter()
    joined = begun + plan.expected_s
    while True:
        await asyncio.sleep(max(0.01, min(0.25, plan.expected_s / 5)))
        now = time.perf_counter()
        seen = run.samples.between(joined, now)
        cycle_s = _mean_latency_s(seen, plan.expected_s)
        cycles_passed = now - joined >= pace.warm_cycles * cycle_s
        if cycles_passed and len(seen.answered) >= pace.warm_cycles * plan.concurrency * 0.9:
            return True
        if _hopeless(run.samples.between(begun, now)) or now - joined > pace.deadline_s(cycle_s):
            return False


async def _steady(run: Run, plan: Plan, begin: float, pace: Pace, say: Say) -> None:
    """Until the window is long enough and its intervals narrow, or it was extended for long enough."""
    say("measuring")
    while True:
        now = time.perf_counter()
        seen = run.samples.between(begin, now)
        least_s = pace.window_s(_mean_latency_s(seen, plan.expected_s))
        if _hopeless(seen):
            return
        if now - begin >= least_s:
            good = seen.answered
            if not window.needs_more(good.latency_s, good["end"], plan.concurrency):
                return
            if now - begin >= pace.most_extension * least_s:
                return
            say("extending")
        await asyncio.sleep(max(0.01, min(0.25, least_s / 10, abs(begin + least_s - now) + 0.001)))


def _hopeless(seen: Window) -> bool:
    failed = len(seen) - len(seen.answered)
    return failed >= MANY_ERRORS and failed > len(seen) / 2


def _mean_latency_s(seen: Window, otherwise: float) -> float:
    good = seen.answered
    return float(np.mean(good.latency_s)) if len(good) else otherwise


def _cached_share(good: Window) -> float | None:
    """Beyond the tokens of the chat template, which all requests share and which are no work of the task."""
    cached, prompt = good.tokens("cached_tokens"), good.tokens("prompt_tokens")
    return max(0, cached - TEMPLATE_TOKENS * len(good)) / prompt if cached >= 0 and prompt > 0 else None


def _trial(
    plan: Plan,
    started_at: datetime,
    seen: Window,
    in_flight: float,
    signs: Validity,
    gauges: Gauges,
    prompts: Prompts,
) -> Trial:
    good = seen.answered
    latency_s, ends = good.latency_s, good["end"]
    rate, interval = window.throughput(ends, plan.concurrency)
    mean_s = float(np.mean(latency_s)) if len(good) else 0.0
    completion = good.tokens("completion_tokens")
    each = good["completion_tokens"]
    counted = each > 0
    return Trial(
        deployment=plan.deployment,
        concurrency=plan.concurrency,
        repeat=plan.repeat,
        started_at=started_at,
        window_s=seen.length_s,
        requests=len(good),
        errors=len(seen) - len(good),
        latency_s=window.summary(latency_s),
        throughput_rps=rate,
        throughput_ci95=interval,
        throughput_tok_s=rate * completion / len(good) if completion >= 0 else None,
        per_request_tok_s=float(np.mean(each[counted] / latency_s[counted])) if counted.any() else None,
        ttft_s=window.summary(good.ttft_s),
        itl_s=window.summary(_itl_s(good)),
        latency_batches_s=window.batches(latency_s, ends, plan.concurrency),
        prompt_tokens=_known(good.tokens("prompt_tokens")),
        completion_tokens=_known(completion),
        cached_tokens=_known(good.tokens("cached_tokens")),
        validity=Validity(
            littles_law_residual=window.littles_law_residual(rate, mean_s, in_flight) if in_flight else 0.0,
            error_rate=signs.error_rate,
            send_lag_s=signs.send_lag_s,
            drift=window.drift(latency_s, ends),
            foreign_cpu=signs.foreign_cpu,
            cached_share=signs.cached_share,
            generator_limited=signs.generator_limited,
        ),
        queue=gauges.queue(seen.begin, seen.end),
        loads=gauges.loads(seen.begin, seen.end),
        shared_prefix=prompts.prefix == "shared",
    )


def _itl_s(good: Window) -> window.Floats:
    """Time per further token of the streams that told their tokens."""
    rows = good.rows[(good["completion_tokens"] > 1) & ~np.isnan(good["first"])]
    found: window.Floats = (rows["end"] - rows["first"]) / (rows["completion_tokens"] - 1)
    return found


def _known(tokens: int) -> int | None:
    return tokens if tokens >= 0 else None
