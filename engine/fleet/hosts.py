"""Host files: what each replica's sidecar writes, read as leases; and the derived hosts file."""

from dataclasses import dataclass, field
from datetime import datetime


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
    """One lease: `hosts/JOBID.json`. `beat` grows by one at each renewal; `busy` is the server's own count of requests, if it has one."""

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
