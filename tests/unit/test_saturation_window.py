"""What a window of requests says, what makes a trial invalid, and what no GPU can do."""

from dataclasses import replace

import numpy as np
import pytest

from engine.bench.saturation import Load, Subject, Validity, imbalance, judged, why_not, window
from engine.bench.saturation.physics import implausible, peak_flops
from tests.unit.queueing import closed_loop, constant, known, trial


def test_percentiles_are_those_of_the_values() -> None:
    found = window.summary(np.arange(1.0, 102.0))
    assert found and (found.mean, found.p50, found.p95, found.p99) == (51.0, 51.0, 96.0, 100.0)
    assert window.summary(np.array([])) is None


def test_throughput_is_exact_even_when_answers_come_in_lumps() -> None:
    # given 20 users whose answers all come at the same instants, every 0.2 s
    ends = np.repeat(np.arange(1, 31) * 0.2, 20)
    # when, then
    rate, interval = window.throughput(ends, 20)
    assert rate == pytest.approx(100, rel=1e-9)
    assert interval and interval[0] == pytest.approx(100) and interval[1] == pytest.approx(100)


def test_the_throughputs_interval_holds_the_truth_of_a_noisy_server() -> None:
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(40):
        _, interval = window.throughput(np.cumsum(rng.exponential(0.01, 400)), 4)
        held += bool(interval and interval[0] <= 100 <= interval[1])
    assert held >= 35


def test_throughput_of_next_to_nothing_is_none() -> None:
    assert window.throughput(np.array([1.0]), 4) == (0.0, None)
    assert window.throughput(np.array([1.0, 2.0, 3.0]), 4) == (1.0, None)


def test_littles_law_holds_in_a_closed_loop_and_not_with_idle_users() -> None:
    rows = closed_loop(30, 20, constant(0.2), 12)
    rate, _ = window.throughput(rows[:, 1], 30)
    mean = float(np.mean(rows[:, 1] - rows[:, 0]))
    assert window.littles_law_residual(rate, mean, 30) == pytest.approx(0, abs=0.02)
    assert window.littles_law_residual(rate, mean, 60) == pytest.approx(-0.5, abs=0.02)


def test_a_drift_is_seen_and_noise_is_not() -> None:
    rng, ends = np.random.default_rng(2), np.arange(400.0)
    noise = rng.normal(1, 0.1, 400)
    assert window.drift(noise, ends) == 0.0
    assert window.drift(noise * np.linspace(1, 1.3, 400), ends) == pytest.approx(0.26, abs=0.06)
    assert window.drift(np.ones(400), ends) == 0.0


def test_a_window_needs_more_until_it_is_long_and_narrow_enough() -> None:
    rows = closed_loop(10, 20, constant(0.2), 12)
    latencies, ends = rows[:, 1] - rows[:, 0], rows[:, 1]
    assert window.needs_more(latencies[:50], ends[:50], 10)
    assert not window.needs_more(latencies, ends, 10)
    rough = np.random.default_rng(3).exponential(0.2, 120)
    assert window.needs_more(rough, np.cumsum(rough) / 10, 10)


@pytest.mark.parametrize(
    ("signs", "words"),
    [
        (Validity(littles_law_residual=-0.2), "Little's law is off by -20.0%"),
        (Validity(error_rate=0.1), "errors, 10.0% of the requests"),
        (Validity(send_lag_s=0.1), "requests were sent 100.0 ms late"),
        (Validity(drift=0.12), "the latency drifted by +12.0%"),
        (Validity(foreign_cpu=0.5), "others used 50% of the CPU"),
        (Validity(cached_share=0.4), "a prefix cache answered 40%"),
        (Validity(generator_limited="99 % of its core"), "the load generator was the limit: 99 % of its core"),
    ],
)
def test_each_sign_makes_a_trial_invalid_and_is_named(signs: Validity, words: str) -> None:
    one = judged(replace(known([4], lambda users: 0.2)[0], validity=signs))
    assert not one.valid and len(one.why_not) == 1 and words in one.why_not[0]


def test_a_good_trial_is_valid_and_a_shared_prefix_may_be_cached() -> None:
    one = trial(4, closed_loop(4, 8, constant(0.2), 12))
    assert judged(one).valid
    assert why_not(replace(one, shared_prefix=True, validity=Validity(cached_share=0.9))) == ()


def test_what_was_seen_from_outside_counts_too() -> None:
    one = judged(trial(4, closed_loop(4, 8, constant(0.2), 12)), seen=["replica 1 died"])
    assert not one.valid and one.why_not == ("replica 1 died",)


def test_a_window_without_answers_is_invalid() -> None:
    empty = replace(known([4], lambda users: 0.2)[0], latency_s=None, errors=9, validity=Validity(error_rate=1.0))
    assert why_not(empty) == ("no request ended well in the window", "9 errors, 100.0% of the requests")


def test_imbalance_is_between_replicas_not_between_the_gpus_of_one() -> None:
    loads = [Load(0, "gpu 0", 0.9, 0), Load(0, "gpu 1", 0.7, 0), Load(1, "gpu 0", 0.4, 0), Load(1, "gpu 1", 0.4, 0)]
    assert imbalance(loads) == pytest.approx(0.4 / 0.6)
    assert imbalance(loads[:2]) is None and imbalance([]) is None


@pytest.mark.parametrize("spelling", ["a100", "NVIDIA A100-SXM4-80GB", "nvidia_a100_80gb_pcie", "gpu:a100"])
def test_a_gpu_is_known_by_any_usual_spelling(spelling: str) -> None:
    assert peak_flops(spelling, "bf16") == 312e12 and peak_flops(spelling, "int8") == 624e12


def test_the_papers_smallest_model_is_more_than_its_gpus_can_compute() -> None:
    # given 128 users at 36 ms, 1024 prompt tokens each, on four A100
    paper = known([128], lambda users: 0.036)
    subject = Subject("1b", parameters_b=1.24, gpu="a100", gpus=4, precision="int8")
    # when, then
    warning = implausible(subject, paper)
    assert warning and "4 x a100" in warning and "prefix cache" in warning
    assert implausible(replace(subject, simulated=True), paper) is None
    assert implausible(replace(subject, gpu="unheard-of"), paper) is None
    assert implausible(subject, known([2], lambda users: 2.131)) is None


def test_cached_tokens_that_the_server_admits_are_not_counted() -> None:
    one = known([128], lambda users: 0.036)[0]
    admitted = replace(one, cached_tokens=one.prompt_tokens)
    assert implausible(Subject("1b", parameters_b=1.24, gpu="a100", gpus=4, precision="int8"), [admitted]) is None
