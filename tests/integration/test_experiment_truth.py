"""The instrument against truth: simulators with known slots on a real Slurm."""

import json
import time
from statistics import mean
from typing import Any

import pytest

from engine.gateway.app import CARDS_S
from tests.serving import Engine

# Slots and latencies (ms), at least 100 times the delay of the path.
TRUTHS = [
    *((2, 300), (6, 200), (20, 200), (49, 300), (128, 400)),
    *((2, 800), (6, 500), (20, 400), (49, 400), (128, 600)),
]


def sweep(engine: Engine, name: str, *options: str, timeout_s: float = 900) -> dict[str, Any]:
    argv = ("bench", "saturate", name, "--foreign-cpu", "1", *options, "--json")
    (found,) = json.loads(engine.run(*argv, timeout_s=timeout_s).stdout)
    return found


def launch(engine: Engine, name: str, **arguments: object) -> None:
    given = [word for key, value in arguments.items() for word in ("--set", f"{key}={value}")]
    engine.run("launch", "simulator", "--name", name, *given, "--wait")


def throughput(found: dict[str, Any], slots: int) -> float:
    """Of the trials well past the point."""
    return mean(t["throughput_rps"] for t in found["trials"] if t["valid"] and t["concurrency"] >= 1.3 * slots)


def test_on_a_real_slurm_six_slots_are_found_and_a_card_is_left(slurm_engine: Engine):
    launch(slurm_engine, "six", capacity=6, latency_ms=250)
    found = sweep(slurm_engine, "six", "--target", "replica", "--repeats", "1", "--max-concurrency", "12")
    assert found["serialisation"]["concurrency"] == pytest.approx(6, rel=0.01), found["warnings"]
    assert found["serialisation"]["confirmed_by"] == "vllm:num_requests_waiting"
    assert throughput(found, 6) == pytest.approx(24, rel=0.01)
    assert found["startup"]["queue_s"] >= 0 and found["startup"]["load_s"] > 0
    deadline = time.monotonic() + 2 * CARDS_S
    while not (row := slurm_engine.json("ps")[0])["measured"] and time.monotonic() < deadline:
        time.sleep(0.5)
    assert (row["slots"], row["measured"], row["card_ignored"]) == (6, True, "")
    slurm_engine.run("stop", "six")
    launch(slurm_engine, "seven", capacity=7, latency_ms=250)
    told = slurm_engine.run("ps").stdout
    assert "a capacity card of another set-up is ignored (capacity differ" in told


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_slots_throughput_and_intervals_are_true(slurm_engine: Engine):
    covered = []
    for slots, latency_ms in TRUTHS:
        name = f"s{slots}-{latency_ms}"
        launch(slurm_engine, name, capacity=slots, latency_ms=latency_ms)
        begun = time.monotonic()
        found = sweep(slurm_engine, name, "--target", "replica")
        took_s = time.monotonic() - begun
        slurm_engine.run("stop", name)
        point = found["serialisation"]
        low, high = point["ci95"]
        rate = throughput(found, slots) / (1000 * slots / latency_ms)
        print(f"{name}: {point['concurrency']:.3f} ({low:.3f} to {high:.3f}), rate {rate:.4f}, {took_s:.0f} s")
        assert point["concurrency"] == pytest.approx(slots, rel=0.03 if slots > 49 else 0.01), name
        assert point["latency_s"] == pytest.approx(latency_ms / 1000, rel=0.02), name
        assert rate == pytest.approx(1, rel=0.005), name
        # Starting Python and concluding are not part of the sweep.
        assert took_s < max(120, 0.6 * latency_ms) + 15, name
        covered.append(low <= slots <= high)
    assert sum(covered) >= 0.9 * len(covered)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_slots_of_continuous_batching_are_found_within_ten_percent(slurm_engine: Engine):
    launch(slurm_engine, "batching", capacity=16, latency_ms=200, batching="true", batch_ms=10)
    found = sweep(slurm_engine, "batching", "--target", "replica")
    assert found["serialisation"]["concurrency"] == pytest.approx(16, rel=0.1), found["warnings"]
    assert found["capacity"]["r1_s"] == pytest.approx(0.010, rel=0.2)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_shift_of_the_way_through_the_gateway_is_measured_and_told(slurm_engine: Engine):
    launch(slurm_engine, "near", capacity=6, latency_ms=60)
    points = {}
    for target in ("replica", "gateway"):
        found = sweep(slurm_engine, "near", "--target", target, "--experiment", f"near-{target}")
        points[target] = found["serialisation"]
    told = json.loads((slurm_engine.home / "experiments" / "near-gateway" / "provenance.json").read_text())
    path = told["deployments"]["near"]["path"]
    assert path["added_s"] > 0 and path["way_s"] == pytest.approx(path["direct_s"] + path["added_s"])
    assert points["gateway"]["ci95"][0] <= points["replica"]["ci95"][1]
    assert "X-Engine-Experiment" in told["admission"]


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_the_papers_figures_are_found_and_drawn_as_simulated(slurm_engine: Engine, tmp_path):
    out = tmp_path / "figures"
    argv = ("bench", "paper", "--out", str(out), "--repeats", "1", "--foreign-cpu", "1")
    told = json.loads(slurm_engine.run(*argv, "--json", timeout_s=2300).stdout)
    assert told["simulated"] and all(row["error"] < 0.03 for row in told["figures"])
    assert [row["gpus"] > 0 for row in told["figures"]] == [True] * 4
    assert (out / "latency.png").stat().st_size > 10_000 and (out / "throughput.png").exists()
    assert "simulated" in (out / "latency.svg").read_text().lower()
