"""A job of the local scheduler as it lies on disk, and what is done with one: place, start, settle, end.

FOLDER/job.json is what was asked for (and, once started, when and with which GPUs); runner.json says who stands beside
it, end.json how it ended; `cancel` asks a runner that is only just starting to leave.
"""

import getpass
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from engine.errors import SubmitFailed
from engine.fleet.schedulers import local_job
from engine.fleet.schedulers.batch import Request, fill
from engine.fleet.schedulers.jobs import Job

START_TIMEOUT = timedelta(seconds=15)
MARK = "ENGINE_LOCAL_JOB"


@dataclass(frozen=True)
class Capacity:
    """What the jobs share. `gpus` maps a type to how many; GPUs are numbered through in its order."""

    cpus: int
    mem_gb: float
    gpus: dict[str, int]

    @property
    def gpu_types(self) -> list[str]:
        return [kind for kind, count in self.gpus.items() for _ in range(count)]

    def eligible(self, kind: str) -> list[int]:
        """GPUs that may serve a request for `kind`: its own, or any where the type is not asked for or not known."""
        types = self.gpu_types
        return [index for index, type_ in enumerate(types) if kind in ("gpu", type_) or type_ == "gpu"]


@dataclass(frozen=True)
class Entry:
    folder: Path
    job: dict[str, Any]
    runner: dict[str, Any] = field(default_factory=dict)
    end: dict[str, Any] = field(default_factory=dict)

    @property
    def request(self) -> Request:
        return Request(**self.job["request"])

    @property
    def waiting(self) -> bool:
        return not self.end and not self.runner and not self.job["started_at"]

    @property
    def running(self) -> bool:
        return not self.end and not self.waiting

    @property
    def alive(self) -> bool:
        """Whether its runner is there, or may still be coming up."""
        if not self.runner:
            return datetime.now(UTC) - when(self.job["started_at"]) < START_TIMEOUT
        same_boot = bool(self.runner["boot"] == local_job.boot_id())
        return same_boot and local_job.start_ticks(self.runner["pid"]) == self.runner["ticks"]


def read(folder: Path) -> Entry | None:
    job = _read(folder / "job.json")
    return Entry(folder, job, _read(folder / "runner.json"), _read(folder / "end.json")) if job else None


def create(folder: Path, request: Request, text: str) -> None:
    """Writes a new job, job.json last: without it there is no job."""
    folder.mkdir(mode=0o700)
    (folder / "script").write_text(text)
    cwd = Path.cwd() / request.chdir
    record = {
        "id": folder.name,
        "request": asdict(request),
        "mark": secrets.token_hex(16),
        "user": getpass.getuser(),
        "cwd": str(cwd),
        "output": str(cwd / fill(request.output, folder.name, request.name, getpass.getuser())),
        "submitted_at": datetime.now(UTC).isoformat(),
        "started_at": "",
        "gpu_ids": [],
    }
    local_job.write(folder / "job.json", record)


def refuse_oversize(request: Request, capacity: Capacity) -> None:
    """Raises SubmitFailed for what this machine could never run."""
    asks = f"{request.name} asks for"
    if request.cpus > capacity.cpus:
        raise SubmitFailed(f"{asks} {request.cpus} CPUs, the local scheduler has {capacity.cpus}; ask for fewer `cpus`")
    if request.mem_gb > capacity.mem_gb:
        raise SubmitFailed(f"{asks} {request.mem_gb:g} GB of memory, this machine has {capacity.mem_gb:.1f}")
    for kind, count in request.gpus.items():
        have = len(capacity.eligible(kind))
        if count > have:
            what = f"{count} {'' if kind == 'gpu' else f'{kind} '}GPU{'s' if count > 1 else ''}"
            raise SubmitFailed(f"{asks} {what}, this machine has {have}: use Slurm, or ask for fewer `gpus`")


def place(request: Request, entries: Iterable[Entry], capacity: Capacity) -> list[int] | None:
    """The GPUs that the job would get beside those that run; None where CPUs, memory or GPUs do not suffice."""
    running = [entry for entry in entries if entry.running]
    if sum(entry.request.cpus for entry in running) + request.cpus > capacity.cpus:
        return None
    if sum(entry.request.mem_gb for entry in running) + request.mem_gb > capacity.mem_gb:
        return None
    taken = {index for entry in running for index in entry.job["gpu_ids"]}
    for kind, count in request.gpus.items():
        free = [index for index in capacity.eligible(kind) if index not in taken]
        if len(free) < count:
            return None
        taken.update(free[:count])
    before = {index for entry in running for index in entry.job["gpu_ids"]}
    return sorted(taken - before)


def start(entry: Entry, gpu_ids: list[int]) -> Entry:
    """Starts the job's runner, which detaches itself. A crash right here leaves a job that never came up, never two."""
    job = {**entry.job, "started_at": datetime.now(UTC).isoformat(), "gpu_ids": gpu_ids}
    local_job.write(entry.folder / "job.json", job)
    started = replace(entry, job=job)
    command = [sys.executable, "-I", "-S", str(Path(local_job.__file__)), str(entry.folder)]
    with (entry.folder / "runner.log").open("ab") as log:
        try:
            subprocess.run(
                command, env=_environment(started), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/",
                start_new_session=True, timeout=START_TIMEOUT.total_seconds(), check=True,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError) as error:
            return end(started, "FAILED", f"its runner did not start: {error}; see {log.name}")
    return started


def settle(entry: Entry) -> Entry:
    """A job whose runner is gone: it ended just now, or it is lost, and then nothing of it is left running."""
    current = read(entry.folder) or entry
    if current.end:
        return current
    if not current.runner:
        return end(current, "FAILED", f"its runner did not come up; see {current.folder / 'runner.log'}")
    if current.runner["boot"] != local_job.boot_id():
        return end(current, "NODE_FAIL", "the machine was restarted")
    kill_marked(current.job["mark"])
    return end(current, "FAILED", "its runner was killed from outside", "0:9")


def end(entry: Entry, state: str, reason: str = "", exit_code: str = "1:0") -> Entry:
    ended = {"state": state, "exit_code": exit_code, "reason": reason, "ended_at": datetime.now(UTC).isoformat()}
    local_job.write(entry.folder / "end.json", ended)
    return replace(entry, end=ended)


def kill_marked(mark: str) -> None:
    """KILL to what carries the job's mark in its environment, and to all below it: after a runner's death."""
    needle = f"{MARK}={mark}".encode()
    for _ in range(20):  # what was just being forked shows in the next round
        marked = [pid for pid in local_job.pids() if needle in _environ(pid).split(b"\0")]
        if not marked:
            return
        below = [child for pid in marked for child in local_job.processes_below(pid)]
        local_job.send({*marked, *below} - {os.getpid()}, signal.SIGKILL)


def as_job(entry: Entry, position: int = 0) -> Job:
    """`position` is the job's place among the waiting ones, the next one 0."""
    request, job, over = entry.request, entry.job, entry.end
    started = when(job["started_at"]) if job["started_at"] else None
    limit_s = request.time_limit_s
    ends = started + timedelta(seconds=limit_s) if started and limit_s else None
    waiting_for = ("Priority" if position else "Resources") if entry.waiting else ""
    return Job(
        id=job["id"],
        name=request.name,
        state=over["state"] if over else "PENDING" if entry.waiting else "RUNNING",
        reason=over["reason"] if over else waiting_for,
        nodes="localhost" if started else "",
        user=job["user"],
        partition="local",
        gres=",".join(f"gpu:{kind}:{count}".replace("gpu:gpu", "gpu") for kind, count in request.gpus.items()),
        comment=request.comment,
        submitted_at=when(job["submitted_at"]),
        started_at=started,
        ends_at=when(over["ended_at"]) if over else ends,
        exit_code=over.get("exit_code", ""),
    )


def when(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _environment(entry: Entry) -> dict[str, str]:
    request, gpu_ids = entry.request, ",".join(map(str, entry.job["gpu_ids"]))
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "SBATCH_", MARK))}
    gpus = {"CUDA_VISIBLE_DEVICES": gpu_ids, "SLURM_JOB_GPUS": gpu_ids} if gpu_ids else {}
    return inherited | gpus | {
        MARK: entry.job["mark"],
        "SLURM_JOB_ID": entry.job["id"],
        "SLURM_JOB_NAME": request.name,
        "SLURM_JOB_NODELIST": "localhost",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_CPUS_PER_TASK": str(request.cpus),
        "SLURM_SUBMIT_DIR": entry.job["cwd"],
        "SLURMD_NODENAME": "localhost",
    }  # fmt: skip


def _read(path: Path) -> dict[str, Any]:
    with suppress(FileNotFoundError):
        value: dict[str, Any] = json.loads(path.read_text())
        return value
    return {}


def _environ(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""
