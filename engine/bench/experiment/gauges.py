"""What the replicas say of themselves while a trial runs: their queues, and how busy their devices are."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from engine.bench.saturation import Load, Queue
from engine.fleet import hosts
from engine.fleet.deployments import Replica
from engine.fleet.hosts import HostFile

# The gauge of requests that wait, and that of those that run, of each inference engine.
GAUGES = {
    "vllm:num_requests_waiting": "vllm:num_requests_running",
    "llamacpp:requests_deferred": "llamacpp:requests_processing",
    "tgi_queue_size": "tgi_batch_current_size",
    "sglang:num_queue_reqs": "sglang:num_running_reqs",
}
INTERVAL_S, HOSTS_INTERVAL_S = 0.2, 1.0
ANSWER_TIMEOUT_S = 5.0
MOST_BYTES = 4 << 20


class Gauges:
    """Samples in the background; `queue` and `loads` tell of a window. Times are those of time.perf_counter()."""

    def __init__(self, replicas: Sequence[Replica], key: str, folder: Path, cpus: int) -> None:
        """`folder` holds the host files; `cpus` are those of one replica."""
        self._replicas, self._key, self._folder, self._cpus = replicas, key, folder, max(1, cpus)
        self._queues: list[tuple[float, int, str, float, float | None]] = []
        self._loads: list[tuple[float, int, str, float]] = []
        self._beats: dict[str, int] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Gauges":
        asked = [self._ask_on_and_on(replica) for replica in self._replicas]
        self._tasks = [asyncio.create_task(each) for each in (*asked, self._read_on_and_on())]
        return self

    async def __aexit__(self, *exc: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def queue(self, begin: float, end: float) -> Queue | None:
        """Means over the window, summed over the replicas; None where not all of them tell."""
        by_replica: dict[int, list[tuple[float, float | None]]] = {}
        source = ""
        for at, index, name, waiting, running in self._queues:
            if begin <= at <= end:
                by_replica.setdefault(index, []).append((waiting, running))
                source = name
        if len(by_replica) < len(self._replicas):
            return None
        waiting_mean = sum(float(np.mean([w for w, _ in rows])) for rows in by_replica.values())
        known = [[r for _, r in rows if r is not None] for rows in by_replica.values()]
        running_mean = sum(float(np.mean(rows)) for rows in known) if all(known) else None
        return Queue(source, waiting_mean, running_mean)

    def loads(self, begin: float, end: float) -> tuple[Load, ...]:
        """Per device, over the window; the latest sample before it where the sidecar told none within it."""
        found = []
        for index, device in sorted({(index, device) for _, index, device, _ in self._loads}):
            rows = [(at, share) for at, i, d, share in self._loads if (i, d) == (index, device) and at <= end]
            within = [share for at, share in rows if at >= begin] or [share for _, share in rows[-1:]]
            if within:
                found.append(Load(index, device, float(np.mean(within)), float(np.std(within))))
        return tuple(found)

    async def _ask_on_and_on(self, replica: Replica) -> None:
        while True:
            told = _gauge(await page(replica, "/metrics", self._key))
            if told:
                self._queues.append((time.perf_counter(), replica.index, *told))
            await asyncio.sleep(INTERVAL_S)

    async def _read_on_and_on(self) -> None:
        jobs = {replica.job_id: replica for replica in self._replicas}
        while True:
            for file in await asyncio.to_thread(hosts.read, self._folder):
                if file.job_id in jobs and self._beats.get(file.job_id) != file.beat:
                    self._beats[file.job_id] = file.beat
                    self._loads += [(time.perf_counter(), file.index, *load) for load in _devices(file, self._cpus)]
            await asyncio.sleep(HOSTS_INTERVAL_S)


async def page(replica: Replica, path: str, key: str) -> str | None:
    """The body of a GET at a replica; None where it gives none in time."""
    assert replica.endpoint is not None
    writer = None
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(replica.endpoint.host, replica.endpoint.port)
            head = f"GET {path} HTTP/1.0\r\nHost: {replica.endpoint.address}\r\nConnection: close\r\n"
            writer.write(f"{head}Authorization: Bearer {key}\r\n\r\n".encode("ascii"))
            answer = b""
            while len(answer) < MOST_BYTES and (more := await reader.read(1 << 16)):
                answer += more
    except (OSError, TimeoutError):
        return None
    finally:
        if writer is not None:
            with suppress(OSError):
                writer.close()
    head_bytes, _, body = answer.partition(b"\r\n\r\n")
    return body.decode("utf-8", "replace") if head_bytes.split(b" ", 2)[1:2] == [b"200"] else None


def _gauge(text: str | None) -> tuple[str, float, float | None] | None:
    for waiting, running in GAUGES.items():
        if text and (found := _sum(text, waiting)) is not None:
            return waiting, found, _sum(text, running)
    return None


def _sum(text: str, name: str) -> float | None:
    """The sum of a metric over its labels in Prometheus' format; None where it does not occur."""
    values = [
        float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line.startswith(name) and line[len(name) : len(name) + 1] in ("{", " ")
    ]
    return sum(values) if values else None


def _devices(file: HostFile, cpus: int) -> Iterator[tuple[str, float]]:
    for gpu in file.gpus:
        yield f"gpu {gpu.index}", gpu.utilisation_percent / 100
    if not file.gpus and file.cpu_percent is not None:
        yield "cpu", min(1.0, file.cpu_percent / 100 / cpus)
