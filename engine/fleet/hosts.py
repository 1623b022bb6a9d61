"""Host files: what each replica's sidecar writes, read as leases; and the derived hosts file."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import msgspec

VERSION = 1
MAX_BYTES = 64 * 1024
STAGES = frozenset({"ready", "draining"})


@dataclass(frozen=True)
class Endpoint:
    """Where one replica answers, and the key that only we know."""

    host: str
    port: int
    key: str = field(repr=False, default="")

    @property
    def address(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Timing:
    """Start-up of a replica as the sidecar measured it, in seconds: loading, then the first token."""

    load_s: float = 0.0
    first_token_s: float = 0.0


@dataclass(frozen=True)
class GpuSample:
    """One GPU as nvidia-smi shows it."""

    index: int
    name: str
    utilisation_percent: float
    memory_used_gb: float
    memory_total_gb: float


@dataclass(frozen=True)
class HostFile:
    """One lease: `hosts/JOBID.json`.

    `beat` grows by one at each renewal; `busy` is the server's own count of requests, if it has one.
    """

    deployment: str
    index: int
    attempt: int
    job_id: str
    stage: str
    host: str
    port: int
    node: str
    started_at: datetime
    ready_at: datetime
    renewed_at: datetime
    beat: int
    lease_s: float
    restart: int = 0
    version: int = 1
    timing: Timing = Timing()
    busy: int | None = None
    cpu_percent: float | None = None
    gpus: tuple[GpuSample, ...] = ()


def endpoint(file: HostFile, key: str = "") -> Endpoint:
    """Where the replica of this host file answers; `key` is its deployment's replica key."""
    return Endpoint(file.host, file.port, key)


def read(folder: Path) -> list[HostFile]:
    """Every host file in the folder that we understand, by index, attempt and job.

    Never raises: a file that is half-written, of a newer version, not ours or just gone is as if it were not there,
    and so is a folder that cannot be listed. A file system that fails looks like silent replicas, which kills none.
    """
    try:
        paths = sorted(folder.glob("*.json"))
    except OSError:
        return []
    found = [file for path in paths if not path.name.startswith(".") and (file := _read_one(path)) is not None]
    return sorted(found, key=lambda file: (file.index, file.attempt, file.job_id))


def hosts_text(endpoints: Iterable[Endpoint]) -> str:
    """The derived hosts file: one `host:port` a line, without doubles, in order."""
    return "".join(f"{address}\n" for address in sorted({endpoint.address for endpoint in endpoints}))


class Leases:
    """Judges host files by whether they change, never by the times in them, for the clocks of nodes disagree.

    A lease is fresh until its `beat` has stood still for `lease_s` of the reader's own monotonic clock. One seen for
    the first time is fresh, so that a controller that starts anew does not drop living replicas. A file whose restart
    count is lower than one seen before was written by a job that Slurm has already started elsewhere: never fresh.
    """

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, int, float]] = {}

    def fresh(self, files: Iterable[HostFile], now: float) -> list[HostFile]:
        """The files whose lease holds at `now`, in seconds of the reader's monotonic clock; others are forgotten."""
        files = list(files)
        before, self._seen = self._seen, {}
        return [file for file in files if self._holds(file, before.get(file.job_id), now)]

    def _holds(self, file: HostFile, last: tuple[int, int, float] | None, now: float) -> bool:
        renewed = last is None or file.restart > last[0] or (file.restart == last[0] and file.beat != last[1])
        if last is None or renewed:
            last = (file.restart, file.beat, now)
        self._seen[file.job_id] = last
        return file.restart == last[0] and now - last[2] < file.lease_s


def _read_one(path: Path) -> HostFile | None:
    try:
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            return None
        file = msgspec.json.decode(path.read_bytes(), type=HostFile)
    except (OSError, ValueError):
        return None
    return file if file.job_id == path.stem and _is_sane(file) else None


def _is_sane(file: HostFile) -> bool:
    return (
        file.version == VERSION
        and file.stage in STAGES
        and bool(file.host)
        and not any(c.isspace() for c in file.host)
        and 0 < file.port < 65536
        and math.isfinite(file.lease_s)
        and file.lease_s > 0
        and all(at.tzinfo is not None for at in (file.started_at, file.ready_at, file.renewed_at))
    )
