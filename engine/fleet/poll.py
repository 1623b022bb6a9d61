"""One squeue for everything, seldom, and never in the way: the scheduler is asked in a thread of its own."""

import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime

from engine.errors import SchedulerUnreachable
from engine.fleet.schedulers.jobs import Job, Scheduler

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """The last answer of a scheduler. `jobs` is None while it is silent, since `silent_since`; `trouble` is why."""

    jobs: tuple[Job, ...] | None
    at: datetime
    silent_since: datetime | None = None
    trouble: str = ""


class JobPoller:
    """Asks one scheduler at most every `interval_s`; `latest` never blocks after the first answer.

    `tracked` maps the job ids that must not be lost sight of to their comment: those that the queue has forgotten are
    looked up in accounting. `calls` counts how often the scheduler was asked.
    """

    def __init__(self, scheduler: Scheduler, interval_s: float, now: Callable[[], datetime]) -> None:
        self.scheduler = scheduler
        self.calls = 0
        self._interval_s = interval_s
        self._now = now
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"poll-{scheduler.name}")
        self._asking: Future[Answer] | None = None
        self._answer: Answer | None = None

    def latest(self, tracked: Mapping[str, str]) -> Answer:
        if self._asking is None and self._is_due():
            self._asking = self._thread.submit(self._ask, dict(tracked))
        if self._asking is not None and (self._answer is None or self._asking.done()):
            self._answer, self._asking = self._asking.result(), None
        assert self._answer is not None
        return self._answer

    @property
    def last(self) -> Answer | None:
        """The last answer, without asking; safe from any thread."""
        return self._answer

    @property
    def silent_since(self) -> datetime | None:
        return self._answer.silent_since if self._answer else None

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _is_due(self) -> bool:
        # A clock that was set back must not keep us from asking.
        return self._answer is None or abs((self._now() - self._answer.at).total_seconds()) >= self._interval_s

    def _ask(self, tracked: dict[str, str]) -> Answer:
        asked_at = self._now()
        self.calls += 1
        try:
            jobs = self.scheduler.jobs()
            listed = {job.id for job in jobs}
            forgotten = self._forgotten(tracked, (job_id for job_id in tracked if job_id not in listed))
            return Answer((*jobs, *forgotten), asked_at)
        except SchedulerUnreachable as error:
            trouble = str(error)
            if self.silent_since is None:
                log.warning("%s is silent: %s", self.scheduler.name, error)
        except Exception as error:
            # An answer that we do not understand tells as little as none.
            trouble = f"its answer could not be read: {error!r}"
            if self.silent_since is None:
                log.exception("%s gave an answer that could not be read", self.scheduler.name)
        return Answer(None, asked_at, self.silent_since or asked_at, trouble)

    def _forgotten(self, tracked: Mapping[str, str], missing: Iterable[str]) -> list[Job]:
        ids = list(missing)
        if not ids:
            return []
        # Accounting may not store comments. Where it does, another one tells that the id was recycled.
        ended = [job for job in self.scheduler.ended_jobs(ids) if job.id in tracked]
        return [replace(job, comment=tracked[job.id]) for job in ended if job.comment in ("", tracked[job.id])]
