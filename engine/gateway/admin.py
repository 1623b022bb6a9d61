"""The control routes that change deployments. Every controller call blocks, so it runs in a thread."""

import asyncio
from typing import Any, Protocol

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from engine.errors import UnknownName
from engine.fleet.deployments import Event, Snapshot, Status
from engine.fleet.inspection import Inspection
from engine.fleet.request import LaunchRequest
from engine.fleet.schedulers.jobs import Job, Node
from engine.gateway.access import admin_key
from engine.gateway.routes import Routes
from engine.gateway.rows import Rows


class Control(Protocol):
    """The controller as the gateway uses it: `snapshot` at any time, the methods in a thread, for they block."""

    @property
    def snapshot(self) -> Snapshot | None: ...
    @property
    def squeue_calls(self) -> int: ...
    @property
    def inspection(self) -> Inspection: ...
    def launch(self, request: LaunchRequest) -> Status: ...
    def scale(self, name: str, replicas: int) -> Status: ...
    def drain(self, name: str, index: int) -> Status: ...
    def restart(self, name: str) -> Status: ...
    def stop(self, name: str) -> Status: ...
    def render(self, request: LaunchRequest) -> str: ...
    def events(self, name: str | None, limit: int) -> list[Event]: ...
    def log(self, name: str, index: int | None, lines: int) -> str: ...
    def jobs(self) -> dict[str, list[Job]]: ...
    def cluster(self) -> dict[str, list[Node]]: ...


class Scale(BaseModel):
    model_config = ConfigDict(extra="forbid")
    replicas: int = Field(ge=0, le=1000)


def router(control: Control, routes: Routes, rows: Rows) -> APIRouter:
    tags: list[Any] = ["Deployments"]
    api = APIRouter(prefix="/api", dependencies=[Depends(admin_key)], tags=tags)

    @api.get("/deployments", summary="All deployments with their replicas, their load and their queues")
    async def deployments() -> list[dict[str, Any]]:
        await routes.wait()
        return rows.all()

    @api.post("/deployments", summary="Launch a model or an app", status_code=201)
    async def launch(request: LaunchRequest) -> dict[str, Any]:
        return rows.one(await asyncio.to_thread(control.launch, request))

    @api.get("/deployments/{name}", summary="One deployment, with what was asked for and its access token")
    async def deployment(name: str) -> dict[str, Any]:
        await routes.wait()
        return rows.one(find(control, name))

    @api.patch("/deployments/{name}", summary="Scale: change the wanted number of replicas")
    async def scale(name: str, wanted: Scale) -> dict[str, Any]:
        return rows.one(await asyncio.to_thread(control.scale, name, wanted.replicas))

    @api.post("/deployments/{name}/drain", summary="Drain one replica; another takes its place")
    async def drain(name: str, replica: int = Query(ge=0)) -> dict[str, Any]:
        return rows.one(await asyncio.to_thread(control.drain, name, replica))

    @api.post("/deployments/{name}/restart", summary="Replace all replicas, new ones first")
    async def restart(name: str) -> dict[str, Any]:
        return rows.one(await asyncio.to_thread(control.restart, name))

    @api.delete("/deployments/{name}", summary="Drain all replicas and forget the deployment")
    async def stop(name: str) -> dict[str, Any]:
        return rows.one(await asyncio.to_thread(control.stop, name))

    return api


def find(control: Control, name: str) -> Status:
    """Raises UnknownName."""
    statuses = control.snapshot.statuses if control.snapshot else {}
    if name not in statuses:
        raise UnknownName("deployment", name, statuses)
    return statuses[name]
