"""LocalScheduler: the scheduler contract on one machine, without Slurm and without a daemon."""

import fcntl
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from signal import SIGTERM, Signals, pidfd_send_signal

from engine.errors import SchedulerUnreachable, SubmitFailed
from engine.fleet.schedulers import local_entry, local_job
from engine.fleet.schedulers.batch import Request, parse_script
from engine.fleet.schedulers.jobs import Job, Node
from engine.fleet.schedulers.local_entry import Capacity, Entry

KEEP = timedelta(days=1)


class LocalScheduler:
    """First in, first out; CPUs, memory and GPUs are counted, not enforced. `root` is a folder of its own.

    Each call advances the queue under a lock; a job runs beside a runner (local_job.py) that survives the engine and is
    known by pid, start time and boot. Ended jobs are kept for a day. A job inherits the environment of the process that
    started it. `cpus` is os.cpu_count() but at least 6, so that a laptop with two cores runs small models and the apps
    too, slower; `mem_gb` is the machine's; `gpus` is what /dev/nvidia* shows, of type `gpu`. A request beyond these is
    refused.
    """

    name = "local"

    def __init__(
        self, root: Path, cpus: int | None = None, mem_gb: float | None = None, gpus: Mapping[str, int] | None = None
    ) -> None:
        self.root = root.absolute()
        self.capacity = Capacity(
            cpus=cpus or cpus_here(),
            mem_gb=mem_gb or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3,
            gpus=_gpus_here() if gpus is None else dict(gpus),
        )

    def submit(self, script: Path) -> str:
        text, request = self._request(script)
        with self._lock():
            job_id = self._next_id()
            local_entry.create(self.root / "jobs" / job_id, request, text)
            self._advance()
        return job_id

    def jobs(self) -> list[Job]:
        with self._lock():
            entries = self._advance()
        waiting = [entry for entry in entries if entry.waiting]
        return [local_entry.as_job(entry, waiting.index(entry) if entry.waiting else 0) for entry in entries]

    def ended_jobs(self, job_ids: Iterable[str]) -> list[Job]:
        wanted = set(job_ids)
        return [job for job in self.jobs() if job.id in wanted and job.ended]

    def signal(self, job_id: str, signal: str) -> None:
        """Waits a moment for a job that is just being started."""
        number = Signals[f"SIG{signal.removeprefix('SIG')}"]
        until = time.monotonic() + 2.0
        while (entry := self._entry(job_id)) and entry.running and not entry.runner.get("shell"):
            if time.monotonic() > until:
                raise SchedulerUnreachable(f"job {job_id} has not started its script yet; see {entry.folder}")
            time.sleep(0.02)
        if entry and entry.running and entry.runner["boot"] == local_job.boot_id():
            _send(entry.runner["shell"], entry.runner["shell_ticks"], number)

    def cancel(self, job_id: str) -> None:
        """TERM to every process of the job; its runner sends KILL 5 s later."""
        with self._lock():
            entry = self._entry(job_id)
            if entry is None or entry.end:
                return
            (entry.folder / "cancel").touch()
            if entry.waiting:
                local_entry.end(entry, "CANCELLED", exit_code="0:0")
            elif entry.runner and entry.alive:
                _send(entry.runner["pid"], entry.runner["ticks"], SIGTERM)

    def expected_start(self, script: Path) -> datetime | None:
        """Now where nothing waits and there is room; else unknown."""
        _, request = self._request(script)
        with self._lock():
            entries = self._advance()
        if any(entry.waiting for entry in entries) or local_entry.place(request, entries, self.capacity) is None:
            return None
        return datetime.now(UTC)

    def nodes(self) -> list[Node]:
        with self._lock():
            running = [entry for entry in self._advance() if entry.running]
        types, used = self.capacity.gpu_types, dict[str, int]()
        for index in (index for entry in running for index in entry.job["gpu_ids"]):
            used[types[index]] = used.get(types[index], 0) + 1
        cpus = sum(entry.request.cpus for entry in running)
        return [
            Node(
                name="localhost",
                state="IDLE" if not running else "ALLOCATED" if cpus >= self.capacity.cpus else "MIXED",
                partitions=("local",),
                cpus=self.capacity.cpus,
                cpus_used=cpus,
                mem_gb=self.capacity.mem_gb,
                gpus=dict(self.capacity.gpus),
                gpus_used=used,
                mem_gb_used=sum(entry.request.mem_gb for entry in running),
            )
        ]

    def _request(self, script: Path) -> tuple[str, Request]:
        try:
            text = script.read_text()
        except OSError as error:
            raise SubmitFailed(f"cannot read {script}: {error}") from error
        request = parse_script(text, script.name)
        local_entry.refuse_oversize(request, self.capacity)
        return text, request

    def _advance(self) -> list[Entry]:
        """One look at every job: settles what ended, forgets what is old, starts what fits. Under the lock."""
        entries = [self._current(entry) for job_id in sorted(self._ids(), key=int) if (entry := self._entry(job_id))]
        kept = [entry for entry in entries if not self._forgotten(entry)]
        for position, entry in enumerate(kept):
            if entry.waiting:
                gpu_ids = local_entry.place(entry.request, kept, self.capacity)
                if gpu_ids is None:
                    break  # first in, first out: nobody overtakes
                kept[position] = local_entry.start(entry, gpu_ids)
        return kept

    def _current(self, entry: Entry) -> Entry:
        return local_entry.settle(entry) if entry.running and not entry.alive else entry

    def _forgotten(self, entry: Entry) -> bool:
        old = bool(entry.end) and datetime.now(UTC) - local_entry.when(entry.end["ended_at"]) > KEEP
        if old:
            shutil.rmtree(entry.folder, ignore_errors=True)
        return old

    def _ids(self) -> list[str]:
        return [folder.name for folder in (self.root / "jobs").iterdir() if folder.name.isdecimal()]

    def _entry(self, job_id: str) -> Entry | None:
        return local_entry.read(self.root / "jobs" / job_id) if job_id.isdecimal() else None

    def _next_id(self) -> str:
        counter = self.root / "last_id"
        last = int(counter.read_text()) if counter.exists() else 0
        number = max([last, *map(int, self._ids())]) + 1
        temporary = counter.with_suffix(".new")
        temporary.write_text(f"{number}\n")
        temporary.replace(counter)
        return str(number)

    @contextmanager
    def _lock(self, timeout_s: float = 20.0) -> Iterator[None]:
        (self.root / "jobs").mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self.root / "lock").open("a") as file:
            until = time.monotonic() + timeout_s
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > until:
                        raise SchedulerUnreachable(f"another process held {file.name} for {timeout_s:g} s") from None
                    time.sleep(0.01)
            yield


def cpus_here() -> int:
    """How many CPUs the local scheduler counts on this machine."""
    return max(os.cpu_count() or 1, 6)


def _gpus_here() -> dict[str, int]:
    count = sum(1 for path in Path("/dev").glob("nvidia[0-9]*"))
    return {"gpu": count} if count else {}


def _send(pid: int, ticks: int, number: int) -> None:
    """A signal to this very process: its descriptor is opened before its start time is compared."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if local_job.start_ticks(pid) == ticks:
            pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return
    finally:
        os.close(descriptor)
