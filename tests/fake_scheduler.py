"""A scheduler that does what a test says: it answers, refuses, hangs, forgets, and never runs anything."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from engine.errors import SchedulerUnreachable
from engine.fleet.schedulers.batch import parse_script
from engine.fleet.schedulers.jobs import Job, Node


class FakeScheduler:
    """`submitting`, when set, is called for each submission with the script and may raise; `silent` leaves all
    unanswered.

    `asked` holds every call but `jobs`, in order; `looks` counts the calls of `jobs`.
    """

    name = "slurm"

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self.queue: dict[str, Job] = {}
        self.asked: list[tuple[str, ...]] = []
        self.looks = 0
        self.silent = False
        self.submitting: Callable[[Path], None] | None = None
        self.asking: Callable[[str, str], None] = lambda verb, job_id: None

    def submit(self, script: Path) -> str:
        self._answer()
        self.asked.append(("submit", script.name))
        if self.submitting:
            self.submitting(script)
        return self.add(script)

    def add(self, script: Path) -> str:
        """What sbatch does, said or unsaid."""
        job_id = str(100 + len(self.queue) + 1)
        request = parse_script(script.read_text(), script.name)
        self.queue[job_id] = Job(job_id, request.name, "PENDING", comment=request.comment, submitted_at=self._now())
        return job_id

    def jobs(self) -> list[Job]:
        self.looks += 1
        self._answer()
        return list(self.queue.values())

    def ended_jobs(self, job_ids: Iterable[str]) -> list[Job]:
        return []

    def signal(self, job_id: str, signal: str) -> None:
        self._tell("signal", job_id)

    def cancel(self, job_id: str) -> None:
        self._tell("cancel", job_id)
        if self.queue[job_id].waiting:
            self.become(job_id, "CANCELLED")

    def expected_start(self, script: Path) -> datetime | None:
        return None

    def nodes(self) -> list[Node]:
        return []

    def become(self, job_id: str, state: str, **more: object) -> None:
        self.queue[job_id] = replace(self.queue[job_id], state=state, **more)

    def of(self, *verbs: str) -> list[tuple[str, ...]]:
        return [call for call in self.asked if call[0] in verbs]

    def _tell(self, verb: str, job_id: str) -> None:
        self._answer()
        self.asked.append((verb, job_id))
        self.asking(verb, job_id)

    def _answer(self) -> None:
        if self.silent:
            raise SchedulerUnreachable("squeue gave no answer within 20 s")
