"""What each replica is now, derived from what was observed: jobs are Slurm's truth, addresses the host files',
readiness the probes'. Pure.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from engine.fleet.deployments import Event, Failure, Replica, Status
from engine.fleet.hosts import Endpoint, HostFile
from engine.fleet.jobs import Job, explain

# squeue may lag behind sbatch; a job is missing only when it has been so for this long.
SUBMIT_GRACE = timedelta(seconds=30)
# An sbatch that timed out may still have queued the job; after this, an answered squeue without it means that it did
# not.
UNNAMED_GRACE = timedelta(seconds=60)
FAILURES_KEPT = timedelta(minutes=30)


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


def comment(home_id: str, name: str, index: int, attempt: int) -> str:
    """The mark in a job's comment by which we know it as ours."""
    return f"engine:{home_id}:{name}:{index}:{attempt}"


def derive(status: Status, seen: Observation, home_id: str, now: datetime) -> Status:
    """The status that the observation means.

    Ended replicas that were asked to end are dropped; the others become failures.
    """
    name = status.deployment.name
    ours = {job.comment: job for job in seen.jobs or () if job.comment.startswith(f"engine:{home_id}:{name}:")}
    status = _adopt(status, ours, now)
    replicas: list[Replica] = []
    failures = [failure for failure in status.failures if now - failure.at < FAILURES_KEPT]
    for old in status.replicas:
        if not old.live:
            replicas.append(old)
            continue
        job = ours.get(comment(home_id, name, old.index, old.attempt))
        new = _derive_one(old, job, seen, status.replica_key, now)
        if new is None or (new.ended_at and _ended_as_asked(old, new)):
            continue
        if new.ended_at:
            new = replace(new, stage="failed", in_rotation=False, reason=_with_last_words(new, seen.last_line(new)))
            failures.append(Failure(new.index, new.attempt, now, old.ready_at is not None, new.reason))
        replicas.append(new)
    return replace(status, replicas=tuple(replicas), failures=tuple(failures))


def _adopt(status: Status, ours: dict[str, Job], now: datetime) -> Status:
    """Takes in jobs that carry our mark but are in no record: the record was lost, the job was not."""
    known = {(replica.index, replica.attempt) for replica in status.replicas}
    past = {(failure.index, failure.attempt) for failure in status.failures}
    adopted = []
    for mark, job in ours.items():
        *_, index, attempt = mark.split(":")
        key = (int(index), int(attempt))
        if not job.ended and key not in known | past:
            adopted.append(
                Replica(*key, status.deployment.generation, job_id=job.id, submitted_at=job.submitted_at or now)
            )
    following = max([status.next_attempt, *(replica.attempt + 1 for replica in adopted)])
    return replace(status, replicas=(*status.replicas, *adopted), next_attempt=following)


def _derive_one(old: Replica, job: Job | None, seen: Observation, key: str, now: datetime) -> Replica | None:
    if seen.jobs is None:
        return _with_lease(old, seen, key, now)
    if job is None:
        return _missing(old, seen, key, now)
    new = replace(old, job_id=job.id, job_state=job.state, reason=explain(job), node=job.nodes or old.node)
    if job.ended:
        return replace(new, ended_at=now, in_rotation=False)
    if job.waiting and job.id not in seen.fresh:
        return replace(new, stage="draining" if old.drain_asked_at else "queued", endpoint=None, in_rotation=False)
    return _with_lease(
        replace(new, started_at=job.started_at or old.started_at or now, expires_at=job.ends_at), seen, key, now
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
    lease = seen.leases.get(old.job_id)
    if lease is None:
        return _without_lease(old, now)
    fresh, refused = old.job_id in seen.fresh, old.job_id in seen.refused
    draining = old.drain_asked_at is not None or lease.stage == "draining"
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
        silent_since=None if fresh and not refused else old.silent_since or now,
        reason=_rotation_reason(fresh, refused),
    )


def _without_lease(old: Replica, now: datetime) -> Replica:
    if old.drain_asked_at:
        return replace(old, stage="draining", in_rotation=False)
    if old.ready_at:
        gone = "its host file is gone: the sidecar has left"
        return replace(old, in_rotation=False, silent_since=old.silent_since or now, reason=gone)
    if old.job_state and old.stage == "queued" and old.started_at is None:
        return old
    return replace(old, stage="loading" if old.started_at else old.stage, in_rotation=False)


def _rotation_reason(fresh: bool, refused: bool) -> str:
    if not fresh:
        return "its lease is no longer renewed"
    return "its port refuses connections" if refused else ""


def _ended_as_asked(old: Replica, new: Replica) -> bool:
    asked = old.drain_asked_at or old.cancel_asked_at
    return bool(asked) or (new.job_state == "COMPLETED" and old.stage == "draining")


def _with_last_words(replica: Replica, last_line: str) -> str:
    return f"{replica.reason}; last line of its log: {last_line}" if last_line else replica.reason


def events_between(old: Status, new: Status, now: datetime) -> list[Event]:
    """What happened to the replicas from one status to the next, in plain words."""
    before = {replica.attempt: replica for replica in old.replicas}
    after = {replica.attempt: replica for replica in new.replicas}
    name = new.deployment.name
    events = []
    for attempt, replica in after.items():
        was = before.get(attempt)
        if was is None:
            events.append(_event(now, name, "adopted", replica, f"found job {replica.job_id} running and took it over"))
        else:
            events.extend(_event(now, name, kind, replica, words) for kind, words in _changes(was, replica))
    for attempt, replica in before.items():
        if attempt not in after and replica.live:
            words = f"job {replica.job_id} ended as asked" if replica.job_id else "its job was never queued"
            events.append(_event(now, name, "ended", replica, words))
    return events


def _changes(was: Replica, now: Replica) -> list[tuple[str, str]]:
    found = []
    if now.started_at and not was.started_at:
        found.append(("started", f"job {now.job_id} started on {now.node or 'its node'}"))
    if now.ready_at and not was.ready_at and now.endpoint:
        timing = (
            f" (load {now.timing.load_s:.1f} s, first token {now.timing.first_token_s:.2f} s)" if now.timing else ""
        )
        found.append(("ready", f"answers at {now.endpoint.address}{timing}"))
    if now.stage == "failed" and was.stage != "failed":
        found.append(("failed", f"job {now.job_id}: {now.reason}"))
    elif was.serving and not now.serving and now.stage == "ready":
        found.append(("silent", f"taken out of rotation: {now.reason}"))
    elif not was.serving and now.serving and was.ready_at:
        found.append(("back", "answers again, back in rotation"))
    if now.stage == "draining" and was.stage != "draining" and not now.drain_asked_at:
        found.append(("draining", "drains before its time limit"))
    return found


def _event(at: datetime, name: str, kind: str, replica: Replica, message: str) -> Event:
    return Event(at, name, kind, message, replica.index, replica.job_id)
