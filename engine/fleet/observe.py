"""Looking at the world once: the scheduler's last answer, host files as leases, and which ports refuse."""

import time
from collections.abc import Callable, Mapping
from datetime import datetime

from engine.fleet import hosts
from engine.fleet.deployments import folder
from engine.fleet.derive import Observation
from engine.fleet.health import Health
from engine.fleet.poll import Answer, JobPoller
from engine.fleet.roster import Roster

PROBE_EVERY_S = 5.0


class Observer:
    """Remembers from one look to the next which leases moved and which ports refused; nothing of it is worth saving.

    `files` are the host files of the last look, by deployment and job id.
    """

    def __init__(self, roster: Roster, pollers: Mapping[str, JobPoller], now: Callable[[], datetime]) -> None:
        self._roster, self._pollers, self._now = roster, pollers, now
        self._leases: dict[str, hosts.Leases] = {}
        self._health = Health()
        self._refused: frozenset[tuple[str, str]] = frozenset()
        self._probed_at: datetime | None = None
        self.files: dict[tuple[str, str], hosts.HostFile] = {}

    def answers(self) -> dict[str, Answer]:
        """Each scheduler's last answer; asks anew where that is due."""
        return {name: poller.latest(self._roster.tracked(name)) for name, poller in self._pollers.items()}

    def look(self, answers: Mapping[str, Answer]) -> dict[str, Observation]:
        """Deployment name to what is seen of it. Reads files and probes ports, so it takes as long as those do."""
        files = {name: hosts.read(folder(self._roster.home, name).hosts) for name in self._roster.names}
        self.files = {(name, file.job_id): file for name, each in files.items() for file in each}
        self._probe(files)
        self._leases = {name: self._leases.get(name, hosts.Leases()) for name in files}
        return {
            status.deployment.name: self._observation(
                status.deployment.name, answers.get(status.deployment.scheduler), files.get(status.deployment.name, [])
            )
            for status in self._roster
            if status.deployment.name in files
        }

    def _observation(self, name: str, answer: Answer | None, leases: list[hosts.HostFile]) -> Observation:
        return Observation(
            jobs=answer.jobs if answer else None,
            jobs_at=answer.at if answer else None,
            leases={lease.job_id: lease for lease in leases},
            fresh=frozenset(lease.job_id for lease in self._leases[name].fresh(leases, time.monotonic())),
            refused=frozenset(job_id for deployment, job_id in self._refused if deployment == name),
            last_line=lambda replica: self._roster.last_line(name, replica),
        )

    def _probe(self, files: Mapping[str, list[hosts.HostFile]]) -> None:
        """Tries the ports of living replicas: where their host file says or, where that is gone, last said."""
        now = self._now()
        if self._probed_at and abs((now - self._probed_at).total_seconds()) < PROBE_EVERY_S:
            return
        self._probed_at = now
        said = {(name, file.job_id): hosts.endpoint(file) for name, each in files.items() for file in each}
        known = {
            (status.deployment.name, replica.job_id): replica.endpoint
            for status in self._roster
            for replica in status.replicas
            if replica.live and replica.job_id
        }
        where = {key: said.get(key, before) for key, before in known.items()}
        self._refused = self._health.probe({key: endpoint for key, endpoint in where.items() if endpoint})
