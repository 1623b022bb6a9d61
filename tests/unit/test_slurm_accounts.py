"""How often Slurm's commands are run, and what its accounting tells of GPU hours."""

from datetime import UTC, date, datetime

from engine.fleet.run import Completed
from engine.fleet.schedulers.accounting import Hours, hours, parse
from engine.fleet.schedulers.calls import CallLog
from engine.fleet.schedulers.parse import SEPARATOR
from engine.fleet.schedulers.slurm import Slurm

DAY = datetime(2026, 11, 27, tzinfo=UTC)
NOW = datetime(2026, 11, 28, 6, tzinfo=UTC)


NAMES = ("llama-0", "small-2-11", "llama", "small-2", "theirs-0")


def line(comment: str, tres: str, start: datetime | None, end: datetime | None, name: str = "llama-0") -> str:
    times = [str(int(at.timestamp())) if at else "Unknown" for at in (start, end)]
    return SEPARATOR.join(["1", name, "COMPLETED", tres, comment, *times])


OURS = line("engine:home:llama:0:1", "billing=4,cpu=4,gres/gpu:a100=2,gres/gpu=2,mem=8G", DAY.replace(hour=18), NOW)
RUNNING = line("engine:home:small:0:1", "cpu=1,gres/gpu=1", datetime(2026, 11, 28, 4, tzinfo=UTC), None)
OTHERS = line("", "cpu=8", DAY.replace(hour=0), DAY.replace(hour=2), "theirs")
NEVER_RAN = line("engine:home:llama:0:2", "cpu=1", None, None)


def test_gpu_hours_are_split_over_midnight_and_told_by_deployment() -> None:
    runs = parse("\n".join([OURS, RUNNING, OTHERS, NEVER_RAN, "a broken line"]))
    assert hours(runs, date(2026, 11, 1), date(2026, 11, 28), NOW, "home") == [
        Hours("2026-11-27", "", 0.0, 16.0),
        Hours("2026-11-27", "llama", 12.0, 24.0, {"a100": 12.0}),
        Hours("2026-11-28", "llama", 12.0, 24.0, {"a100": 12.0}),
        Hours("2026-11-28", "small", 2.0, 2.0, {"gpu": 2.0}),
    ]


def test_without_comments_a_job_is_told_by_its_name() -> None:
    """slurmdbd 22.05 without AccountingStoreFlags=job_comment leaves the column empty."""
    runs = parse(
        "\n".join(line("", "cpu=1,gres/gpu:a100=2,gres/gpu=2", DAY, DAY.replace(hour=1), name) for name in NAMES)
    )
    found = hours(runs, DAY.date(), DAY.date(), NOW, "home", {"llama", "small-2"})
    assert {row.deployment: row.gpu_hours for row in found} == {"": 6.0, "llama": 2.0, "small-2": 2.0}


def test_days_outside_of_the_window_are_cut_off() -> None:
    found = hours(parse(OURS), date(2026, 11, 28), date(2026, 11, 28), NOW, "home")
    assert [(row.day, row.gpu_hours) for row in found] == [("2026-11-28", 12.0)]


def test_a_slurm_without_accounting_is_no_error() -> None:
    told = Completed(1, "", "Slurm accounting storage is disabled")
    slurm = Slurm(run=lambda argv, timeout_s: told, environ={})
    assert slurm.runs(date(2026, 11, 1), date(2026, 11, 2)) is None


def test_every_call_of_the_last_hour_is_counted_by_its_program() -> None:
    clock = [0.0]
    calls = CallLog(now=lambda: clock[0])
    run = calls.counted(lambda argv, timeout_s: Completed(0, "", ""))
    run(["env", "-u", "SQUEUE_FORMAT", "SLURM_TIME_FORMAT=%s", "squeue", "-h"], 1.0)
    clock[0] = 1800.0
    run(["/usr/bin/sbatch", "x.slurm"], 1.0)
    run(["squeue"], 1.0)
    assert calls.last_hour() == {"squeue": 2, "sbatch": 1} and calls.counted_s == 1800.0
    clock[0] = 3700.0
    assert calls.last_hour() == {"sbatch": 1, "squeue": 1} and calls.counted_s == 3600.0


def test_slurm_counts_its_own_calls() -> None:
    slurm = Slurm(run=lambda argv, timeout_s: Completed(0, "", ""), environ={"SQUEUE_FORMAT": "%i"})
    slurm.jobs()
    slurm.nodes()
    assert slurm.calls.last_hour() == {"squeue": 1, "scontrol": 1}
