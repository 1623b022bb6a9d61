"""A deployment as people and programs see it: the row of `engine ps`."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from engine.fleet.deployments import Replica, Status
from engine.fleet.hosts import Endpoint


def status_json(status: Status, in_flight: Callable[[Endpoint], int], url: str) -> dict[str, Any]:
    """One row of `engine ps --json`.

    `url` is the one address (`http://HOST:PORT`), or empty where nothing serves it.
    """
    deployment, serving = status.deployment, status.serving
    return {
        "name": deployment.name,
        "kind": deployment.kind,
        "model": deployment.model.id if deployment.model else None,
        "engine": deployment.engine,
        "simulated": deployment.engine == "simulator",
        "toy": bool(deployment.model and deployment.model.toy),
        "scheduler": deployment.scheduler,
        "stage": stage(status),
        "reason": reason(status),
        "gave_up": bool(status.gave_up),
        "wanted": deployment.replicas,
        "ready": len(serving),
        "url": address(status, url),
        "startup": _startup(serving[0]) if serving else None,
        "replicas": [_replica_json(replica, in_flight) for replica in status.replicas],
    }


def stage(status: Status) -> str:
    """One word for the whole: the furthest that any replica has come; `failed` only when no further attempt is made."""
    if status.deployment.stopping:
        return "draining"
    if status.serving:
        return "ready"
    stages = {replica.stage for replica in status.replicas}
    if status.gave_up:
        return "failed"
    if status.deployment.replicas == 0:
        return "stopped"
    return next((name for name in ("ready", "loading", "queued", "draining") if name in stages), "queued")


def reason(status: Status) -> str:
    """Why it is not ready, in plain words; empty when it is."""
    if status.gave_up:
        return status.gave_up
    if status.serving:
        return ""
    return next((replica.reason for replica in reversed(status.replicas) if replica.reason), "")


def address(status: Status, url: str) -> str:
    if not url:
        return ""
    if status.deployment.kind == "app":
        return url + status.deployment.path
    return f"{url}/deployments/{status.deployment.name}/v1"


def _replica_json(replica: Replica, in_flight: Callable[[Endpoint], int]) -> dict[str, Any]:
    return {
        "index": replica.index,
        "attempt": replica.attempt,
        "generation": replica.generation,
        "job_id": replica.job_id,
        "job_state": replica.job_state,
        "reason": replica.reason,
        "stage": replica.stage,
        "in_rotation": replica.in_rotation,
        "node": replica.node,
        "endpoint": replica.endpoint.address if replica.endpoint else None,
        "in_flight": in_flight(replica.endpoint) if replica.endpoint else 0,
        "submitted_at": _iso(replica.submitted_at),
        "started_at": _iso(replica.started_at),
        "ready_at": _iso(replica.ready_at),
        "expires_at": _iso(replica.expires_at),
        "startup": _startup(replica),
    }


def _startup(replica: Replica) -> dict[str, float] | None:
    """Start-up split in three clocks, seconds: waiting in the queue, loading, the first token.

    Queue wait is not start-up.
    """
    if not (replica.timing and replica.submitted_at and replica.started_at):
        return None
    return {
        "queue_s": round(max(0.0, (replica.started_at - replica.submitted_at).total_seconds()), 3),
        "load_s": round(replica.timing.load_s, 3),
        "first_token_s": round(replica.timing.first_token_s, 3),
    }


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat().replace("+00:00", "Z") if moment else None
