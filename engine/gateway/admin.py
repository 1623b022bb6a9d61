"""The control routes of operators: /api. Every controller call blocks, so it runs in a thread."""

import asyncio
from typing import Any, Literal, Protocol

import msgspec
from fastapi import APIRouter, Depends, Query
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field

from engine.errors import UnknownName
from engine.fleet.deployments import Event, Snapshot, Status
from engine.fleet.request import LaunchRequest
from engine.fleet.schedulers.jobs import Job, Node
from engine.fleet.status import status_json
from engine.gateway.access import admin_key
from engine.gateway.keys import Keys, Limits
from engine.gateway.routes import Routes


class Control(Protocol):
    """The controller as the gateway uses it: `snapshot` at any time, the methods in a thread, for they block."""

    @property
    def snapshot(self) -> Snapshot | None: ...
    @property
    def squeue_calls(self) -> int: ...
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


class NewKey(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str = Field(min_length=1, max_length=100)
    role: Literal["admin", "user"] = "user"
    models: list[str] = Field(default=[], max_length=1000, description="names of the models it opens; empty: all")
    requests_per_minute: int | None = Field(None, ge=1, lt=2**53)
    tokens_per_day: int | None = Field(None, ge=1, lt=2**53, description="prompt and completion, per day in UTC")
    parallel: int | None = Field(None, ge=1, lt=2**53, description="requests at the same time")

    @property
    def limits(self) -> Limits:
        return Limits(tuple(self.models), self.requests_per_minute, self.tokens_per_day, self.parallel)


def router(control: Control, keys: Keys, routes: Routes, url: str) -> APIRouter:
    """Routes under /api; `url` is the one address, for the rows' own urls."""
    api = APIRouter(prefix="/api", dependencies=[Depends(admin_key)])
    _deployments(api, control, routes, url)
    _looking(api, control)
    _keys(api, keys)
    return api


def _deployments(api: APIRouter, control: Control, routes: Routes, url: str) -> None:
    def row(status: Status) -> dict[str, Any]:
        token = {"access_token": status.access_token} if status.access_token else {}
        return {**status_json(status, routes.in_flight, url), **token}

    tags: list[Any] = ["Deployments"]

    @api.get("/deployments", tags=tags, summary="All deployments with their replicas")
    async def deployments() -> list[dict[str, Any]]:
        await routes.wait()
        snapshot = control.snapshot
        return [status_json(s, routes.in_flight, url) for s in snapshot.statuses.values()] if snapshot else []

    @api.post("/deployments", tags=tags, summary="Launch a model or an app", status_code=201)
    async def launch(request: LaunchRequest) -> dict[str, Any]:
        return row(await asyncio.to_thread(control.launch, request))

    @api.get("/deployments/{name}", tags=tags, summary="One deployment, with its access token")
    async def deployment(name: str) -> dict[str, Any]:
        await routes.wait()
        return row(_find(control, name))

    @api.patch("/deployments/{name}", tags=tags, summary="Scale: change the wanted number of replicas")
    async def scale(name: str, wanted: Scale) -> dict[str, Any]:
        return row(await asyncio.to_thread(control.scale, name, wanted.replicas))

    @api.post("/deployments/{name}/drain", tags=tags, summary="Drain one replica; another takes its place")
    async def drain(name: str, replica: int = Query(ge=0)) -> dict[str, Any]:
        return row(await asyncio.to_thread(control.drain, name, replica))

    @api.post("/deployments/{name}/restart", tags=tags, summary="Replace all replicas, new ones first")
    async def restart(name: str) -> dict[str, Any]:
        return row(await asyncio.to_thread(control.restart, name))

    @api.delete("/deployments/{name}", tags=tags, summary="Drain all replicas and forget the deployment")
    async def stop(name: str) -> dict[str, Any]:
        return row(await asyncio.to_thread(control.stop, name))

    @api.post("/render", tags=tags, summary="The script that a launch would submit", response_class=PlainTextResponse)
    async def render(request: LaunchRequest) -> str:
        return await asyncio.to_thread(control.render, request)

    @api.get("/deployments/{name}/log", tags=tags, summary="Last lines of a log", response_class=PlainTextResponse)
    async def log(name: str, replica: int | None = Query(None, ge=0), lines: int = Query(200, ge=1, le=10000)) -> str:
        return await asyncio.to_thread(control.log, name, replica, lines)


def _looking(api: APIRouter, control: Control) -> None:
    @api.get("/deployments/{name}/events", tags=["Deployments"], summary="History of one deployment, oldest first")
    async def deployment_events(name: str, limit: int = Query(200, ge=1, le=10000)) -> Any:
        return _plain(await asyncio.to_thread(control.events, name, limit))

    @api.get("/events", tags=["Fleet"], summary="History of all deployments, oldest first")
    async def events(limit: int = Query(200, ge=1, le=10000)) -> Any:
        return _plain(await asyncio.to_thread(control.events, None, limit))

    @api.get("/jobs", tags=["Fleet"], summary="Jobs by scheduler, as last seen")
    async def jobs() -> Any:
        return _plain(await asyncio.to_thread(control.jobs))

    @api.get("/cluster", tags=["Fleet"], summary="Nodes by scheduler")
    async def cluster() -> Any:
        return _plain(await asyncio.to_thread(control.cluster))


def _keys(api: APIRouter, keys: Keys) -> None:
    @api.get("/keys", tags=["Keys"], summary="All keys ever made, without their secrets")
    async def list_keys() -> Any:
        return _plain(await asyncio.to_thread(keys.list))

    @api.post("/keys", tags=["Keys"], summary="Make a key; its secret is told this once", status_code=201)
    async def create_key(wanted: NewKey) -> dict[str, Any]:
        key, secret = await asyncio.to_thread(keys.create, wanted.name, wanted.role, wanted.limits)
        return {**_plain(key), "key": secret}

    @api.delete("/keys/{id}", tags=["Keys"], summary="Revoke a key")
    async def revoke_key(id: str) -> Any:
        return _plain(await asyncio.to_thread(keys.revoke, id))


def _find(control: Control, name: str) -> Status:
    statuses = control.snapshot.statuses if control.snapshot else {}
    if name not in statuses:
        raise UnknownName("deployment", name, statuses)
    return statuses[name]


def _plain(value: Any) -> Any:
    return msgspec.to_builtins(value)
