"""What must not happen when things break, on a real Slurm with requests running. Each test counts the requests."""

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import httpx
import psutil
import pytest

from tests.cluster import Cluster
from tests.serving import Engine, engine, load, until

SLOW = {"capacity": "16", "latency_ms": "300"}


def launch(engine: Engine, name: str, replicas: int, **options: str) -> None:
    settings = [part for key, value in SLOW.items() for part in ("--set", f"{key}={value}")]
    extra = [part for key, value in options.items() for part in (f"--{key.replace('_', '-')}", value)]
    engine.run("launch", "simulator", "--name", name, "--replicas", str(replicas), *settings, *extra, "--wait")


def server_of(job_id: str) -> psutil.Process:
    """The inference server of a job: the simulator, not its sidecar."""
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if "engine.bench.simulator" in line and "replica.py" not in line:
            try:
                if process.environ().get("SLURM_JOB_ID") == job_id and "engine:" not in line:
                    return process
            except psutil.Error:
                continue
    raise AssertionError(f"no server of job {job_id}")


def test_a_killed_server_costs_no_request_and_is_replaced(slurm_engine: Engine) -> None:
    launch(slurm_engine, "killed", 2)
    victim = slurm_engine.row("killed")["replicas"][0]["job_id"]
    with load(slurm_engine.address, slurm_engine.key(), "killed") as seen:
        until(lambda: seen.answered > 20, 30, "load")
        server_of(victim).kill()
        until(lambda: victim not in jobs_of(slurm_engine, "killed"), 60, "the dead job leaves ps")
        slurm_engine.ready("killed", 2)
        after = seen.answered
        until(lambda: seen.answered > after + 20, 30, "load after")
    assert seen.failures == []
    assert "killed" in [event["deployment"] for event in slurm_engine.json("events") if event["kind"] == "failed"]


def jobs_of(engine: Engine, name: str) -> list[str]:
    return [replica["job_id"] for replica in engine.row(name)["replicas"] if replica["stage"] != "failed"]


def test_a_node_marked_down_costs_no_request_and_its_replica_comes_back_elsewhere(slurm_engine: Engine) -> None:
    launch(slurm_engine, "node", 2, gpus="2", gpu_type="l40s")
    row = slurm_engine.row("node")
    node = row["replicas"][0]["node"]
    assert {replica["node"] for replica in row["replicas"]} == {"n3", "n4"}
    with load(slurm_engine.address, slurm_engine.key(), "node") as seen:
        until(lambda: seen.answered > 20, 30, "load")
        subprocess.run(["scontrol", "update", f"nodename={node}", "state=down", "reason=test"], check=True)
        try:
            until(lambda: slurm_engine.row("node")["ready"] == 1, 60, "the lost replica is noticed")
            after = seen.answered
            until(lambda: seen.answered > after + 20, 30, "the other replica answers")
        finally:
            subprocess.run(["scontrol", "update", f"nodename={node}", "state=resume"], check=True)
        slurm_engine.ready("node", 2, timeout_s=120)
    assert seen.failures == []


@pytest.mark.parametrize("silence_s", [20, pytest.param(60, marks=pytest.mark.slow)])
def test_a_silent_slurmctld_kills_nothing(slurm_engine: Engine, cluster: Cluster, silence_s: int) -> None:
    launch(slurm_engine, "silent", 2)
    before = jobs_of(slurm_engine, "silent")
    with load(slurm_engine.address, slurm_engine.key(), "silent") as seen:
        until(lambda: seen.answered > 20, 30, "load")
        cluster.stop("ctl")
        try:
            time.sleep(silence_s)
        finally:
            cluster.start("ctl")
        with slurm_engine.client() as client:
            until(lambda: client.health()["scheduler_answers"], 60, "slurm answers again")
        time.sleep(5)
    assert seen.failures == []
    assert jobs_of(slurm_engine, "silent") == before
    assert [row["job_state"] for row in slurm_engine.row("silent")["replicas"]] == ["RUNNING", "RUNNING"]


def test_a_gateway_asked_to_leave_ends_its_requests_and_holds_the_others(slurm_engine: Engine) -> None:
    launch(slurm_engine, "leaving", 2)
    (worker,) = slurm_engine.workers()
    with load(slurm_engine.address, slurm_engine.key(), "leaving") as seen:
        until(lambda: seen.answered > 20, 30, "load")
        os.kill(worker, signal.SIGTERM)
        until(lambda: slurm_engine.workers() and worker not in slurm_engine.workers(), 60, "the next gateway")
        after = seen.answered
        until(lambda: seen.answered > after + 20, 30, "load after")
    assert seen.failures == []
    slurm_engine.ready("leaving", 2)


def test_a_killed_gateway_costs_at_most_its_own_requests(slurm_engine: Engine) -> None:
    clients = 8
    launch(slurm_engine, "shot", 2)
    before = jobs_of(slurm_engine, "shot")
    (worker,) = slurm_engine.workers()
    with load(slurm_engine.address, slurm_engine.key(), "shot", clients=clients) as seen:
        until(lambda: seen.answered > 20, 30, "load")
        os.kill(worker, signal.SIGKILL)
        until(lambda: slurm_engine.workers() not in ([], [worker]), 60, "the next gateway")
        after = seen.answered
        until(lambda: seen.answered > after + 20, 60, "load after")
    assert len(seen.failures) <= clients
    assert jobs_of(slurm_engine, "shot") == before


def test_scaling_down_and_up_under_load_loses_no_request(slurm_engine: Engine) -> None:
    launch(slurm_engine, "elastic", 3)
    with load(slurm_engine.address, slurm_engine.key(), "elastic", clients=12) as seen:
        until(lambda: seen.answered > 20, 30, "load")
        slurm_engine.run("scale", "elastic", "1")
        until(lambda: len(jobs_of(slurm_engine, "elastic")) == 1, 60, "two replicas gone")
        slurm_engine.run("scale", "elastic", "3")
        slurm_engine.ready("elastic", 3)
        after = dict(seen.replicas)
        until(lambda: len(seen.replicas) >= 3 and seen.replicas != after, 30, "load on the new ones")
    assert seen.failures == []


def test_a_stream_goes_on_while_its_replica_drains(slurm_engine: Engine) -> None:
    slow = ("--set", "ttft_ms=100", "--set", "itl_ms=100", "--set", "tokens=100")
    slurm_engine.run("launch", "simulator", "--name", "stream", "--replicas", "2", *slow, "--wait")
    body = {"model": "stream", "stream": True, "max_tokens": 100, "messages": [{"role": "user", "content": "go on"}]}
    headers = {"Authorization": f"Bearer {slurm_engine.key()}"}
    with httpx.stream("POST", f"{slurm_engine.address}/v1/chat/completions", json=body, headers=headers) as response:
        index = response.headers["x-engine-replica"].partition("/")[2]
        lines = response.iter_lines()
        next(lines)
        slurm_engine.run("drain", "stream", index)
        chunks = [line for line in lines if line.startswith("data:")]
    assert chunks[-1] == "data: [DONE]"
    assert len(chunks) >= 100
    slurm_engine.ready("stream", 2)


def streams(address: str, key: str, model: str, ended: threading.Event, told: list[str]) -> None:
    """One stream of some 8 s after the other, until `ended`; tells of each how it came to its end."""
    body = {"model": model, "stream": True, "max_tokens": 80, "messages": [{"role": "user", "content": "go on"}]}
    headers = {"Authorization": f"Bearer {key}"}
    while not ended.is_set():
        try:
            answer = httpx.post(f"{address}/v1/chat/completions", json=body, headers=headers, timeout=60)
            told.append("whole" if answer.text.rstrip().endswith("data: [DONE]") else answer.text[-300:])
        except httpx.HTTPError as error:
            told.append(repr(error))


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_a_walltime_is_handed_over_without_a_failed_request_or_a_cut_stream(slurm_engine: Engine) -> None:
    settings = ("--set", "ttft_ms=100", "--set", "itl_ms=100", "--set", "capacity=32", "--time-limit", "00:02:00")
    slurm_engine.run("launch", "simulator", "--name", "brief", *settings, "--wait")
    (first,) = jobs_of(slurm_engine, "brief")
    key, ended, told = slurm_engine.key(), threading.Event(), list[str]()
    streaming = threading.Thread(target=streams, args=(slurm_engine.address, key, "brief", ended, told))
    streaming.start()
    try:
        with load(slurm_engine.address, key, "brief") as seen:
            until(lambda: first not in jobs_of(slurm_engine, "brief"), 240, "the first job has ended")
            after = seen.answered
            until(lambda: seen.answered > after + 20, 30, "load on the successor")
    finally:
        ended.set()
        streaming.join(60)
    assert seen.failures == []
    assert len(told) > 5 and set(told) == {"whole"}
    history = [(event["kind"], event["job_id"]) for event in slurm_engine.json("events", "brief")]
    (ready, second), *_ = [event for event in history if event[0] == "ready" and event[1] != first]
    assert history.index((ready, second)) < history.index(("draining", first))


def test_a_job_that_dies_early_is_given_up_with_its_last_words(slurm_engine: Engine) -> None:
    slurm_engine.run("launch", "simulator", "--name", "doomed", "--set", "exit_at_start=7")
    row = until(lambda: (found := slurm_engine.row("doomed"))["stage"] == "failed" and found, 120, "given up")
    assert "3 attempts" in row["reason"]
    assert "exit" in row["reason"]
    kinds = [event["kind"] for event in slurm_engine.json("events", "doomed")]
    assert kinds.count("submitted") == 3
    assert kinds.count("gave-up") == 1


def test_the_next_serve_takes_the_running_jobs_over(tmp_path: Path, slurm_environ: dict[str, str]) -> None:
    home = tmp_path / "home"
    with engine(home, slurm_environ) as first:
        launch(first, "kept", 2)
        before = jobs_of(first, "kept")
        first.process.kill()
        first.process.wait()
        with engine(home, slurm_environ) as second:
            assert jobs_of(second, "kept") == before
            second.ready("kept", 2)
