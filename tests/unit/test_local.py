"""LocalScheduler on real small jobs."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from engine.errors import SubmitFailed
from engine.fleet.schedulers import local_job
from engine.fleet.schedulers.batch import parse_script, seconds
from engine.fleet.schedulers.jobs import Job, explain
from engine.fleet.schedulers.local import LocalScheduler


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[LocalScheduler]:
    scheduler = LocalScheduler(tmp_path / "queue", cpus=4, mem_gb=8, gpus={"a100": 2, "l40s": 1})
    yield scheduler
    for job in scheduler.jobs():
        scheduler.cancel(job.id)
    until(scheduler, lambda jobs: all(job.ended for job in jobs.values()), timeout_s=15)


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., Path]:
    def write(body: str, *directives: str) -> Path:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.slurm"
        lines = [f"--output={tmp_path}/%j.out", *directives]
        path.write_text("#!/bin/bash\n" + "".join(f"#SBATCH {line}\n" for line in lines) + body + "\n")
        return path

    return write


def until(scheduler: LocalScheduler, done: Callable[[dict[str, Job]], bool], timeout_s: float = 10) -> dict[str, Job]:
    deadline = time.monotonic() + timeout_s
    while not done(jobs := {job.id: job for job in scheduler.jobs()}):
        assert time.monotonic() < deadline, jobs
        time.sleep(0.03)
    return jobs


def ended(scheduler: LocalScheduler, job_id: str, timeout_s: float = 10) -> Job:
    return until(scheduler, lambda jobs: jobs[job_id].ended, timeout_s)[job_id]


def wait_for(done: Callable[[], bool], timeout_s: float = 5) -> None:
    deadline = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def running(pid: int) -> bool:
    return local_job.start_ticks(pid) is not None


def test_a_job_runs_with_slurms_environment_and_ends_with_its_exit_code(scheduler, script, tmp_path):
    body = (
        "echo $SLURM_JOB_ID $SLURM_JOB_NAME $SLURM_JOB_NODELIST $SLURMD_NODENAME ${CUDA_VISIBLE_DEVICES-none}; exit 7"
    )
    job_id = scheduler.submit(script(body, "--job-name=llama-0", "--comment='engine:h|x:llama:0:1'", "--time=5"))
    job = ended(scheduler, job_id)
    assert (job.state, job.exit_code, job.name, job.comment) == ("FAILED", "7:0", "llama-0", "engine:h|x:llama:0:1")
    assert (tmp_path / f"{job_id}.out").read_text() == f"{job_id} llama-0 localhost localhost none\n"
    assert explain(job) == "ended with an error, exit code 7 (FAILED)"


def test_a_job_that_succeeds_is_completed_and_its_time_limit_is_known(scheduler, script):
    job = scheduler.submit(script("sleep 0.3", "--time=1:00:00"))
    live = until(scheduler, lambda jobs: jobs[job].state == "RUNNING")[job]
    assert live.ends_at is not None and live.started_at is not None
    assert live.ends_at - live.started_at == timedelta(hours=1)
    assert ended(scheduler, job).exit_code == "0:0"
    assert [found.id for found in scheduler.ended_jobs([job, "99"])] == [job]


def test_ids_are_never_given_twice(scheduler, script):
    ids = [scheduler.submit(script("true")) for _ in range(3)]
    assert ids == sorted(set(ids), key=int)
    assert LocalScheduler(scheduler.root, cpus=4).submit(script("true")) not in ids


def test_first_in_first_out_by_cpus(scheduler, script):
    first = scheduler.submit(script("sleep 30", "--cpus-per-task=3"))
    big = scheduler.submit(script("true", "--cpus-per-task=2"))
    small = scheduler.submit(script("true", "--cpus-per-task=1"))
    jobs = {job.id: job for job in scheduler.jobs()}
    assert [jobs[i].state for i in (first, big, small)] == ["RUNNING", "PENDING", "PENDING"]
    assert [jobs[i].reason for i in (big, small)] == ["Resources", "Priority"]
    scheduler.cancel(first)
    assert ended(scheduler, small).state == ended(scheduler, big).state == "COMPLETED"


def test_memory_is_counted(scheduler, script):
    scheduler.submit(script("sleep 30", "--mem=6G"))
    waiting = scheduler.submit(script("true", "--mem=3000M"))
    assert {job.id: job.state for job in scheduler.jobs()}[waiting] == "PENDING"


def test_each_job_gets_gpus_of_its_own_type(scheduler, script, tmp_path):
    wanted = ("--gres=gpu:l40s:1", "--gres=gpu:a100:1", "--gpus-per-node=a100:1")
    ids = [scheduler.submit(script("echo $CUDA_VISIBLE_DEVICES; sleep 30", gres)) for gres in wanted]
    wait_for(lambda: all((tmp_path / f"{i}.out").exists() and (tmp_path / f"{i}.out").read_text() for i in ids))
    assert [(tmp_path / f"{i}.out").read_text().strip() for i in ids] == ["2", "0", "1"]
    (node,) = scheduler.nodes()
    assert (node.gpus_used, node.cpus_used, node.state) == ({"a100": 2, "l40s": 1}, 3, "MIXED")
    assert {job.id: job.gres for job in scheduler.jobs()}[ids[0]] == "gpu:l40s:1"


@pytest.mark.parametrize(
    ("directive", "words"),
    [
        ("--cpus-per-task=5", "asks for 5 CPUs, the local scheduler has 4"),
        ("--mem=9G", "asks for 9 GB of memory, this machine has 8.0"),
        ("--gres=gpu:a100:3", "asks for 3 a100 GPUs, this machine has"),
        ("--gres=gpu:h100:1", "asks for 1 h100 GPU, this machine has"),
        ("--nodes=2", "asks for 2 nodes"),
        ("--time=soon", "invalid time limit 'soon'"),
    ],
)
def test_what_can_never_run_is_refused_at_submit(scheduler, script, directive, words):
    with pytest.raises(SubmitFailed, match=words):
        scheduler.submit(script("true", directive))
    assert scheduler.jobs() == []


def test_a_script_that_is_none_is_refused(scheduler, tmp_path):
    (tmp_path / "x").write_text("echo hello\n")
    with pytest.raises(SubmitFailed, match="does not look like a batch script"):
        scheduler.submit(tmp_path / "x")
    with pytest.raises(SubmitFailed, match="cannot read"):
        scheduler.submit(tmp_path / "missing")


def test_an_output_that_cannot_be_opened_fails_the_job_with_the_reason(scheduler, script, tmp_path):
    job = ended(scheduler, scheduler.submit(script("true", f"--output={tmp_path}/no/such/%j.out")))
    assert job.state == "FAILED"
    assert "No such file" in explain(job)


def test_output_is_truncated_or_appended_as_asked(scheduler, script, tmp_path):
    (tmp_path / "kept").write_text("before\n")
    (tmp_path / "lost").write_text("before\n")
    kept = scheduler.submit(script("echo x", f"--output={tmp_path}/kept", "--open-mode=append"))
    lost = scheduler.submit(script("echo x", f"--output={tmp_path}/lost"))
    ended(scheduler, kept), ended(scheduler, lost)
    assert (tmp_path / "kept").read_text() == "before\nx\n"
    assert (tmp_path / "lost").read_text() == "x\n"


def test_a_signal_reaches_the_batch_shell_alone(scheduler, script, tmp_path):
    child = "bash -c 'trap \"echo child\" USR1; while :; do sleep 0.1; done'"
    body = f"{child} & trap 'echo shell; exit 0' USR1; echo up; wait"
    job = scheduler.submit(script(body))
    output = tmp_path / f"{job}.out"
    wait_for(lambda: output.exists() and "up" in output.read_text())
    scheduler.signal(job, "USR1")
    assert ended(scheduler, job, timeout_s=12).state == "COMPLETED"
    assert output.read_text() == "up\nshell\n"


def test_the_early_signal_comes_before_the_time_limit(scheduler, script, tmp_path):
    body = "trap 'echo early' USR1; while :; do sleep 0.05; done"
    job = ended(scheduler, scheduler.submit(script(body, "--time=0:2", "--signal=B:USR1@1")), timeout_s=12)
    assert job.state == "TIMEOUT"
    assert (tmp_path / f"{job.id}.out").read_text() == "early\n"
    assert job.started_at is not None and job.ends_at is not None
    assert 1.9 < (job.ends_at - job.started_at).total_seconds() < 4


def test_cancel_ends_every_process_of_the_job_and_kills_what_does_not_listen(scheduler, script, tmp_path):
    body = "(trap '' TERM; setsid env -i bash -c 'trap \"\" TERM; echo $$; while :; do sleep 1; done' &) ; sleep 60"
    job = scheduler.submit(script(body))
    output = tmp_path / f"{job}.out"
    wait_for(lambda: output.exists() and output.read_text().strip().isdecimal())
    stubborn = int(output.read_text())
    scheduler.cancel(job)
    assert ended(scheduler, job, timeout_s=12).state == "CANCELLED"
    assert not running(stubborn)
    scheduler.cancel(job)
    scheduler.cancel("99")
    scheduler.signal("99", "USR1")


def test_a_waiting_job_is_cancelled_without_ever_starting(scheduler, script, tmp_path):
    scheduler.submit(script("sleep 30", "--cpus-per-task=4"))
    waiting = scheduler.submit(script("echo ran"))
    scheduler.cancel(waiting)
    assert ended(scheduler, waiting).state == "CANCELLED"
    assert not (tmp_path / f"{waiting}.out").exists()


def test_what_a_script_leaves_running_ends_with_it(scheduler, script, tmp_path):
    job = scheduler.submit(script("setsid sleep 60 & echo $!"))
    assert ended(scheduler, job).state == "COMPLETED"
    assert not running(int((tmp_path / f"{job}.out").read_text()))


def test_jobs_survive_the_process_that_submitted_them(scheduler, script, tmp_path):
    code = (
        "import sys; from pathlib import Path; from engine.fleet.schedulers.local import LocalScheduler;"
        "print(LocalScheduler(Path(sys.argv[1]), cpus=4, gpus={}).submit(Path(sys.argv[2])))"
    )
    path = script("sleep 0.5; echo still here")
    submitter = [sys.executable, "-c", code, str(scheduler.root), str(path)]
    job = subprocess.run(submitter, check=True, capture_output=True, text=True, cwd=Path.cwd()).stdout.strip()
    assert ended(scheduler, job).state == "COMPLETED"
    assert (tmp_path / f"{job}.out").read_text() == "still here\n"


def runner_of(scheduler: LocalScheduler, job: str) -> dict[str, int]:
    path = scheduler.root / "jobs" / job / "runner.json"
    wait_for(lambda: path.exists() and "shell" in json.loads(path.read_text()))
    runner: dict[str, int] = json.loads(path.read_text())
    return runner


def test_a_job_whose_runner_is_killed_fails_and_leaves_nothing_behind(scheduler, script):
    job = scheduler.submit(script("sleep 60"))
    runner = runner_of(scheduler, job)
    os.kill(runner["pid"], signal.SIGKILL)
    assert ended(scheduler, job).state == "FAILED"
    wait_for(lambda: not running(runner["shell"]))


def test_a_stranger_with_a_reused_pid_is_never_signalled(scheduler, script):
    job = scheduler.submit(script("sleep 60"))
    runner = runner_of(scheduler, job)
    with subprocess.Popen(["sleep", "60"]) as stranger:
        path = scheduler.root / "jobs" / job / "runner.json"
        path.write_text(json.dumps({**runner, "pid": stranger.pid, "shell": stranger.pid}))
        scheduler.signal(job, "USR1")
        scheduler.cancel(job)
        assert ended(scheduler, job).state == "FAILED"
        assert stranger.poll() is None
        stranger.kill()
    with contextlib.suppress(ProcessLookupError):
        os.kill(runner["pid"], signal.SIGTERM)


def test_after_a_reboot_the_jobs_are_lost_and_nobody_is_killed(scheduler, script):
    job = scheduler.submit(script("sleep 60"))
    runner = runner_of(scheduler, job)
    path = scheduler.root / "jobs" / job / "runner.json"
    path.write_text(json.dumps({**runner, "boot": "another"}))
    scheduler.signal(job, "USR1")
    assert ended(scheduler, job).state == "NODE_FAIL"
    assert running(runner["shell"])
    os.kill(runner["pid"], signal.SIGTERM)
    wait_for(lambda: not running(runner["pid"]))


def test_ended_jobs_are_forgotten_after_a_day(scheduler, script):
    job = scheduler.submit(script("true"))
    ended(scheduler, job)
    end = scheduler.root / "jobs" / job / "end.json"
    old = (datetime.now(UTC) - timedelta(hours=25)).isoformat()
    end.write_text(json.dumps({**json.loads(end.read_text()), "ended_at": old}))
    assert scheduler.jobs() == []
    assert int(scheduler.submit(script("true"))) > int(job)


def test_two_processes_share_one_queue_without_starting_a_job_twice(scheduler, script, tmp_path):
    code = (
        "import sys; from pathlib import Path; from engine.fleet.schedulers.local import LocalScheduler;"
        "s = LocalScheduler(Path(sys.argv[1]), cpus=4, gpus={});"
        "[(s.submit(Path(sys.argv[2])), s.jobs()) for _ in range(5)]"
    )
    path = script(f"echo x >> {tmp_path}/count")
    submitter = [sys.executable, "-c", code, str(scheduler.root), str(path)]
    for process in [subprocess.Popen(submitter) for _ in range(2)]:
        assert process.wait(30) == 0
    until(scheduler, lambda jobs: len(jobs) == 10 and all(job.ended for job in jobs.values()))
    assert (tmp_path / "count").read_text() == "x\n" * 10


def test_the_expected_start_is_now_or_unknown(scheduler, script):
    assert scheduler.expected_start(script("true")) is not None
    scheduler.submit(script("sleep 30", "--cpus-per-task=4"))
    assert scheduler.expected_start(script("true")) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90", 5400),
        ("1:30", 90),
        ("2:00:00", 7200),
        ("1-12", 129600),
        ("1-0:30", 88200),
        ("0-0:0:5", 5),
        ("UNLIMITED", 0),
    ],
)
def test_time_limits_are_read_as_slurm_reads_them(text, expected):
    assert seconds(text) == expected


def test_directives_are_read_in_every_spelling_and_only_before_the_first_command():
    text = """#!/bin/bash -l
#SBATCH -J short -c2
#SBATCH --mem 2G --gres=gpu  # a remark
# a comment
#SBATCH --signal=B:USR1@30
true
#SBATCH --mem=100G
"""
    request = parse_script(text, "script")
    assert (request.name, request.cpus, request.mem_gb, request.gpus) == ("short", 2, 2.0, {"gpu": 1})
    assert (request.signal, request.signal_lead_s, request.signal_shell_only) == ("USR1", 30, True)
    assert request.interpreter == ("/bin/bash", "-l")
