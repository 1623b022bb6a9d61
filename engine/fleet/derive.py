"""What each replica is now, derived from what was observed: jobs are Slurm's truth, addresses the host files',
readiness the probes'. Pure.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from engine.fleet.deployments import Deployment, Failure, Replica, Status
from engine.fleet.hosts import Endpoint, HostFile
from engine.fleet.schedulers.jobs import Job, explain

# squeue may lag behind sbatch; a job is missing only when it has been so for this long.
SUBMIT_GRACE = timedelta(seconds=30)
# An sbatch that timed out may still have queued the job; after this, an answered squeue without it means that it did
# not.
UNNAMED_GRACE = timedelta(seconds=60)
FAILURES_KEPT = timedelta(minutes=30)
# Slurm may warn a job of its time limit so much too early.
WARNED_EARLY = timedelta(seconds=60)


@dataclass(frozen=True)
class Observation:
    """One look at the world. `jobs` is None when the scheduler did not answer: then nothing may be concluded about
    jobs; `jobs_at` is when it answered, for an answer may be older than a submission.

    `leases` maps a job id to its host file, `fresh` holds the ids whose lease is renewed, `refused` those whose port
    refused repeated probes. `last_line` gives the last line of a replica's log.
    """

    jobs: tuple[Job, ...] | None = None
    jobs_at: datetime | None = None
    leases: dict[str, HostFile] = field(default_factory=dict)
    fresh: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()
    last_line: Callable[[Replica], str] = lambda replica: ""


@dataclass(frozen=True)
class Mark:
    """What stands in a job's comment, by which we know it as ours."""

    home_id: str
    name: str
    index: int
    attempt: int

    def of(self, home_id: str, deployment: Deployment) -> bool:
        """Whether it marks a replica of this deployment, and not of a former one of the same name."""
        same = (self.home_id, self.name) == (home_id, deployment.name)
        return same and self.attempt >= deployment.first_attempt

    def __str__(self) -> str:
        return f"engine:{self.home_id}:{self.name}:{self.index}:{self.attempt}"

    @classmethod
    def read(cls, comment: str) -> "Mark | None":
        match comment.split(":"):
            case ["engine", home_id, name, index, attempt] if index.isdecimal() and attempt.isdecimal():
                return cls(home_id, name, int(index), int(attempt))
        return None


def derive(status: Status, seen: Observation, home_id: str, now: datetime) -> Status:
    """The status that the observation means.

    Ended replicas that were asked to end are dropped; the others become failures.
    """
    ours = _ours(status, seen.jobs or (), home_id)
    status = _adopt(status, ours, now)
    replicas: list[Replica] = []
    failures = list(status.failures)
    for old in status.replicas:
        job = ours.get(Mark(home_id, status.deployment.name, old.index, old.attempt))
        new = _derive_one(old, job, seen, status.replica_key, now) if old.live else old
        if new is None or (new.live and new.ended_at and _ended_as_asked(old, new)):
            continue
        if new.live and new.ended_at:
            was_ready = old.ready_at is not None or _lease(old, seen) is not None
            if not was_ready and _ended_of_its_limit(new, now):
                new = replace(new, reason="its time limit came before it served; ask for a longer one")
            new = replace(new, stage="failed", in_rotation=False, reason=_with_last_words(new, seen.last_line(new)))
            failures.append(Failure(new.index, new.attempt, now, was_ready, new.reason))
        replicas.append(new)
    return replace(
        status,
        replicas=_without_superseded(replicas, status.deployment.replicas),
        failures=_remembered(failures, replicas, now),
    )


def _ours(status: Status, jobs: Iterable[Job], home_id: str) -> dict[Mark, Job]:
    """Mark to job. Of several with one mark (a script submitted by hand) the one we know counts, then a living one."""
    known = {replica.job_id: replica for replica in status.replicas}
    ours = {}
    for job in sorted(jobs, key=lambda job: (job.id in known, not job.ended)):
        mark = Mark.read(job.comment) or _mark_without_comment(job, known.get(job.id), status, home_id)
        if mark and mark.of(home_id, status.deployment):
            ours[mark] = job
    return ours


def _mark_without_comment(job: Job, replica: Replica | None, status: Status, home_id: str) -> Mark | None:
    """Accounting keeps no comments unless AccountingStoreFlags has job_comment: an ended job of a known id and name."""
    if replica is None or job.comment or not job.ended:
        return None
    mark = Mark(home_id, status.deployment.name, replica.index, replica.attempt)
    return mark if job.name == f"{mark.name}-{mark.index}" else None


def _adopt(status: Status, ours: dict[Mark, Job], now: datetime) -> Status:
    """Takes in living jobs that carry our mark but have no living record: lost, or given up for dead too early."""
    known, generation = {replica.attempt for replica in status.replicas if replica.live}, status.deployment.generation
    adopted = {
        mark.attempt: Replica(mark.index, mark.attempt, generation, job_id=job.id, submitted_at=job.submitted_at or now)
        for mark, job in ours.items()
        if not job.ended and mark.attempt not in known
    }
    return replace(
        status,
        replicas=(*(known for known in status.replicas if known.attempt not in adopted), *adopted.values()),
        failures=tuple(failure for failure in status.failures if failure.attempt not in adopted),
        next_attempt=max([status.next_attempt, *(attempt + 1 for attempt in adopted)]),
    )


def _without_superseded(replicas: list[Replica], wanted: int) -> tuple[Replica, ...]:
    """Failed ones stay to be seen until another holds their place."""
    held = [replica for replica in replicas if replica.live and not replica.leaving]
    newest = {replica.index: replica.attempt for replica in sorted(held, key=lambda replica: replica.attempt)}
    if len(held) >= wanted:
        return tuple(replica for replica in replicas if replica.live)
    return tuple(replica for replica in replicas if replica.live or newest.get(replica.index, 0) < replica.attempt)


def _remembered(failures: Iterable[Failure], replicas: Iterable[Replica], now: datetime) -> tuple[Failure, ...]:
    """Early deaths count until the index serves, however long each took; the others for FAILURES_KEPT."""
    failures = tuple(failures)
    served = [(replica.index, replica.attempt) for replica in replicas if replica.ready_at]
    served += [(failure.index, failure.attempt) for failure in failures if failure.was_ready]

    def counts(failure: Failure) -> bool:
        later = any(index == failure.index and attempt >= failure.attempt for index, attempt in served)
        return not later or now - failure.at < FAILURES_KEPT

    return tuple(filter(counts, failures))


def _derive_one(old: Replica, job: Job | None, seen: Observation, key: str, now: datetime) -> Replica | None:
    if seen.jobs is None:
        return _with_lease(old, seen, key, now)
    if job is None:
        return _missing(old, seen, key, now)
    new = replace(old, job_id=job.id, job_state=job.state, reason=explain(job), node=job.nodes or old.node)
    if job.ended:
        return replace(new, ended_at=now, in_rotation=False)
    if job.waiting and job.id not in seen.fresh:
        return _waiting(new)
    return _with_lease(
        replace(new, started_at=job.started_at or old.started_at or now, expires_at=job.ends_at), seen, key, now
    )


def _waiting(replica: Replica) -> Replica:
    """In the queue. A job that was requeued begins a new life there: nothing of its former run holds."""
    return replace(
        replica,
        stage="draining" if replica.leaving else "queued",
        node="",
        endpoint=None,
        in_rotation=False,
        started_at=None,
        ready_at=None,
        expires_at=None,
        silent_since=None,
        timing=None,
    )


def _missing(old: Replica, seen: Observation, key: str, now: datetime) -> Replica | None:
    """The scheduler answered, and this job was not in the answer."""
    answered_at = seen.jobs_at or now
    age = answered_at - (old.submitted_at or answered_at)
    if not old.job_id:
        return None if age > UNNAMED_GRACE else old
    if old.job_id in seen.fresh:
        return _with_lease(replace(old, reason="the scheduler does not list its job, but it answers"), seen, key, now)
    if age < SUBMIT_GRACE:
        return _with_lease(old, seen, key, now)
    return replace(old, ended_at=now, in_rotation=False, reason="its job vanished from the scheduler's list")


def _with_lease(old: Replica, seen: Observation, key: str, now: datetime) -> Replica:
    lease = _lease(old, seen)
    fresh, refused = old.job_id in seen.fresh, old.job_id in seen.refused
    # A stale file before it was ever ready is what a former run of the job has left behind.
    if lease is None or not (fresh or old.ready_at):
        return _without_lease(old, refused, now)
    draining = old.leaving or lease.stage == "draining"
    # What the scheduler said is older than what the job itself says: a fresh lease is written by a running job.
    state = "RUNNING" if fresh and old.job_state in ("", "PENDING", "CONFIGURING") else old.job_state
    return replace(
        old,
        job_state=state,
        stage="draining" if draining else "ready",
        endpoint=Endpoint(lease.host, lease.port, key),
        in_rotation=fresh and not refused and not draining,
        node=lease.node or old.node,
        started_at=old.started_at or lease.started_at,
        ready_at=lease.ready_at,
        timing=lease.timing,
        silent_since=old.silent_since or now if refused and not fresh else None,
        reason=_rotation_reason(fresh, refused),
    )


def _lease(replica: Replica, seen: Observation) -> HostFile | None:
    """Its host file; one of another attempt was left behind by a job whose id has been used again."""
    lease = seen.leases.get(replica.job_id)
    return lease if lease and lease.attempt == replica.attempt else None


def _without_lease(old: Replica, refused: bool, now: datetime) -> Replica:
    if old.leaving:
        return replace(old, stage="draining", in_rotation=False)
    if old.ready_at:
        gone = "its host file is gone: the sidecar has left"
        return replace(old, in_rotation=False, silent_since=old.silent_since or now if refused else None, reason=gone)
    return replace(old, stage="loading" if old.started_at else old.stage, in_rotation=False)


def _rotation_reason(fresh: bool, refused: bool) -> str:
    if not fresh:
        return "its lease is no longer renewed"
    return "its port refuses connections" if refused else ""


def _ended_as_asked(old: Replica, new: Replica) -> bool:
    return old.leaving or (new.job_state == "COMPLETED" and old.stage == "draining")


def _ended_of_its_limit(ended: Replica, now: datetime) -> bool:
    """Of one that never served: warned of its time limit, half a life before it at most, it left without an error."""
    if ended.job_state != "COMPLETED" or ended.started_at is None or ended.expires_at is None:
        return False
    return ended.expires_at - now <= (ended.expires_at - ended.started_at) / 2 + WARNED_EARLY


def _with_last_words(replica: Replica, last_line: str) -> str:
    return f"{replica.reason}; last line of its log: {last_line}" if last_line else replica.reason
