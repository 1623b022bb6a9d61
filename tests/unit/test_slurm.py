"""Slurm's thin shell, with a plain function in the place of its commands."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from engine.errors import SchedulerError, SchedulerUnreachable, SubmitFailed
from engine.fleet.run import Completed, run
from engine.fleet.schedulers.slurm import Slurm

DATA = Path(__file__).parent.parent / "data" / "slurm"
AWAY = "Unable to contact slurm controller (connect failure)"


class Commands:
    """Answers by the command's name, and keeps what was asked."""

    def __init__(self, **answers: Completed | Exception | Callable[[Sequence[str]], Completed]) -> None:
        self.answers, self.asked = answers, list[list[str]]()

    def __call__(self, argv: Sequence[str], timeout_s: float) -> Completed:
        assert timeout_s > 0
        words = list(argv)
        self.left_out = {name for dash, name in pairwise(words) if dash == "-u"}
        while words[0] == "env" or words[0] == "-u" or words[0] in self.left_out or words[0] == "SLURM_TIME_FORMAT=%s":
            words.pop(0)
        self.asked.append(words)
        answer = self.answers[words[0]]
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, Completed) else answer(words)


def says(stdout: str = "", stderr: str = "", rc: int = 0) -> Completed:
    return Completed(rc, stdout, stderr)


def test_submit_returns_the_job_id(tmp_path):
    commands = Commands(sbatch=says("31;cluster\n"))
    assert Slurm(commands).submit(tmp_path / "a b.slurm") == "31"
    assert commands.asked == [["sbatch", "--parsable", str(tmp_path / "a b.slurm")]]


def test_what_people_set_for_themselves_overrules_no_option_and_filters_no_answer(tmp_path):
    """sbatch(1): environment variables override any options set in a batch script."""
    script = tmp_path / "x.slurm"
    script.write_text("#!/bin/bash\n#SBATCH --partition=gpu\n")
    theirs = (
        "SBATCH_PARTITION",
        "SBATCH_ACCOUNT",
        "SBATCH_TIMELIMIT",
        "SQUEUE_PARTITION",
        "SLURM_RESTART_COUNT",
        "SLURM_CONF",
    )
    commands = Commands(sbatch=says("31\n"), squeue=says())
    slurm = Slurm(commands, environ=dict.fromkeys(theirs, "x"))
    slurm.jobs()
    assert commands.left_out >= {"SQUEUE_PARTITION"}
    slurm.submit(script)
    assert commands.left_out >= {"SBATCH_PARTITION", "SBATCH_TIMELIMIT", "SLURM_RESTART_COUNT", "LC_ALL"}
    assert not commands.left_out & {"SBATCH_ACCOUNT", "SLURM_CONF"}


def test_a_refused_job_is_told_in_sbatchs_words(tmp_path):
    refusal = "sbatch: error: Batch job submission failed: Invalid partition name specified\n"
    with pytest.raises(SubmitFailed, match="Invalid partition name specified"):
        Slurm(Commands(sbatch=says(stderr=refusal, rc=1))).submit(tmp_path / "x.slurm")


@pytest.mark.parametrize(
    "answer",
    [
        says(stderr=f"error: {AWAY}\n", rc=1),
        says(stderr="slurm_load_jobs error: Socket timed out on send/recv operation\n", rc=1),
        TimeoutError("no answer within 20 s"),
        FileNotFoundError("no such program"),
    ],
)
def test_no_answer_is_unreachable_whatever_was_asked(answer, tmp_path):
    slurm = Slurm(Commands(sbatch=answer, squeue=answer, scancel=answer, scontrol=answer, sacct=answer))
    asking = (
        slurm.jobs, slurm.nodes, lambda: slurm.submit(tmp_path), lambda: slurm.expected_start(tmp_path),
        lambda: slurm.cancel("1"), lambda: slurm.signal("1", "USR1"), lambda: slurm.ended_jobs(["1"]),
    )  # fmt: skip
    for ask in asking:
        with pytest.raises(SchedulerUnreachable):
            ask()


def test_any_failure_of_squeue_means_that_nothing_is_known():
    with pytest.raises(SchedulerUnreachable, match="something else"):
        Slurm(Commands(squeue=says(stderr="something else", rc=1))).jobs()


def test_one_squeue_asks_for_all_of_this_users_jobs():
    commands = Commands(squeue=says((DATA / "squeue.txt").read_text()))
    assert len(Slurm(commands, user="1000").jobs()) == 15
    (asked,) = commands.asked
    assert asked[:7] == ["squeue", "-h", "-r", "-t", "all", "-u", "1000"]


def test_squeue_can_be_read_as_json():
    commands = Commands(squeue=says((DATA / "squeue-22.05.json").read_text()))
    assert len(Slurm(commands, user="0", json=True).jobs()) == 6
    assert Slurm(commands, user="1000", json=True).jobs() == []


def test_signal_goes_to_the_batch_shell_alone():
    commands = Commands(scancel=says())
    Slurm(commands).signal("31", "USR1")
    assert commands.asked == [["scancel", "--batch", "--signal=USR1", "31"]]


@pytest.mark.parametrize(
    "line", ["Kill job error on job id 2: Invalid job id specified", "Job/step already completing"]
)
def test_a_job_that_is_gone_is_no_error(line):
    Slurm(Commands(scancel=says(stderr=f"scancel: error: {line}\n", rc=1))).cancel("2")


def test_a_cancel_that_is_denied_is_an_error():
    with pytest.raises(SchedulerError, match="Access/permission denied"):
        Slurm(Commands(scancel=says(stderr="scancel: error: Access/permission denied\n", rc=1))).cancel("2")


def test_ended_jobs_come_from_accounting():
    commands = Commands(sacct=says((DATA / "sacct.txt").read_text()))
    assert [job.exit_code for job in Slurm(commands).ended_jobs(["1", "2", "3", "4"])] == ["0:0", "7:0", "0:9", "0:0"]
    assert commands.asked[0][0] == "sacct" and "1,2,3,4" in commands.asked[0]
    assert Slurm(commands).ended_jobs([]) == []


def test_without_accounting_slurmctld_is_asked_and_sacct_not_again():
    lines = {line.split()[0]: line for line in (DATA / "scontrol-jobs.txt").read_text().splitlines()}

    def scontrol(argv: Sequence[str]) -> Completed:
        line = lines.get(f"JobId={argv[-1]}")
        return says(line) if line else says(stderr="slurm_load_jobs error: Invalid job id specified", rc=1)

    commands = Commands(sacct=says(stderr="Slurm accounting storage is disabled\n", rc=1), scontrol=scontrol)
    slurm = Slurm(commands)
    assert [(job.id, job.exit_code) for job in slurm.ended_jobs(["1", "3", "999"])] == [("3", "7:0")]
    slurm.ended_jobs(["3"])
    assert [asked[0] for asked in commands.asked].count("sacct") == 1


def test_an_expected_start_of_an_impossible_job_is_refused(tmp_path):
    slurm = Slurm(
        Commands(sbatch=says(stderr="allocation failure: Requested node configuration is not available", rc=1))
    )
    with pytest.raises(SubmitFailed, match="Requested node configuration is not available"):
        slurm.expected_start(tmp_path)


def test_slurm_is_available_where_sbatch_and_sinfo_answer():
    assert Slurm.available(Commands(sbatch=says("slurm 22.05.8"), sinfo=says()))
    assert not Slurm.available(Commands(sbatch=says("slurm 22.05.8"), sinfo=says(rc=1)))
    assert not Slurm.available(Commands(sbatch=FileNotFoundError("sbatch")))
    assert not Slurm.available(Commands(sbatch=says("slurm 22.05.8"), sinfo=TimeoutError("slow")))


def test_run_returns_what_came_back():
    assert run(["sh", "-c", "echo out; echo err >&2; exit 3"], 5) == Completed(3, "out\n", "err\n")


def test_run_ends_a_program_and_its_children_at_the_deadline():
    with pytest.raises(TimeoutError, match="sh gave no answer within"):
        run(["sh", "-c", "sleep 60 & sleep 60"], 0.2)
