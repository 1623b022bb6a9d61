"""A simulator as a deployment that serves, without a gateway: for sweeps straight at the replica."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from engine import experiments
from engine.bench.experiment.aim import Access
from engine.bench.experiment.measure import Pace
from engine.bench.experiment.run import run
from engine.bench.saturation import Sweep
from engine.experiments import Experiment, Options
from engine.fleet import store
from engine.fleet.deployments import Replica, Status
from engine.fleet.hosts import Endpoint, Timing
from engine.settings import Settings
from tests.fakes import deployment
from tests.processes import Server, simulator

# A test must bear that others use this machine at the same time: hence many attempts.
QUICK = Pace(least_s=0.3, cycles=5.0, warm_cycles=1.5, patience_s=10.0, attempts=12)
# Where no trial can become valid.
FEW = replace(QUICK, attempts=3)


@dataclass
class Served:
    """What stands in ENGINE_HOME is what a controller would write; `lines` is what an experiment said."""

    home: Path
    status: Status
    server: Server
    lines: list[str]

    @property
    def settings(self) -> Settings:
        return Settings(self.home, self.home / "local")

    def show(self, server: Server, attempt: int) -> None:
        """As if the controller had just seen this server answer."""
        now = datetime.now(UTC)
        replica = Replica(
            index=0, attempt=attempt, generation=1, stage="ready", job_id=str(attempt), job_state="RUNNING",
            node="n1", endpoint=Endpoint("127.0.0.1", server.port), in_rotation=True, submitted_at=now,
            started_at=now, ready_at=now, timing=Timing(1.5, 0.25),
        )  # fmt: skip
        self.status = replace(self.status, replicas=(replica,), next_attempt=attempt + 1)
        store.save(self.home, self.status)

    def experiment(self, id: str = "", **options: object) -> Experiment:
        given = {"target": "replica", "repeats": 1, "foreign_cpu": 1.0, **options}
        return experiments.create(self.home, Options((self.status.deployment.name,), **given), id)  # type: ignore[arg-type]

    def run(self, experiment: Experiment, pace: Pace = QUICK) -> Sweep:
        def no_gateway() -> Access:
            return Access("http://127.0.0.1:1", "http://127.0.0.1:1", "none")

        (sweep,) = run(experiment, self.settings, no_gateway, self.lines.append, pace)
        return sweep


@contextmanager
def served(home: Path, *flags: str) -> Iterator[Served]:
    """`flags` are the simulator's, `--capacity`, `4`, …; they are the deployment's arguments, too."""
    names = [flag.removeprefix("--").replace("-", "_") for flag in flags[::2]]
    asked = deployment(arguments=dict(zip(names, flags[1::2], strict=True)))
    status = store.create(home, asked)
    with simulator(*flags, key=status.replica_key) as server:
        made = Served(home, status, server, [])
        made.show(server, 1)
        yield made
