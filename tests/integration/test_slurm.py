"""Slurm(…) against a real slurmctld with four nodes and fake GPUs."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from engine.errors import SchedulerUnreachable, SubmitFailed
from engine.fleet.schedulers.jobs import Job, explain
from engine.fleet.schedulers.slurm import Slurm
from tests.cluster import Cluster, all_idle


@pytest.fixture
def slurm(cluster: Cluster) -> Iterator[Slurm]:
    yield cluster.slurm
    for job in cluster.slurm.jobs():
        if not job.ended:
            cluster.slurm.cancel(job.id)
    wait_for(lambda: all(job.ended for job in cluster.slurm.jobs()), 15)


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., Path]:
    def write(body: str, *directives: str) -> Path:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.slurm"
        lines = [f"--output={tmp_path}/%j.out", "--open-mode=append", "--no-requeue", "--mem=100M", *directives]
        path.write_text("#!/bin/bash\n" + "".join(f"#SBATCH {line}\n" for line in lines) + body + "\n")
        return path

    return write


def wait_for(done: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def job_of(slurm: Slurm, job_id: str) -> Job:
    (job,) = [job for job in slurm.jobs() if job.id == job_id]
    return job


def when(slurm: Slurm, job_id: str, state: str, timeout_s: float = 15.0) -> Job:
    wait_for(lambda: job_of(slurm, job_id).state == state, timeout_s)
    return job_of(slurm, job_id)


def text(path: Path, until: str) -> str:
    wait_for(lambda: path.exists() and until in path.read_text())
    return path.read_text()


def test_slurm_is_found_where_it_answers(cluster):
    assert Slurm.available(cluster.run)


def test_a_job_is_submitted_and_seen_with_its_comment_gres_node_and_times(slurm, script):
    directives = ("-p", "gpu-large", "--job-name=llama-0", "--comment='engine:h|x:llama:0:1'", "--time=30")
    job_id = slurm.submit(script("sleep 60", " ".join(directives), "--gres=gpu:a100:2"))
    job = when(slurm, job_id, "RUNNING")
    assert (job.name, job.comment, job.gres, job.partition) == (
        "llama-0",
        "engine:h|x:llama:0:1",
        "gpu:a100:2",
        "gpu-large",
    )
    assert job.nodes in ("n1", "n2") and explain(job) == f"running on {job.nodes}"
    assert job.started_at is not None and job.ends_at == job.started_at + timedelta(minutes=30)
    assert abs(datetime.now(UTC) - job.started_at) < timedelta(seconds=30)
    (node,) = [node for node in slurm.nodes() if node.name == job.nodes]
    assert (node.gpus, node.gpus_used, node.partitions) == ({"a100": 4}, {"a100": 2}, ("gpu-large",))


def test_json_tells_the_same_as_the_columns(cluster, slurm, script):
    job_id = slurm.submit(script("sleep 60", "--gres=gpu:l40s:1", "--comment=engine:h:x:0:1"))
    columns = when(slurm, job_id, "RUNNING")
    json = job_of(Slurm(cluster.run, json=True), job_id)
    assert (json.state, json.nodes, json.gres, json.comment) == (
        columns.state, columns.nodes, columns.gres, columns.comment
    )  # fmt: skip
    assert (json.submitted_at, json.started_at, json.ends_at) == (
        columns.submitted_at, columns.started_at, columns.ends_at
    )  # fmt: skip


def test_a_job_sees_its_own_gpus_and_not_the_locale_of_our_commands(slurm, script, tmp_path):
    wanted = ("--gres=gpu:a100:3", "-p gpu-large")
    job_id = slurm.submit(
        script("echo $SLURM_JOB_GPUS/$CUDA_VISIBLE_DEVICES/${LC_ALL-}/${SLURM_TIME_FORMAT-}.", *wanted)
    )
    assert text(tmp_path / f"{job_id}.out", ".") == "0,1,2/0,1,2//.\n"


def test_gpus_of_one_type_are_shared_out_and_the_rest_waits(slurm, script):
    jobs = [slurm.submit(script("sleep 60", "--gres=gpu:l40s:2")) for _ in range(3)]
    for job_id in jobs[:2]:
        when(slurm, job_id, "RUNNING")
    wait_for(lambda: job_of(slurm, jobs[2]).reason in ("Resources", "Priority"))
    assert "waiting" in explain(job_of(slurm, jobs[2]))
    slurm.cancel(jobs[0])
    when(slurm, jobs[2], "RUNNING", 20)


def test_a_signal_reaches_the_batch_shell_only(slurm, script, tmp_path):
    child = "bash -c 'trap \"echo child\" USR1; while :; do sleep 0.2; done'"
    job_id = slurm.submit(script(f"{child} & trap 'echo shell' USR1; echo up; while :; do wait; sleep 0.1; done"))
    output = tmp_path / f"{job_id}.out"
    text(output, "up")
    slurm.signal(job_id, "USR1")
    assert text(output, "shell") == "up\nshell\n"
    assert job_of(slurm, job_id).state == "RUNNING"


def test_a_cancelled_job_ends_and_a_gone_one_is_no_error(slurm, script):
    job_id = slurm.submit(script("sleep 60"))
    when(slurm, job_id, "RUNNING")
    slurm.cancel(job_id)
    assert "cancelled" in explain(when(slurm, job_id, "CANCELLED"))
    slurm.cancel(job_id)
    slurm.cancel("999999")
    slurm.signal(job_id, "USR1")
    slurm.signal("999999", "USR1")


def test_exit_codes_are_known_without_accounting(slurm, script):
    failed, killed = slurm.submit(script("exit 7")), slurm.submit(script("kill -9 $$"))
    when(slurm, failed, "FAILED"), when(slurm, killed, "FAILED")
    ended = {job.id: job for job in slurm.ended_jobs([failed, killed, "999999"])}
    assert {job_id: job.exit_code for job_id, job in ended.items()} == {failed: "7:0", killed: "0:9"}
    assert "exit code 7" in explain(ended[failed])


@pytest.mark.parametrize(
    ("directive", "words"),
    [
        ("--gres=gpu:a100:9", "Requested node configuration is not available"),
        ("--partition=nowhere", "Invalid partition name"),
    ],
)
def test_an_impossible_request_is_refused_in_slurms_words(slurm, script, directive, words):
    with pytest.raises(SubmitFailed, match=words):
        slurm.submit(script("true", directive))


def test_a_request_beyond_the_partitions_limit_waits_with_the_reason(slurm, script):
    job_id = slurm.submit(script("true", "--time=400-0"))
    wait_for(lambda: job_of(slurm, job_id).reason == "PartitionTimeLimit")
    assert "longer time limit than its partition allows" in explain(job_of(slurm, job_id))


def test_the_expected_start_is_told_without_submitting(slurm, script):
    start = slurm.expected_start(script("sleep 60", "--gres=gpu:l40s:1"))
    assert start is not None and abs(start - datetime.now(UTC)) < timedelta(minutes=1)
    with pytest.raises(SubmitFailed, match="Requested node configuration"):
        slurm.expected_start(script("sleep 60", "--gres=gpu:l40s:9"))


def test_short_forms_of_nodes_are_spelled_out(slurm):
    assert slurm.hostnames("n[1-2,4]") == ["n1", "n2", "n4"]
    assert slurm.hostnames("") == []


def test_a_stopped_slurmctld_is_unreachable_and_its_jobs_live_on(cluster, slurm, script):
    job_id = slurm.submit(script("sleep 60"))
    when(slurm, job_id, "RUNNING")
    cluster.stop("ctl")
    try:
        for ask in (slurm.jobs, slurm.nodes, lambda: slurm.cancel(job_id), lambda: slurm.submit(script("true"))):
            began = time.monotonic()
            with pytest.raises(SchedulerUnreachable):
                ask()
            assert time.monotonic() - began < 20
        assert not Slurm.available(cluster.run)
    finally:
        cluster.start("ctl")
    wait_for(lambda: Slurm.available(cluster.run), 30)
    assert job_of(slurm, job_id).state == "RUNNING"


def test_a_crashed_node_ends_its_job_with_node_fail(cluster, slurm, script):
    job_id = slurm.submit(script("sleep 60", "--nodelist=n4"))
    when(slurm, job_id, "RUNNING")
    cluster.crash("n4")
    try:
        assert explain(when(slurm, job_id, "NODE_FAIL", 40)) == "its node failed (NODE_FAIL)"
        (node,) = [node for node in slurm.nodes() if node.name == "n4"]
        assert "DOWN" in node.state and node.reason
    finally:
        cluster.start("n4")
    wait_for(all_idle(cluster), 40)
