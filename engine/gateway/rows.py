"""A deployment's row as the gateway tells it: what the fleet knows, and with it the load of this moment."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from engine.capacity import Cards
from engine.fleet.deployments import Snapshot, Status
from engine.fleet.hosts import HostFile
from engine.fleet.status import status_json
from engine.gateway.admission import Admission
from engine.gateway.routes import HasSnapshot, Routes

Leases = Mapping[tuple[str, str], HostFile]


class Rows:
    """`url` is the one address, for the rows' own urls."""

    def __init__(self, control: HasSnapshot, routes: Routes, admission: Admission, cards: Cards, url: str) -> None:
        self._control, self._routes, self._admission, self._cards, self.url = control, routes, admission, cards, url

    def all(self) -> list[dict[str, Any]]:
        snapshot = self._control.snapshot
        return [self._row(status, snapshot) for status in snapshot.statuses.values()] if snapshot else []

    def one(self, status: Status) -> dict[str, Any]:
        """With the access token, for whoever may see it."""
        token = {"access_token": status.access_token} if status.access_token else {}
        return {**self._row(status, self._control.snapshot), **_asked(status), **token}

    def queue(self) -> list[dict[str, Any]]:
        """Of each model deployment: requests in flight and waiting, how many there may be, and whether it is peak."""
        snapshot = self._control.snapshot
        models = [s for s in snapshot.statuses.values() if s.deployment.kind == "model"] if snapshot else []
        return [{"name": status.deployment.name, **self._load(status)} for status in models]

    def _row(self, status: Status, snapshot: Snapshot | None) -> dict[str, Any]:
        row = status_json(status, self._routes.in_flight, self.url)
        leases = snapshot.leases if snapshot else {}
        for replica in row["replicas"]:
            replica["load"] = _sample(leases.get((row["name"], replica["job_id"])))
        expiries = [one["expires_at"] for one in row["replicas"] if one["expires_at"] and one["stage"] != "failed"]
        load = self._load(status) if status.deployment.kind == "model" else {}
        return {
            **row,
            **load,
            "expires_at": min(expiries, default=None),
            "resources": asdict(status.deployment.resources),
        }

    def _load(self, status: Status) -> dict[str, Any]:
        """`slots` are those of one replica, `measured` whether a sweep found them; `capacity` is that of all."""
        deployment = status.deployment
        snapshot = self._control.snapshot
        known = snapshot is not None and deployment.name in snapshot.statuses
        return {
            "in_flight": self._routes.load(deployment.name),
            "queued": self._admission.queued().get(deployment.name, 0),
            "slots": self._cards.slots(deployment),
            "measured": self._cards.find(deployment) is not None,
            "card_ignored": self._cards.ignored(deployment),
            "capacity": self._routes.find(deployment.name).limit if known else 0,
            "peak": self._admission.is_peak(deployment.name),
        }


def _asked(status: Status) -> dict[str, Any]:
    """What an operator asked for, as far as it is no secret: values of variables are not told, for some are tokens."""
    deployment = status.deployment
    return {
        "created_at": deployment.created_at.isoformat().replace("+00:00", "Z"),
        "max_replicas": deployment.max_replicas,
        "generation": deployment.generation,
        "arguments": {**(deployment.model.arguments if deployment.model else {}), **deployment.arguments},
        "environment": sorted(deployment.environment),
        "command": list(deployment.command),
        "path": deployment.path,
        "precision": deployment.model.precision if deployment.model else "",
        "placement": asdict(deployment.placement),
        "drain_timeout_s": deployment.drain_timeout_s,
    }


def _sample(lease: HostFile | None) -> dict[str, Any] | None:
    """What a replica's sidecar last said of its load."""
    if lease is None:
        return None
    gpus = [asdict(gpu) for gpu in lease.gpus]
    at = lease.renewed_at.isoformat().replace("+00:00", "Z")
    return {"at": at, "busy": lease.busy, "cpu_percent": lease.cpu_percent, "gpus": gpus}
