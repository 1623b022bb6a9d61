"""The ways to simulated replicas that are compared: direct, through NGINX, through our gateway."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from engine.catalogue import Resources
from engine.fleet import nginx_conf
from engine.fleet.deployments import Deployment, Replica, Status
from engine.fleet.hosts import Endpoint
from engine.fleet.nginx import Nginx
from tests.processes import ROOT, Server, free_port, server, simulator, wait_for_port

KEY, TOKEN = "benchmark-replica-key", "benchmark-access-token"
WAYS = ("direct", "nginx", "gateway")
SIMULATORS = {
    "quick": ("--latency-ms", "0", "--tokens", "100"),
    "timed": ("--latency-ms", "20", "--tokens", "8"),
    "paced": ("--ttft-ms", "10", "--itl-ms", "10", "--tokens", "50"),
}


@dataclass(frozen=True)
class Way:
    """One way to the replicas: an address for each of them, a key, and the process whose CPU time it costs."""

    name: str
    urls: dict[str, str]
    key: str
    process: psutil.Process | None

    def cpu_s(self) -> float:
        if self.process is None:
            return 0.0
        family = [self.process, *self.process.children(recursive=True)]
        return sum(times.user + times.system for times in (one.cpu_times() for one in family))


@contextmanager
def ways(folder: Path) -> Iterator[list[Way]]:
    with ExitStack() as stack:
        simulators = {
            name: stack.enter_context(simulator(*flags, "--capacity", "100000", key=KEY, name=name))
            for name, flags in SIMULATORS.items()
        }
        direct = Way("direct", {name: f"{one.url}/v1" for name, one in simulators.items()}, KEY, None)
        yield [direct, stack.enter_context(nginx(folder, simulators)), stack.enter_context(gateway(folder, simulators))]


@contextmanager
def nginx(folder: Path, simulators: dict[str, Server]) -> Iterator[Way]:
    """One worker, as our gateway is one process."""
    ours, port = Nginx(folder / "nginx"), free_port()
    statuses = [_status(name, one.port) for name, one in simulators.items()]
    templates = ROOT / "templates"
    ours.apply(
        nginx_conf.nginx(
            statuses, home=ours.root, host="127.0.0.1", port=port, gateway=None, templates=templates, workers="1"
        )
    )
    try:
        wait_for_port(port)
        urls = {name: f"http://127.0.0.1:{port}/deployments/{name}/v1" for name in simulators}
        yield Way("nginx", urls, TOKEN, psutil.Process(ours.pid))
    finally:
        ours.stop()


def _status(name: str, port: int) -> Status:
    asked = Deployment(name, "model", "simulator", "local", Resources(), datetime.now(UTC))
    replica = Replica(0, 1, 1, "ready", in_rotation=True, endpoint=Endpoint("127.0.0.1", port, KEY))
    return Status(asked, (replica,), access_token=TOKEN, replica_key=KEY)


@contextmanager
def gateway(folder: Path, simulators: dict[str, Server]) -> Iterator[Way]:
    port = free_port()
    upstreams = [part for name, one in simulators.items() for part in ("--upstream", f"{name}={one.port}")]
    argv = [sys.executable, "-m", "tests.benchmarks.gateway", "--port", str(port), *upstreams]
    argv += ["--database", f"sqlite:///{folder / 'engine.db'}", "--token", TOKEN, "--replica-key", KEY]
    with server(argv, port) as one:
        urls = dict.fromkeys(simulators, f"{one.url}/v1")
        yield Way("gateway", urls, TOKEN, psutil.Process(one.process.pid))
