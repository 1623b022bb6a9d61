"""What can be looked at beside the snapshot: catalogue, nodes, scripts, host files, accounting. Changes nothing."""

import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

from engine.catalogue import Catalogue, missing_source
from engine.errors import ConfigurationError, SchedulerUnreachable, UnknownName
from engine.fleet import gpus, hosts, store
from engine.fleet.deployments import Deployment, Folder, folder
from engine.fleet.fit import Fit, Need, fit
from engine.fleet.nginx_conf import excerpt
from engine.fleet.poll import JobPoller
from engine.fleet.publish import Publisher
from engine.fleet.request import LaunchRequest
from engine.fleet.schedulers import accounting
from engine.fleet.schedulers.jobs import Node
from engine.fleet.schedulers.slurm import Slurm
from engine.site import Site, choose_gpu, choose_partition

# Many may look at once; the scheduler is asked for its nodes this often at most.
NODES_S = 10.0


@dataclass(frozen=True)
class SchedulerState:
    """Whether a scheduler answers, and how often its commands were run in the last hour, by program.

    The local scheduler runs none. `counted_s` is for how long they have been counted.
    """

    name: str
    answers: bool
    asked_at: datetime | None = None
    silent_since: datetime | None = None
    trouble: str = ""
    calls_last_hour: dict[str, int] = field(default_factory=dict)
    counted_s: float = 0.0


@dataclass(frozen=True)
class NginxState:
    """`wanted` is false where the gateway itself listens at the one address."""

    wanted: bool
    running: bool = False
    pid: int | None = None
    error: str = ""


@dataclass(frozen=True)
class GpuHours:
    """`reason` tells why there is nothing to tell; empty where Slurm accounts."""

    reason: str
    rows: list[accounting.Hours]


class Inspection:
    """Every method blocks, and may be called from any thread."""

    def __init__(
        self,
        home: Path,
        site: Site,
        catalogue: Catalogue,
        pollers: Mapping[str, JobPoller],
        compose: Callable[[LaunchRequest], Deployment],
        script: Callable[[Deployment, int, int], str],
        publisher: Publisher,
        now: Callable[[], datetime],
    ) -> None:
        """`compose` and `script` are the controller's: what a launch would be, and what it would submit."""
        self._home, self._site, self._catalogue, self._pollers = home, site, catalogue, pollers
        self._compose, self._script, self._publisher, self._now = compose, script, publisher, now
        self._nodes: dict[str, tuple[float, list[Node]]] = {}
        self._lock = threading.Lock()

    def catalogue(self) -> list[dict[str, Any]]:
        """The rows with their precisions; `missing` tells what this machine lacks to serve a model, if anything."""
        return [
            {**asdict(row), "precisions": self._catalogue.precisions(row.id), "missing": missing_source(row)}
            for row in self._catalogue.rows
        ]

    def nodes(self) -> dict[str, list[Node]]:
        """Nodes by scheduler; raises SchedulerUnreachable."""
        with self._lock:
            for name, poller in self._pollers.items():
                asked_at, _ = self._nodes.get(name, (-NODES_S, []))
                if time.monotonic() - asked_at >= NODES_S:
                    found = poller.scheduler.nodes()
                    self._nodes[name] = (time.monotonic(), found)
            return {name: found for name, (_, found) in self._nodes.items()}

    def gpus(self) -> dict[str, Any]:
        """GPUs by scheduler: `types` summed, `nodes` each, with whose they are."""
        home_id = store.home_id(self._home)
        found = {}
        for name, nodes in self.nodes().items():
            last = self._pollers[name].last
            uses = gpus.by_node(nodes, (last.jobs if last else None) or (), home_id)
            found[name] = {"types": gpus.by_type(nodes, uses), "nodes": uses}
        return found

    def fit(self, request: LaunchRequest) -> Fit:
        """Raises ConfigurationError for a request that could not be launched for another reason."""
        deployment = self._compose(request)
        site = self._site if deployment.scheduler == "slurm" else self._site.on_this_machine()
        partition = choose_partition(site, deployment.placement, deployment.resources)
        gpu_type = choose_gpu(site, deployment.resources, partition)
        return fit(Need(deployment.resources, gpu_type, partition), self.nodes()[deployment.scheduler], site.gpu_types)

    def expected_start(self, request: LaunchRequest) -> tuple[str, datetime | None]:
        """The scheduler's name and when it would start the job; raises SubmitFailed where it never would."""
        deployment = self._compose(request)
        text = self._script(deployment, 0, 0)
        with tempfile.TemporaryDirectory(prefix="engine-test-only-") as place:
            path = Path(place) / f"{deployment.name}.slurm"
            path.write_text(text)
            return deployment.scheduler, self._pollers[deployment.scheduler].scheduler.expected_start(path)

    def script(self, name: str, index: int | None) -> str:
        """The script submitted last, of one replica or of any, of a stopped deployment, too; raises UnknownName."""
        place = self._folder(name)
        paths = [path for path in place.scripts.glob("*-*.slurm") if index is None or path.stem.startswith(f"{index}-")]
        if not paths:
            raise UnknownName("replica with a script", str(index or 0), [])
        with suppress(OSError):
            return max(paths, key=lambda path: int(path.stem.rpartition("-")[2])).read_text()
        raise ConfigurationError(f"the scripts in {place.scripts} cannot be read")

    def hosts(self, name: str) -> dict[str, Any]:
        """The derived hosts file and the leases that its replicas renew; raises UnknownName."""
        place = folder(self._home, name)
        if not place.deployment.exists():
            raise UnknownName("deployment", name, store.names(self._home))
        text = place.hosts_file.read_text() if place.hosts_file.exists() else ""
        return {"path": str(place.hosts_file), "text": text, "files": hosts.read(place.hosts)}

    def nginx(self, name: str) -> str:
        """The blocks of nginx.conf that are about a deployment, its keys blotted out; empty where no NGINX runs."""
        nginx = self._publisher.nginx
        if nginx is None or not nginx.configuration.exists():
            return ""
        return excerpt(nginx.configuration.read_text(), name)

    def nginx_state(self) -> NginxState:
        nginx = self._publisher.nginx
        if nginx is None:
            return NginxState(wanted=False)
        pid = nginx.pid
        return NginxState(True, pid is not None, pid, self._publisher.error)

    def schedulers(self) -> list[SchedulerState]:
        """The default first. Asks nothing: tells what the last answers were."""
        return [self._state(name, poller) for name, poller in self._pollers.items()]

    def gpu_hours(self, first: date, last: date) -> GpuHours:
        """What our jobs held between two days, both included, from Slurm's accounting."""
        scheduler = self._pollers["slurm"].scheduler if "slurm" in self._pollers else None
        if not isinstance(scheduler, Slurm):
            return GpuHours("there is no Slurm here, and the local scheduler keeps no accounts", [])
        try:
            runs = scheduler.runs(first, last)
        except SchedulerUnreachable as error:
            return GpuHours(f"Slurm gives no answer: {error}", [])
        if runs is None:
            return GpuHours("this Slurm keeps no accounts (sacct answers nothing): slurmdbd is needed", [])
        names = {*store.names(self._home), *store.former(self._home)}
        return GpuHours("", accounting.hours(runs, first, last, self._now(), store.home_id(self._home), names))

    def _state(self, name: str, poller: JobPoller) -> SchedulerState:
        last = poller.last
        state = SchedulerState(name, last is not None and last.jobs is not None)
        if last is not None:
            state = replace(state, asked_at=last.at, silent_since=last.silent_since, trouble=last.trouble)
        if isinstance(poller.scheduler, Slurm):
            calls = poller.scheduler.calls
            state = replace(state, calls_last_hour=calls.last_hour(), counted_s=round(calls.counted_s, 1))
        return state

    def _folder(self, name: str) -> Folder:
        place = folder(self._home, name)
        if place.scripts.is_dir():
            return place
        former = store.former(self._home)
        if name not in former:
            raise UnknownName("deployment", name, store.names(self._home))
        return Folder(former[name])
