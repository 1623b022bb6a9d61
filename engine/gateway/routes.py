"""What the gateway may send to now: targets, made of the controller's snapshot, that live as their replica serves."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

from engine import capacity
from engine.errors import EngineError, UnknownName
from engine.fleet.deployments import Deployment, Replica, Snapshot, Status
from engine.fleet.hosts import Endpoint
from engine.gateway.balancer import NEVER, Breaker
from engine.gateway.protocol import Refusal, Refused, starting
from engine.gateway.upstream import Upstream

FIRST_SNAPSHOT_S = 10.0


class HasSnapshot(Protocol):
    """The part of the controller that the hot path sees; None before its first tick."""

    @property
    def snapshot(self) -> Snapshot | None: ...


class Target:
    """One serving replica with its connections and what is going on with it."""

    __slots__ = ("breaker", "capacity", "endpoint", "expires_at", "head", "in_flight", "label", "name", "upstream")

    def __init__(self, name: str, replica: Replica, endpoint: Endpoint, upstream: Upstream) -> None:
        self.name, self.endpoint, self.upstream = name, endpoint, upstream
        self.label = f"{name}/{replica.index}".encode()
        authorization = f"authorization: Bearer {endpoint.key}\r\n" if endpoint.key else ""
        self.head = f"host: {endpoint.address}\r\n{authorization}".encode()
        self.breaker = Breaker()
        self.in_flight = 0
        self.capacity = 0.0
        self.expires_at = NEVER


@dataclass(frozen=True, slots=True)
class Route:
    """What a `model` leads to. `alias` tells that it was named by its catalogue id, which the replica does not know.
    `limit` is how many requests its targets can work on at once.
    """

    status: Status
    targets: tuple[Target, ...]
    alias: bool = False
    limit: int = 0

    @property
    def name(self) -> str:
        return self.status.deployment.name

    @property
    def names(self) -> tuple[str, ...]:
        """The names by which a key may open it: the deployment's and its model's in the catalogue."""
        model = self.status.deployment.model
        return (self.name, model.id) if model else (self.name,)


TargetKey = tuple[str, int, int, Endpoint]


class Routes:
    """Model names to routes, rebuilt when the controller has published a new snapshot."""

    def __init__(self, controller: HasSnapshot, slots: Callable[[Deployment], int] | None = None) -> None:
        """`slots` tells how many requests one replica of a deployment can work on; without it, its arguments do.

        `deadlines` are those of Upstream, for targets that are yet to come.
        """
        self._controller = controller
        self._slots = slots or (lambda deployment: capacity.slots(deployment, None))
        self.deadlines: dict[str, float] = {}
        self._seen: Snapshot | None = None
        self._routes: dict[str, Route] = {}
        self._targets: dict[TargetKey, Target] = {}
        self._leaving: list[Target] = []
        self.first_snapshot_s = FIRST_SNAPSHOT_S

    async def wait(self) -> None:
        """Until the controller has looked once; raises Refused (503) after `first_snapshot_s`."""
        waited_s = 0.0
        while self._controller.snapshot is None:
            if waited_s >= self.first_snapshot_s:
                text = "the controller has not looked at its deployments yet"
                raise Refused(Refusal(503, text, "api_error", "starting", retry_after_s=5))
            await asyncio.sleep(0.05)
            waited_s += 0.05

    @property
    def ready(self) -> bool:
        return self._controller.snapshot is not None

    def find(self, model: str) -> Route:
        """The route of a deployment's name or a catalogue id; raises UnknownName with the known models."""
        if self._controller.snapshot is not self._seen:
            self._rebuild()
        route = self._routes.get(model)
        if route is None:
            raise UnknownName("model", model, self.names())
        return route

    def serving(self, model: str) -> Route:
        """`find`, but a route without any target is Refused (503) with the reason in words."""
        route = self.find(model)
        if not route.targets:
            raise Refused(starting(route.status))
        return route

    def limit(self, name: str) -> int:
        """How many requests a deployment can work on at once; raises as `serving` does."""
        return self.serving(name).limit

    def names(self) -> list[str]:
        """Names of the model deployments."""
        snapshot = self._controller.snapshot
        statuses = snapshot.statuses.values() if snapshot else ()
        return [s.deployment.name for s in statuses if s.deployment.kind == "model"]

    def access_token(self, name: str) -> str:
        """Of a deployment by its name; empty when there is none such."""
        snapshot = self._controller.snapshot
        status = snapshot.statuses.get(name) if snapshot else None
        return status.access_token if status else ""

    def in_flight(self, endpoint: Endpoint) -> int:
        """Requests that are with a replica now, one that drains included."""
        return sum(t.in_flight for t in (*self._targets.values(), *self._leaving) if t.endpoint == endpoint)

    def load(self, name: str) -> int:
        """Requests that are with all replicas of a deployment now."""
        return sum(t.in_flight for t in (*self._targets.values(), *self._leaving) if t.name == name)

    def close(self) -> None:
        for target in (*self._targets.values(), *self._leaving):
            target.upstream.abort(EngineError("the gateway is shutting down"))
        self._targets, self._leaving, self._routes, self._seen = {}, [], {}, None

    def _rebuild(self) -> None:
        snapshot = self._controller.snapshot
        assert snapshot is not None
        targets: dict[TargetKey, Target] = {}
        routes: dict[str, Route] = {}
        models = [s for s in snapshot.statuses.values() if s.deployment.kind == "model"]
        for status in models:
            slots = self._slots(status.deployment)
            found = tuple(self._target(status, replica, slots, targets) for replica in status.serving)
            routes[status.deployment.name] = Route(status, found, limit=slots * len(found))
        for status in sorted(models, key=lambda s: (not s.serving, s.deployment.created_at, s.deployment.name)):
            model = status.deployment.model
            if model is not None and model.id not in routes:
                routes[model.id] = replace(routes[status.deployment.name], alias=True)
        gone = [self._targets[key] for key in self._targets.keys() - targets.keys()]
        for target in gone:
            target.upstream.close()
        self._leaving = [target for target in (*self._leaving, *gone) if target.in_flight]
        self._routes, self._targets, self._seen = routes, targets, snapshot

    def _target(self, status: Status, replica: Replica, slots: int, targets: dict[TargetKey, Target]) -> Target:
        assert replica.endpoint is not None
        name = status.deployment.name
        key = (name, replica.index, replica.attempt, replica.endpoint)
        target = self._targets.get(key)
        if target is None:
            target = Target(name, replica, replica.endpoint, Upstream(replica.endpoint, **self.deadlines))
        target.expires_at = _monotonic(replica.expires_at)
        target.capacity = float(slots)
        targets[key] = target
        return target


def _monotonic(moment: datetime | None) -> float:
    if moment is None:
        return NEVER
    return asyncio.get_running_loop().time() + (moment - datetime.now(UTC)).total_seconds()
