"""Doing what the plan says: submit, drain, cancel, give up, forget.

Each step is recorded before or after it so that it can be resumed.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from engine.errors import ConfigurationError, SchedulerError, SchedulerUnreachable, SubmitFailed
from engine.fleet import render
from engine.fleet.deployments import Deployment, Failure, Replica, folder, write_atomically
from engine.fleet.derive import Mark
from engine.fleet.plan import Cancel, Drain, Forget, GiveUp, Submit, plan
from engine.fleet.poll import Answer, JobPoller
from engine.fleet.roster import Roster
from engine.fleet.schedulers.jobs import Job
from engine.site import Site

log = logging.getLogger(__name__)


class Actor:
    """Carries out a deployment's plan. While a scheduler is silent nothing is asked of it; the plan asks again next
    time.

    `publish` makes the present state known to the gateway and NGINX at once.
    """

    def __init__(
        self,
        roster: Roster,
        pollers: dict[str, JobPoller],
        site: Site,
        templates: Path,
        publish: Callable[[], None],
    ) -> None:
        self._roster, self._pollers = roster, pollers
        self._site, self._templates, self._publish = site, templates, publish
        self._unanswered: dict[str, Answer | None] = {}

    def settle(self, name: str, strict: bool = False) -> None:
        """Plans and acts once. With `strict` a refused submission is raised instead of recorded."""
        warned = timedelta(seconds=render.lead_s(self._roster[name].deployment, self._site))
        for action in plan(self._roster[name], self._roster.now(), warned):
            match action:
                case Submit(index):
                    self._submit(name, index, strict)
                case Drain():
                    self.drain(name, action)
                case Cancel(replica, why):
                    self._cancel(name, replica, why)
                case GiveUp(reason):
                    self._roster.keep(replace(self._roster[name], gave_up=reason))
                    self._roster.say(name, "gave-up", f"{reason}; `engine restart {name}` tries again")
                case Forget():
                    self._roster.say(name, "gone", "every replica has ended")
                    self._roster.archive(name)

    def script(self, deployment: Deployment, index: int, attempt: int) -> str:
        site = self._site if deployment.scheduler == "slurm" else self._site.on_this_machine()
        return render.job(
            deployment,
            index=index,
            attempt=attempt,
            site=site,
            folder=folder(self._roster.home, deployment.name),
            templates=self._templates,
            home_id=self._roster.home_id,
        )

    def drain(self, name: str, action: Drain) -> None:
        """Out of rotation first, for the gateway and NGINX, then the signal: whoever leaves is sent nothing more."""
        replica, scheduler = action.replica, self._roster[name].deployment.scheduler
        if not replica.drain_asked_at:
            replica = replace(replica, stage="draining", in_rotation=False, drain_asked_at=self._roster.now())
            self._roster.change(name, replica)
            self._roster.say(name, "draining", action.why, replica)
            self._publish()
        if not replica.job_id or self._silent(scheduler):
            return
        if replica.started_at is None:
            self._cancel(name, replica, "it had not started")
            return
        try:
            self._pollers[scheduler].scheduler.signal(replica.job_id, "USR1")
            self._roster.change(name, replace(replica, signalled_at=self._roster.now()))
        except SchedulerError as error:
            self._note(scheduler, error)
            log.warning("signal to job %s is tried again: %s", replica.job_id, error)

    def cancel_orphans(self, scheduler: str, jobs: Iterable[Job]) -> None:
        """Ends jobs with this home's mark whose deployment is no more; nobody else could ever stop them."""
        for job in jobs:
            mark = Mark.read(job.comment)
            if job.ended or not mark or mark.home_id != self._roster.home_id or self._silent(scheduler):
                continue
            if mark.name in self._roster.damaged:
                continue
            if mark.name in self._roster and mark.of(mark.home_id, self._roster[mark.name].deployment):
                continue
            log.warning("job %s belongs to deployment %s, which is no more: cancelled", job.id, mark.name)
            try:
                self._pollers[scheduler].scheduler.cancel(job.id)
            except SchedulerError as error:
                self._note(scheduler, error)
                log.warning("cancelling job %s is tried again: %s", job.id, error)

    def withdraw(self, name: str) -> None:
        """Ends whatever a failed launch has submitted."""
        for replica in self._roster[name].replicas:
            self._cancel(name, replica, "the launch failed")

    def _submit(self, name: str, index: int, strict: bool) -> None:
        """The record is saved before sbatch is called, the id after: a crash in between is found by the mark."""
        status = self._roster[name]
        if self._silent(status.deployment.scheduler):
            return
        replica = Replica(index, status.next_attempt, status.deployment.generation, submitted_at=self._roster.now())
        others = tuple(known for known in status.replicas if known.live or known.index != index)
        self._roster.keep(replace(status, replicas=(*others, replica), next_attempt=replica.attempt + 1))
        try:
            scheduler = self._pollers[status.deployment.scheduler].scheduler
            job_id = scheduler.submit(self._write_script(status.deployment, replica))
        except SchedulerUnreachable as error:
            self._note(status.deployment.scheduler, error)
            words = f"submitting gave no answer; its job is looked for by its comment: {error}"
            self._roster.say(name, "unsure", words, replica)
            return
        except (SubmitFailed, ConfigurationError) as error:
            if strict:
                raise
            self._submit_failed(name, replica, str(error))
            return
        replica = replace(replica, job_id=job_id)
        self._roster.change(name, replica)
        self._roster.say(name, "submitted", f"job {job_id}, attempt {replica.attempt}", replica)

    def _submit_failed(self, name: str, replica: Replica, reason: str) -> None:
        now = self._roster.now()
        self._roster.change(name, replace(replica, stage="failed", reason=reason, ended_at=now))
        status = self._roster[name]
        failure = Failure(replica.index, replica.attempt, now, False, reason)
        self._roster.keep(replace(status, failures=(*status.failures, failure)))
        self._roster.say(name, "failed", reason, replica)

    def _cancel(self, name: str, replica: Replica, why: str) -> None:
        scheduler = self._roster[name].deployment.scheduler
        if not replica.job_id or self._silent(scheduler):
            return
        try:
            self._pollers[scheduler].scheduler.cancel(replica.job_id)
        except SchedulerError as error:
            self._note(scheduler, error)
            log.warning("cancelling job %s is tried again: %s", replica.job_id, error)
            return
        self._roster.change(name, replace(replica, in_rotation=False, cancel_asked_at=self._roster.now()))
        self._roster.say(name, "cancelled", why, replica)

    def _write_script(self, deployment: Deployment, replica: Replica) -> Path:
        path = folder(self._roster.home, deployment.name).scripts / f"{replica.index}-{replica.attempt}.slurm"
        write_atomically(path, self.script(deployment, replica.index, replica.attempt), mode=0o700)
        return path

    def _note(self, scheduler: str, error: SchedulerError) -> None:
        if isinstance(error, SchedulerUnreachable):
            self._unanswered[scheduler] = self._pollers[scheduler].last

    def _silent(self, scheduler: str) -> bool:
        """A scheduler that is not here at all is as silent as one that does not answer. One that let us wait in vain is
        asked again once it has told its jobs: each such wait holds up everything.
        """
        if scheduler not in self._pollers or self._pollers[scheduler].silent_since is not None:
            return True
        last = self._pollers[scheduler].last
        return last is not None and self._unanswered.get(scheduler) is last
