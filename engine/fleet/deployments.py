"""Deployment and Replica; the folder of a deployment; load and save; events."""

import os
import secrets
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from engine.catalogue import ModelSpec, Resources
from engine.fleet.hosts import Endpoint, HostFile, Timing
from engine.site import Placement


@dataclass(frozen=True)
class Deployment:
    """What an operator asked for: deployment.json.

    `kind` is `model` or `app`; an app has a `command` and a `path` at the one address. `replicas` is the wanted number.
    `generation` grows at each restart: replicas of an older one are drained once the new ones answer.
    `stopping` drains everything and then forgets the deployment. Attempts are numbered from `first_attempt`: lower ones
    were those of a former deployment of the same name, whose jobs Slurm may still show. `request_id` is the caller's.
    """

    name: str
    kind: str
    engine: str
    scheduler: str
    resources: Resources
    created_at: datetime
    model: ModelSpec | None = None
    command: tuple[str, ...] = ()
    path: str = ""
    strip_path: bool = False
    replicas: int = 1
    max_replicas: int = 1
    arguments: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    placement: Placement = field(default_factory=Placement)
    drain_timeout_s: int = 300
    generation: int = 1
    stopping: bool = False
    first_attempt: int = 1
    request_id: str = ""


@dataclass(frozen=True)
class Replica:
    """One server: one job, one endpoint; what the controller knows of it now (replicas.json).

    `attempt` is unique within the deployment and marks its job's comment, so that a job is recognised even if its id
    was never written down. `stage`: queued, loading, ready, draining, failed. `in_rotation` is false while its lease
    is silent or its port does not answer; `silent_since` is set while neither gives a sign of life.
    """

    index: int
    attempt: int
    generation: int
    stage: str = "queued"
    job_id: str = ""
    job_state: str = ""
    reason: str = ""
    node: str = ""
    endpoint: Endpoint | None = None
    in_rotation: bool = False
    submitted_at: datetime | None = None
    started_at: datetime | None = None
    ready_at: datetime | None = None
    expires_at: datetime | None = None
    silent_since: datetime | None = None
    drain_asked_at: datetime | None = None
    signalled_at: datetime | None = None
    cancel_asked_at: datetime | None = None
    ended_at: datetime | None = None
    timing: Timing | None = None

    @property
    def live(self) -> bool:
        return self.stage != "failed"

    @property
    def leaving(self) -> bool:
        """It was asked to end, and holds no place any more."""
        return self.drain_asked_at is not None or self.cancel_asked_at is not None

    @property
    def serving(self) -> bool:
        return self.stage == "ready" and self.in_rotation and self.endpoint is not None


@dataclass(frozen=True)
class Failure:
    """An attempt that ended without being asked to: what the back-off and the giving up are reckoned from."""

    index: int
    attempt: int
    at: datetime
    was_ready: bool
    reason: str


@dataclass(frozen=True)
class Status:
    """A deployment with its replicas, as published to readers.

    `gave_up` is the reason when no further attempt will be made.
    """

    deployment: Deployment
    replicas: tuple[Replica, ...] = ()
    failures: tuple[Failure, ...] = ()
    next_attempt: int = 1
    gave_up: str = ""
    access_token: str = field(default="", repr=False)
    replica_key: str = field(default="", repr=False)

    @property
    def serving(self) -> tuple[Replica, ...]:
        return tuple(r for r in self.replicas if r.serving)


@dataclass(frozen=True)
class Snapshot:
    """What the controller last knew of everything; immutable, read by the gateway without a lock.

    `leases` are the host files by deployment and job id: what the replicas say of themselves.
    """

    taken_at: datetime
    statuses: dict[str, Status] = field(default_factory=dict)
    scheduler_silent_since: dict[str, datetime] = field(default_factory=dict)
    leases: Mapping[tuple[str, str], HostFile] = field(default_factory=dict)


@dataclass(frozen=True)
class Event:
    """A line of a deployment's history, in plain words."""

    at: datetime
    deployment: str
    kind: str
    message: str
    index: int | None = None
    job_id: str = ""
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Folder:
    """Paths of one deployment under ENGINE_HOME."""

    root: Path

    @property
    def deployment(self) -> Path:
        return self.root / "deployment.json"

    @property
    def replicas(self) -> Path:
        return self.root / "replicas.json"

    @property
    def events(self) -> Path:
        return self.root / "events.jsonl"

    @property
    def hosts(self) -> Path:
        return self.root / "hosts"

    @property
    def hosts_file(self) -> Path:
        return self.root / "hosts.txt"

    @property
    def scripts(self) -> Path:
        return self.root / "scripts"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def replica_key(self) -> Path:
        return self.root / "replica.key"

    @property
    def access_token(self) -> Path:
        return self.root / "access.token"


def folder(home: Path, name: str) -> Folder:
    return Folder(home / "deployments" / name)


def write_atomically(path: Path, text: str, mode: int = 0o644) -> None:
    """Writes a file under a temporary name and renames it into place: readers see the old or the new, never a part."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(mode)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def create_whole(path: Path, text: str) -> bool:
    """Makes a file that is there with all of its content or not at all; false when there is one already.

    Works over NFS.
    """
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        Path(temporary).chmod(0o644)
        path.hardlink_to(temporary)
    except FileExistsError:
        return False
    finally:
        Path(temporary).unlink(missing_ok=True)
    return True


def to_json(value: Any) -> str:
    """Indented JSON of any of our value types; times are ISO 8601, UTC."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n"


def secret(path: Path) -> str:
    """The random key in a 0600 file, made at first use."""
    if not path.exists():
        write_atomically(path, secrets.token_hex(24) + "\n", mode=0o600)
    return path.read_text().strip()
