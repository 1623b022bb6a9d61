"""The fit against queues of known truth."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.bench.saturation import (
    Queue,
    Startup,
    Subject,
    Sweep,
    Trial,
    conclude,
    from_json_lines,
    next_levels,
    sweep_json,
    sweep_of,
)
from engine.bench.saturation.fit import fit
from engine.errors import ConfigurationError
from tests.unit.queueing import BEGIN, batching, closed_loop, constant, known, sweep_trials, trial

SIM = Subject("sim", model="simulator", simulated=True)
ISSUE_KEYS = {"deployment", "trials", "knee", "serialisation", "startup"}


def rough(spread: float, seed: int) -> Callable[[], float]:
    rng = np.random.default_rng(seed)
    return lambda: float(rng.lognormal(0.0, spread))


def users_of(trials: Sequence[Trial]) -> set[int]:
    return {one.concurrency for one in trials}


@pytest.mark.parametrize("slots", [1, 2, 3, 6, 20, 49])
def test_slots_of_a_first_in_first_out_server_are_found_within_one_per_cent(slots: int) -> None:
    found = conclude(SIM, sweep_trials(slots, constant(0.2)))
    assert found.serialisation is not None and found.knee is not None
    assert found.serialisation.concurrency == pytest.approx(slots, rel=0.01)
    assert found.serialisation.latency_s == pytest.approx(0.2, rel=0.005)
    assert found.knee.concurrency == pytest.approx(slots, rel=0.01)
    assert found.serialisation.confirmed_by == "vllm:num_requests_waiting"
    assert found.warnings == ()


def test_128_slots_are_found_within_three_per_cent() -> None:
    found = conclude(SIM, sweep_trials(128, constant(0.036)))
    assert found.serialisation and found.serialisation.concurrency == pytest.approx(128, rel=0.03)


@pytest.mark.parametrize("spread", [0.0, 0.3])
def test_the_interval_holds_the_truth_in_nine_of_ten_sweeps(spread: float) -> None:
    sweeps = [
        conclude(SIM, sweep_trials(slots, constant(0.2), 2, rough(spread, seed)))
        for seed, slots in enumerate([2, 3, 4, 6, 9, 12, 16, 20, 28, 40])
    ]
    points = [
        (slots, one.serialisation) for slots, one in zip([2, 3, 4, 6, 9, 12, 16, 20, 28, 40], sweeps, strict=True)
    ]
    held = [slots for slots, point in points if point and point.ci95[0] <= slots <= point.ci95[1]]
    assert len(held) >= 9, [(slots, point and point.ci95) for slots, point in points]
    assert all(point and point.ci95[1] / point.ci95[0] < 2 for slots, point in points if slots > 3)


@pytest.mark.parametrize(
    ("slots", "r0_s", "r1_s"), [(8, 0.2, 0.02), (20, 0.2, 0.01), (32, 0.1, 0.02), (64, 0.5, 0.004)]
)
def test_slots_of_a_continuous_batch_are_found_within_ten_per_cent(slots: int, r0_s: float, r1_s: float) -> None:
    found = conclude(SIM, sweep_trials(slots, batching(r0_s, r1_s)))
    assert found.serialisation and found.serialisation.concurrency == pytest.approx(slots, rel=0.1)
    assert found.serialisation.latency_s == pytest.approx(r0_s + r1_s * slots, rel=0.1)


def test_under_continuous_batching_the_knee_comes_before_the_serialisation_point() -> None:
    found = conclude(SIM, sweep_trials(32, batching(0.1, 0.02)))
    assert found.knee and found.serialisation
    assert found.knee.concurrency == pytest.approx(0.1 / 0.02, rel=0.05)
    assert found.serialisation.concurrency > 5 * found.knee.concurrency


def test_a_known_path_widens_the_interval_down_to_the_servers_own_slots() -> None:
    # given a path that takes 2 % of a latency, which moves the point up by as much
    trials = sweep_trials(20, constant(0.2), path_s=0.004)
    # when the fit knows of the path, and when it does not
    told, untold = conclude(SIM, trials, path_s=0.004).serialisation, conclude(SIM, trials).serialisation
    # then both find the moved point, and only one interval holds the server's 20
    assert told and untold and told.concurrency == untold.concurrency == pytest.approx(20.4, rel=0.003)
    assert told.ci95[0] < 20 < untold.ci95[0]


def test_the_same_trials_give_the_same_answer() -> None:
    trials = sweep_trials(6, constant(0.2), 2, rough(0.2, 1))
    assert conclude(SIM, trials) == replace(conclude(SIM, trials[::-1]), trials=tuple(trials))


def test_a_load_that_stays_below_the_point_finds_none_and_says_so() -> None:
    found = conclude(SIM, known([1, 2, 4, 8], lambda users: 0.2))
    assert found.serialisation is None and found.knee is None
    assert "no serialisation up to 8 users" in found.warnings[0]


def test_too_few_levels_are_too_few() -> None:
    found = conclude(SIM, known([1, 2], lambda users: 0.2))
    assert found.capacity is None and found.usl is None and "too few for a fit" in found.warnings[0]
    assert conclude(SIM, []).trials == ()


def test_an_objective_sets_the_knee_where_the_latency_crosses_it() -> None:
    trials = known([1, 2, 4, 8, 16], lambda users: 0.1 * users)
    knee = conclude(SIM, trials, objective_s=0.6).knee
    assert knee and knee.concurrency == pytest.approx(6, rel=0.01) and knee.rule == "p95 latency within 0.6 s"
    beyond = conclude(SIM, trials, objective_s=9).knee
    assert beyond and beyond.concurrency == 16 and beyond.ci95 is None and "largest load tried" in beyond.rule
    assert conclude(SIM, trials, objective_s=0.01).knee is None


def test_an_invalid_trial_is_left_out_and_counted() -> None:
    # given a sweep with one wild trial that is known to be bad
    good = sweep_trials(6, constant(0.2))
    bad = replace(trial(6, closed_loop(6, 1, constant(0.2), 12)), valid=False, why_not=("replica 0 died",))
    # when it is concluded
    found = conclude(SIM, [*good, bad])
    # then it changes nothing, and is told
    assert found.serialisation == conclude(SIM, good).serialisation
    assert found.warnings == (f"1 of {len(good) + 1} trials are invalid and left out (at 6 users): replica 0 died",)


def gauged(
    trials: Sequence[Trial], waiting: Callable[[int], float], running: Callable[[int], float] = lambda users: 1.0
) -> list[Trial]:
    return [
        replace(one, queue=Queue("tgi_queue_size", waiting(one.concurrency), running(one.concurrency)))
        for one in trials
    ]


@pytest.mark.parametrize(
    ("waiting", "words"),
    [
        (lambda users: 0.0, "stayed at 0 up to 16 users"),
        (lambda users: max(0.0, users - 3.0), "3.0 of 16 users are not waiting"),
        (lambda users: max(users - 6.0, 1.0), "requests waiting below the point: 1.0 of 1 users"),
    ],
)
def test_a_queue_gauge_that_disagrees_contradicts(waiting: Callable[[int], float], words: str) -> None:
    found = conclude(SIM, gauged(sweep_trials(6, constant(0.2)), waiting))
    assert found.serialisation and found.serialisation.confirmed_by is None
    assert found.serialisation.contradicted and words in found.serialisation.contradicted
    assert found.serialisation.contradicted in found.warnings


@pytest.mark.parametrize(
    ("waiting", "words"),
    [
        (lambda users: 0.0, "stayed at 0 up to 4 users: those at work share"),
        (lambda users: max(0.0, users - 3.0), "3.0 of 4 users are not waiting: those at work share"),
    ],
)
def test_a_server_that_one_request_fills_works_on_more_without_more_throughput(waiting, words) -> None:
    # given a CPU that one request uses up, and slots for more
    trials = gauged(known([1, 2, 4], lambda users: 0.6 * users), waiting, lambda users: users - waiting(users))
    # when, then
    point = conclude(SIM, trials).serialisation
    assert point and point.concurrency == pytest.approx(1, abs=0.1) and words in (point.contradicted or "")


def test_without_a_gauge_nothing_is_confirmed_or_contradicted() -> None:
    trials = [replace(one, queue=None) for one in sweep_trials(6, constant(0.2))]
    point = conclude(SIM, trials).serialisation
    assert point and point.confirmed_by is None and point.contradicted is None


def test_a_server_that_grows_slower_over_the_sweep_is_told() -> None:
    # given repeats in mixed order at a server whose latency grows by 1 % from trial to trial
    rng = np.random.default_rng(3)
    order = rng.permutation([users for users in (1, 2, 4, 6, 8, 12) for _ in range(3)])
    trials = [
        replace(
            trial(int(users), closed_loop(int(users), 6, constant(0.2 * 1.01**index), 12)),
            started_at=BEGIN + timedelta(seconds=10 * index),
        )
        for index, users in enumerate(order)
    ]
    # when, then
    assert any("changed by +1" in warning for warning in conclude(SIM, trials).warnings)


def test_the_usl_describes_a_curve_that_follows_it() -> None:
    usl = conclude(SIM, known([1, 2, 4, 8, 16, 32], lambda n: (1 + 0.05 * (n - 1) + 0.001 * n * (n - 1)) / 10)).usl
    assert usl and usl.rate_rps == pytest.approx(10, rel=0.02)
    assert usl.contention == pytest.approx(0.05, rel=0.05) and usl.coherency == pytest.approx(0.001, rel=0.05)
    assert usl.peak == pytest.approx((0.95 / 0.001) ** 0.5, rel=0.05)


def test_doubling_goes_on_until_throughput_stops_and_then_surrounds_the_point() -> None:
    trials: list[Trial] = []
    asked = []
    while levels := next_levels(trials):
        asked.append(levels)
        trials += known(levels, lambda users: 0.2 * max(1.0, users / 20))
    assert asked == [(1,), (2,), (4,), (8,), (16,), (32,), (64,), (10, 14, 20, 23, 28, 40)]


def test_no_level_is_larger_than_allowed() -> None:
    trials: list[Trial] = []
    while levels := next_levels(trials, most=50):
        trials += known(levels, lambda users: 0.2)
    assert sorted(users_of(trials)) == [1, 2, 4, 8, 16, 32, 50]


def test_doubling_ends_where_all_trials_fail() -> None:
    trials = known([1, 2, 4, 8], lambda users: 0.2)
    failing = [replace(one, valid=False, latency_s=None, throughput_rps=0.0) for one in known([16], lambda users: 1.0)]
    assert next_levels([*trials, *failing]) == ()


def test_a_gauge_at_rest_makes_the_doubling_go_on_under_batching() -> None:
    # given a batch whose throughput has all but stopped growing at 32 of its 64 slots
    def latency_s(users: int) -> float:
        return (0.1 + 0.1 * min(users, 64)) * max(1.0, users / 64)

    trials: list[Trial] = []
    while levels := next_levels(trials):
        trials += gauged(known(levels, latency_s), lambda users: max(0.0, users - 64.0))
    # then the load still went beyond the slots
    assert max(users_of(trials)) >= 128


@settings(max_examples=8, deadline=None)
@given(slots=st.integers(1, 200), r0_ms=st.integers(1, 5000), ratio=st.sampled_from([0.0, 0.01, 0.1, 0.5]))
def test_next_levels_always_ends_and_never_repeats(slots: int, r0_ms: int, ratio: float) -> None:
    trials: list[Trial] = []
    rounds = 0
    while levels := next_levels(trials, most=512):
        assert not set(levels) & users_of(trials) and all(a < b for a, b in pairwise(levels))
        trials += known(levels, lambda n: r0_ms / 1000 * (1 + ratio * min(n, slots)) * max(1.0, n / slots))
        rounds += 1
        assert rounds < 20
    assert len(users_of(trials)) >= 4


def test_a_sweep_prints_as_promised_and_reads_back() -> None:
    found = conclude(SIM, sweep_trials(6, constant(0.2)), Startup(1.0, 2.0, 0.3, container=True))
    plain = sweep_json(found)
    assert set(plain) >= ISSUE_KEYS
    assert set(plain["trials"][0]["latency_s"]) == {"mean", "p50", "p95", "p99"}
    assert set(plain["serialisation"]) >= {"concurrency", "ci95", "latency_s", "confirmed_by"}
    assert sweep_of(msgspec.json.decode(msgspec.json.encode(plain))) == found
    with pytest.raises(ConfigurationError, match="no sweep"):
        sweep_of({"deployment": 7})


def test_a_trial_line_that_was_cut_short_is_left_out() -> None:
    trials = known([1, 2], lambda users: 0.2)
    text = b"".join(msgspec.json.encode(one) + b"\n" for one in trials)
    assert from_json_lines(text + b'{"deployment": "si') == tuple(trials)


def test_a_sweep_is_its_subject_and_more() -> None:
    assert isinstance(conclude(SIM, []), Sweep) and conclude(SIM, []).simulated


def test_a_fit_knows_nothing_of_levels_that_it_has_not() -> None:
    assert fit(known([4], lambda users: 0.2)) is None
