"""Where the load of a sweep goes, and which replicas it reaches."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from engine.bench.load.target import Target
from engine.errors import ConfigurationError, NotReadyInTime, ReplicaFailed, UnknownName
from engine.experiments import Options
from engine.fleet import store
from engine.fleet.deployments import Replica, Status

# The gateway neither limits nor bypasses such a request of an admin.
EXEMPT = {"x-engine-experiment": "1"}
# A replica that died in a sweep has this long to be replaced.
BACK_TIMEOUT_S = 900.0


@dataclass(frozen=True)
class Access:
    """The running gateway: where it listens, the one address, and an admin's key for it."""

    url: str
    address: str
    key: str = field(repr=False)
    pid: int = 0


Gateway = Callable[[], Access]


@dataclass(frozen=True)
class Aim:
    """A deployment at one moment. `direct` reaches its first replica straight, whatever `target` is."""

    status: Status
    replicas: tuple[Replica, ...]
    target: Target
    direct: Target

    @property
    def marks(self) -> frozenset[tuple[int, int, str]]:
        """Names these very servers: one that was replaced or started anew has another mark."""
        return frozenset((r.attempt, r.endpoint.port, r.job_id) for r in self.replicas if r.endpoint)


def aim(home: Path, name: str, options: Options, gateway: Gateway) -> Aim:
    """Raises UnknownName for the deployment, NotReadyInTime when not all of the replicas that it reaches serve."""
    status = load(home, name)
    serving = _reached(status, options)
    wanted = 1 if options.target == "replica" else status.deployment.replicas
    if len(serving) < max(1, wanted):
        raise NotReadyInTime(f"{name}: {len(serving)} of {max(1, wanted)} replicas serve; see `engine ps`")
    replicas = tuple(sorted(serving[:1] if options.target == "replica" else serving, key=lambda r: r.index))
    direct = _straight(replicas[0], status.replica_key)
    return Aim(status, replicas, direct if options.target == "replica" else _way(status, options, gateway), direct)


def wait_for_aim(
    home: Path,
    name: str,
    options: Options,
    gateway: Gateway,
    stopped: Callable[[], bool],
    say: Callable[[str], None],
    timeout_s: float = BACK_TIMEOUT_S,
) -> Aim:
    """`aim` as soon as it works; `say` is told what is waited for. Raises ReplicaFailed when the engine gave the
    deployment up, NotReadyInTime after `timeout_s` or when `stopped`.
    """
    deadline, said = time.monotonic() + timeout_s, ""
    while True:
        try:
            return aim(home, name, options, gateway)
        except NotReadyInTime as error:
            gave_up = load(home, name).gave_up
            if gave_up:
                raise ReplicaFailed(f"{name}: {gave_up}; see `engine events {name}`") from error
            if str(error) != said:
                said = str(error)
                say(f"waiting: {said}")
            if stopped() or time.monotonic() > deadline:
                raise NotReadyInTime(f"{error}; waited {timeout_s:.0f} s at most") from error
        time.sleep(0.25)


def load(home: Path, name: str) -> Status:
    """The deployment as the controller last wrote it; raises UnknownName, ConfigurationError for an app."""
    if name not in store.names(home):
        raise UnknownName("deployment", name, store.names(home))
    status = store.load(home, name)
    if status.deployment.kind != "model":
        raise ConfigurationError(f"{name} is an app, not a model: there is nothing to saturate")
    return status


def _reached(status: Status, options: Options) -> Sequence[Replica]:
    serving = [replica for replica in status.serving if not replica.leaving]
    if options.target != "replica" or options.replica is None:
        return serving
    return [replica for replica in serving if replica.index == options.replica]


def _way(status: Status, options: Options, gateway: Gateway) -> Target:
    access = gateway()
    if options.target == "nginx":
        return Target.of(f"{access.address}/deployments/{status.deployment.name}/v1", status.access_token)
    return Target.of(f"{access.url}/v1", access.key, EXEMPT)


def _straight(replica: Replica, key: str) -> Target:
    assert replica.endpoint is not None
    return Target.of(f"http://{replica.endpoint.address}/v1", key)


def at_path(target: Target, path: str) -> Target:
    """The same server under another path of OpenAI's API, as `/completions`."""
    base = target.path.removesuffix("/chat/completions").removesuffix("/completions")
    return replace(target, path=base + path)
