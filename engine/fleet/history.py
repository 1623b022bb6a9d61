"""What happened to the replicas from one status to the next, in plain words. Pure."""

from datetime import datetime

from engine.fleet.deployments import Event, Replica, Status


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
            kind, words = "ended", f"job {replica.job_id} ended as asked"
            if not replica.job_id:
                kind, words = "never-queued", "no job carries its mark, so its submission never reached the scheduler"
            events.append(_event(now, name, kind, replica, words))
    return events


def _changes(was: Replica, now: Replica) -> list[tuple[str, str]]:
    found = []
    if now.live and not was.live:
        found.append(("adopted", f"job {now.job_id} lives after all and is taken over again"))
    if now.job_id and not was.job_id:
        found.append(("found", f"job {now.job_id} was found by its mark"))
    if now.job_state != was.job_state and now.stage == "queued" and was.started_at:
        found.append(("requeued", f"job {now.job_id} waits in the queue again: {now.reason}"))
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
