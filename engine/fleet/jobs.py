"""What a scheduler tells: Job and Node, and pure parsers of squeue, sacct and sinfo output."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

# Slurm's own words (squeue(1), JOB STATE CODES). A state in none of these sets is treated as alive: unknown is not gone.
WAITING = frozenset({"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"})
RUNNING = frozenset({"RUNNING", "CONFIGURING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING"})
ENDED = frozenset(
    {"COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "DEADLINE", "OUT_OF_MEMORY",
     "REVOKED"}
)  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One job as the scheduler shows it. Times are UTC; `comment` is ours and tells whose replica it is."""

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
