"""A real Slurm for tests, brought up by cluster.sh in a folder of its own; several can run side by side."""

import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from engine.fleet.run import Completed, run
from engine.fleet.schedulers.slurm import Slurm
from tests.processes import require

SCRIPT = Path(__file__).parent / "cluster.sh"
NODES = ("n1", "n2", "n3", "n4")


@dataclass(frozen=True)
class Cluster:
    """n1, n2: 4 GPUs a100 each (partition gpu-large); n3, n4: 2 GPUs l40s each (gpu-small, the default)."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """What makes Slurm's commands and the engine find this cluster."""
        folder = self.folder
        return {"SLURM_CONF": str(folder / "etc" / "slurm.conf"), "ENGINE_SITE": str(folder / "site.toml")}

    @property
    def slurm(self) -> Slurm:
        return Slurm(self.run, timeout_s=15.0)

    def run(self, argv: Sequence[str], timeout_s: float = 15.0) -> Completed:
        """The `run` seam, against this cluster; nothing in this process's environment changes."""
        return run(["env", f"SLURM_CONF={self.environment['SLURM_CONF']}", *argv], timeout_s)

    def start(self, name: str) -> None:
        self._node("start", name)

    def stop(self, name: str) -> None:
        """The daemon alone: `ctl` for slurmctld; jobs go on."""
        self._node("stop", name)

    def crash(self, name: str) -> None:
        """The power of a node goes, with all that runs on it."""
        self._node("crash", name)

    def state(self) -> str:
        """What to look at after a failure: sinfo, squeue and the ends of the logs."""
        asked = [["sinfo", "-N", "-l"], ["squeue", "-t", "all", "-o", "%i %j %T %r %N %b %k"]]
        parts = [f"$ {' '.join(argv)}\n{self._said(argv)}" for argv in asked]
        logs = sorted((self.folder / "log").glob("*.log"))
        return "\n".join(parts + [f"--- {log.name}\n{_tail(log)}" for log in logs if log.stat().st_size])

    def _said(self, argv: Sequence[str]) -> str:
        try:
            answer = self.run(argv, 5)
        except TimeoutError as error:
            return str(error)
        return answer.stdout + answer.stderr

    def _node(self, what: str, name: str) -> None:
        subprocess.run([self.folder / "node", what, name], check=True, timeout=30, stdin=subprocess.DEVNULL)


def _tail(log: Path, lines: int = 15) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Up, and down again by pid files. Without Slurm or namespaces: skipped, or failed where ENGINE_REQUIRE_REAL=1."""
    for program in ("slurmctld", "slurmd", "munged", "sbatch"):
        require(program)
    up = _cluster_sh("up", folder)
    if up.returncode != 0:
        if "no namespaces" in up.stderr and os.environ.get("ENGINE_REQUIRE_REAL") != "1":
            pytest.skip(up.stderr.strip())
        pytest.fail(f"{SCRIPT.name} up failed: {up.stderr}{up.stdout}")
    try:
        yield Cluster(folder)
    finally:
        _cluster_sh("down", folder)


def _cluster_sh(what: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    # Into files, not pipes: a daemon that inherited one would keep it open for ever.
    paths = [folder.parent / f"{folder.name}-{what}.{end}" for end in ("out", "err")]
    with paths[0].open("w") as out, paths[1].open("w") as err:
        argv = [SCRIPT, what, folder]
        ended = subprocess.run(argv, timeout=90, check=False, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
    return subprocess.CompletedProcess(argv, ended.returncode, paths[0].read_text(), paths[1].read_text())


def add_state(item: pytest.Item, report: pytest.TestReport) -> pytest.TestReport:
    """To the report of a test that failed on a cluster: what that cluster says."""
    running = getattr(item, "funcargs", {}).get("cluster")
    if report.failed and isinstance(running, Cluster):
        report.sections.append(("the cluster", running.state()))
    return report


def all_idle(cluster: Cluster) -> Callable[[], bool]:
    """For waiting until every node is back."""

    def idle() -> bool:
        with suppress(TimeoutError):
            lines = cluster.run(["sinfo", "-h", "-N", "-o", "%N %T"]).stdout.splitlines()
            return {line.split()[0] for line in lines if line.endswith(" idle")} == set(NODES)
        return False

    return idle
