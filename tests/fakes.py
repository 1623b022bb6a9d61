"""Stand-ins for the parts that a test does not want for real."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, replace
from datetime import UTC, date, datetime

from engine.catalogue import Catalogue, ModelSpec, Resources
from engine.errors import UnknownName
from engine.fleet.deployments import Deployment, Event, Replica, Snapshot, Status
from engine.fleet.fit import Fit
from engine.fleet.hosts import Endpoint
from engine.fleet.inspection import GpuHours, NginxState, SchedulerState
from engine.fleet.request import LaunchRequest
from engine.fleet.schedulers.jobs import Job, Node

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


def deployment(name: str = "sim", model: str = "simulator", kind: str = "model", **more: object) -> Deployment:
    spec = ModelSpec(id=model, engine="simulator", source="simulated:") if kind == "model" else None
    plain = Deployment(name=name, kind=kind, engine="simulator" if spec else "app", scheduler="local",
                       resources=Resources(), created_at=LONG_AGO, model=spec)  # fmt: skip
    return replace(plain, **more)


def serving(name: str, *endpoints: Endpoint, model: str = "simulator", **more: object) -> Status:
    """A deployment whose replicas all serve at these endpoints."""
    replicas = tuple(
        Replica(index=i, attempt=i + 1, generation=1, stage="ready", in_rotation=True, endpoint=endpoint, job_id=str(i))
        for i, endpoint in enumerate(endpoints)
    )
    return Status(deployment(name, model, replicas=len(endpoints), **more), replicas, access_token="token")


class FakeInspection:
    """One machine with a scheduler that always answers."""

    def catalogue(self) -> list[dict[str, object]]:
        return [{**asdict(row), "precisions": (row.precision,), "missing": ""} for row in Catalogue.load().rows]

    def gpus(self) -> dict[str, dict[str, list[object]]]:
        return {"local": {"types": [], "nodes": []}}

    def fit(self, request: LaunchRequest) -> Fit:
        return Fit(True, 1, "needs 1 CPU: the cluster has 2")

    def expected_start(self, request: LaunchRequest) -> tuple[str, datetime | None]:
        return "local", LONG_AGO

    def script(self, name: str, index: int | None) -> str:
        return f"#!/bin/bash\n# {name} {index}\n"

    def hosts(self, name: str) -> dict[str, object]:
        return {"path": f"/home/{name}/hosts.txt", "text": "", "files": []}

    def nginx(self, name: str) -> str:
        return f"upstream deployment_{name} {{}}\n"

    def nginx_state(self) -> NginxState:
        return NginxState(wanted=False)

    def schedulers(self) -> list[SchedulerState]:
        return [SchedulerState("local", True, LONG_AGO)]

    def gpu_hours(self, first: date, last: date) -> GpuHours:
        return GpuHours("there is no Slurm here", [])


class FakeController:
    """Holds a snapshot that the test sets, and answers from it; it launches nothing."""

    def __init__(self, *statuses: Status) -> None:
        self.inspection = FakeInspection()
        self.snapshot: Snapshot | None = None
        self.squeue_calls = 0
        self.asked: list[tuple[object, ...]] = []
        if statuses:
            self.show(*statuses)

    def show(self, *statuses: Status) -> None:
        self.snapshot = Snapshot(datetime.now(UTC), {status.deployment.name: status for status in statuses})

    def _of(self, name: str) -> Status:
        statuses = self.snapshot.statuses if self.snapshot else {}
        if name not in statuses:
            raise UnknownName("deployment", name, statuses)
        return statuses[name]

    def launch(self, request: LaunchRequest) -> Status:
        self.asked.append(("launch", request))
        return Status(deployment(request.name or request.model, request.model))

    def scale(self, name: str, replicas: int) -> Status:
        self.asked.append(("scale", name, replicas))
        return self._of(name)

    def drain(self, name: str, index: int) -> Status:
        self.asked.append(("drain", name, index))
        return self._of(name)

    def restart(self, name: str) -> Status:
        self.asked.append(("restart", name))
        return self._of(name)

    def stop(self, name: str) -> Status:
        self.asked.append(("stop", name))
        return self._of(name)

    def render(self, request: LaunchRequest) -> str:
        return f"#!/bin/bash\n# {request.model}\n"

    def events(self, name: str | None, limit: int) -> list[Event]:
        return [Event(LONG_AGO, name or "sim", "submitted", "job 1 was submitted")][:limit]

    def log(self, name: str, index: int | None, lines: int) -> str:
        return f"log of {self._of(name).deployment.name} {index} {lines}\n"

    def jobs(self) -> dict[str, list[Job]]:
        return {"local": [Job(id="1", name="sim-0", state="RUNNING")]}

    def cluster(self) -> dict[str, list[Node]]:
        return {"local": [Node("here", "idle", ("local",), 2, 0, 4.0, {}, {})]}


Talk = Callable[["Peer"], Awaitable[None]]


class Peer:
    """One connection to a TalkServer, from the server's side."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self.reader, self.writer, self.number = reader, writer, number

    async def request(self) -> tuple[bytes, bytes]:
        """Head and body of the next request; raises IncompleteReadError when the client has left."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
        )
        return head, await self.reader.readexactly(length)

    async def say(self, *parts: bytes, pause_s: float = 0) -> None:
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()
            await asyncio.sleep(pause_s)

    async def answer(
        self, body: bytes, head: bytes = b"content-type: application/json\r\n", status: bytes = b"200 OK"
    ) -> None:
        await self.say(b"HTTP/1.1 %b\r\n%bcontent-length: %d\r\n\r\n%b" % (status, head, len(body), body))

    async def gone(self) -> None:
        """Returns when the client has closed the connection."""
        with suppress(ConnectionError):
            await self.reader.read()

    def reset(self) -> None:
        self.writer.transport.abort()


class TalkServer:
    """A server that says exactly what a test makes it say. `talk` runs for each connection."""

    def __init__(self, talk: Talk) -> None:
        self.talk = talk
        self.connections = 0
        self.open = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.open += 1
        try:
            await self.talk(Peer(reader, writer, self.connections))
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.open -= 1
            self._tasks.discard(task)
            writer.transport.abort()

    async def start(self) -> Endpoint:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=64 * 2**20)
        return Endpoint("127.0.0.1", self._server.sockets[0].getsockname()[1], "replica-secret")

    async def stop(self) -> None:
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def talking(talk: Talk) -> AsyncIterator[tuple[TalkServer, Endpoint]]:
    server = TalkServer(talk)
    endpoint = await server.start()
    try:
        yield server, endpoint
    finally:
        await server.stop()
