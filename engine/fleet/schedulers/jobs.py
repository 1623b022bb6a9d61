"""What a scheduler tells: Job and Node, what they mean in plain words, and the contract of schedulers."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from engine.fleet.schedulers import reasons

# Slurm's own words (squeue(1), JOB STATE CODES). A state in none of these sets counts as alive: unknown is not gone.
WAITING = frozenset({"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"})
RUNNING = frozenset({"RUNNING", "CONFIGURING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING"})
ENDED = frozenset(
    {"COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "DEADLINE", "OUT_OF_MEMORY",
     "REVOKED"}
)  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One job as the scheduler shows it. Times are UTC; `comment` is ours and tells whose replica it is.

    `exit_code` is `code:signal`, empty where the scheduler's list does not show it. `expected_start_at` is
    the scheduler's guess for a waiting job.
    """

    id: str
    name: str
    state: str
    reason: str = ""
    nodes: str = ""
    user: str = ""
    partition: str = ""
    gres: str = ""
    comment: str = ""
    priority: int | None = None
    submitted_at: datetime | None = None
    started_at: datetime | None = None
    ends_at: datetime | None = None
    exit_code: str = ""
    expected_start_at: datetime | None = None

    @property
    def waiting(self) -> bool:
        return self.state in WAITING

    @property
    def ended(self) -> bool:
        return self.state in ENDED


@dataclass(frozen=True)
class Node:
    """One node of the cluster; `gpus` maps a GPU type to how many there are, `gpus_used` to how many are taken."""

    name: str
    state: str
    partitions: tuple[str, ...]
    cpus: int
    cpus_used: int
    mem_gb: float
    gpus: dict[str, int]
    gpus_used: dict[str, int]
    reason: str = ""
    mem_gb_used: float = 0.0


class Scheduler(Protocol):
    """The contract of Slurm and LocalScheduler.

    Every method raises SchedulerUnreachable when there is no answer within its deadline; then nothing is known.
    """

    name: str

    def submit(self, script: Path) -> str:
        """Submits a .slurm script and returns the job id; raises SubmitFailed with the scheduler's own words."""

    def jobs(self) -> list[Job]:
        """All of this user's jobs that the scheduler still shows, ended ones included."""

    def ended_jobs(self, job_ids: Iterable[str]) -> list[Job]:
        """What accounting remembers of these jobs; empty where there is no accounting."""

    def signal(self, job_id: str, signal: str) -> None:
        """Sends a signal (`USR1`) to the batch shell alone."""

    def cancel(self, job_id: str) -> None:
        """Ends a job; a job that is gone already is no error."""

    def expected_start(self, script: Path) -> datetime | None:
        """When the scheduler would start this script; nothing is submitted."""

    def nodes(self) -> list[Node]: ...


def explain(job: Job) -> str:
    """What state and reason of a job mean; what we have no words for is given in Slurm's own."""
    if job.state in WAITING:
        return _pending(job)
    if job.state in ENDED:
        return _ended(job)
    words = reasons.LIVE.get(job.state, job.state)
    return f"{words} on {job.nodes}" if job.nodes and words == "running" else words


def _pending(job: Job) -> str:
    reason = job.reason or "None"
    families = (text for start, text in reasons.PREFIXES.items() if reason.startswith(start))
    words = reasons.PENDING.get(reason) or next(families, "waiting")
    known = f"{words} ({reason})" if job.reason else words
    expected = f"; expected to start at {job.expected_start_at:%Y-%m-%d %H:%M} UTC" if job.expected_start_at else ""
    return known + expected


def _ended(job: Job) -> str:
    words = reasons.ENDED[job.state]
    if job.reason in reasons.PENDING and job.reason not in ("None", "NodeDown"):
        return f"{words}: {reasons.PENDING[job.reason]} ({job.reason})"
    if job.state != "FAILED":
        return f"{words} ({job.state})"
    return f"{words}: {job.reason}" if " " in job.reason else f"{words}{_exit(job.exit_code)} (FAILED)"


def _exit(exit_code: str) -> str:
    code, _, signal = exit_code.partition(":")
    if signal not in ("", "0"):
        return f", killed by signal {signal}"
    return f", exit code {code}" if code not in ("", "0") else ""
