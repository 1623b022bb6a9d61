"""What operators look at: /api routes that change nothing. What blocks runs in a thread."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query
from fastapi.responses import PlainTextResponse

from engine.capacity import Cards
from engine.fleet.derive import Mark
from engine.fleet.request import LaunchRequest
from engine.fleet.schedulers.jobs import Job, explain
from engine.gateway import probing
from engine.gateway.access import admin_key
from engine.gateway.admin import Control, find
from engine.gateway.rows import Rows

LONGEST_DAYS = 400


def router(control: Control, rows: Rows, cards: Cards) -> APIRouter:
    api = APIRouter(prefix="/api", dependencies=[Depends(admin_key)])
    _before_a_launch(api, control)
    _one_deployment(api, control)
    _fleet(api, control, rows, cards)
    return api


def _before_a_launch(api: APIRouter, control: Control) -> None:
    tags: list[Any] = ["Deployments"]

    @api.get("/catalogue", tags=tags, summary="Models that can be launched, with what a replica asks for")
    async def catalogue() -> Any:
        return await asyncio.to_thread(control.inspection.catalogue)

    @api.post("/render", tags=tags, summary="The script that a launch would submit", response_class=PlainTextResponse)
    async def render(request: LaunchRequest) -> str:
        return await asyncio.to_thread(control.render, request)

    @api.post("/fit", tags=tags, summary="Whether a launch fits the cluster's nodes, in words")
    async def fit(request: LaunchRequest) -> Any:
        return plain(await asyncio.to_thread(control.inspection.fit, request))

    @api.post("/test-only", tags=tags, summary="When the scheduler would start it; nothing is submitted")
    async def test_only(request: LaunchRequest) -> dict[str, Any]:
        scheduler, at = await asyncio.to_thread(control.inspection.expected_start, request)
        return {"scheduler": scheduler, "expected_start_at": plain(at)}


def _one_deployment(api: APIRouter, control: Control) -> None:
    tags: list[Any] = ["Deployments"]

    @api.get("/deployments/{name}/events", tags=tags, summary="History of one deployment, oldest first")
    async def deployment_events(name: str, limit: int = Query(200, ge=1, le=10000)) -> Any:
        return plain(await asyncio.to_thread(control.events, name, limit))

    @api.get("/deployments/{name}/log", tags=tags, summary="Last lines of a log", response_class=PlainTextResponse)
    async def log(name: str, replica: int | None = Query(None, ge=0), lines: int = Query(200, ge=1, le=10000)) -> str:
        return await asyncio.to_thread(control.log, name, replica, lines)

    @api.get("/deployments/{name}/script", tags=tags, summary="Script submitted last", response_class=PlainTextResponse)
    async def script(name: str, replica: int | None = Query(None, ge=0)) -> str:
        return await asyncio.to_thread(control.inspection.script, name, replica)

    @api.get("/deployments/{name}/hosts", tags=tags, summary="Its hosts file, and what its replicas say of themselves")
    async def hosts(name: str) -> Any:
        return plain(await asyncio.to_thread(control.inspection.hosts, name))

    @api.get("/deployments/{name}/nginx", tags=tags, summary="Its part of nginx.conf", response_class=PlainTextResponse)
    async def nginx(name: str) -> str:
        find(control, name)
        return await asyncio.to_thread(control.inspection.nginx, name)

    @api.post("/deployments/{name}/probe", tags=tags, summary="Ask the replicas themselves: health, and one token")
    async def probe(name: str, replica: int | None = Query(None, ge=0)) -> list[dict[str, Any]]:
        return await probing.probe(find(control, name), replica)


def _fleet(api: APIRouter, control: Control, rows: Rows, cards: Cards) -> None:
    tags: list[Any] = ["Fleet"]

    @api.get("/queue", tags=tags, summary="Requests in flight and waiting, by deployment")
    async def queue() -> list[dict[str, Any]]:
        return rows.queue()

    @api.get("/capacity", tags=tags, summary="Capacity cards: what sweeps found")
    async def capacity() -> Any:
        return [{**plain(card), "file": card.setup.file_name} for card in cards.all()]

    @api.get("/events", tags=tags, summary="History of all deployments, oldest first")
    async def events(limit: int = Query(200, ge=1, le=10000)) -> Any:
        return plain(await asyncio.to_thread(control.events, None, limit))

    @api.get("/jobs", tags=tags, summary="Jobs by scheduler, as last seen, with what their state means")
    async def jobs() -> Any:
        found = await asyncio.to_thread(control.jobs)
        return {name: [_job(job) for job in each] for name, each in found.items()}

    @api.get("/cluster", tags=tags, summary="Nodes by scheduler")
    async def cluster() -> Any:
        return plain(await asyncio.to_thread(control.cluster))

    @api.get("/gpus", tags=tags, summary="GPUs by scheduler, type and node: ours, others', free")
    async def gpus() -> Any:
        return plain(await asyncio.to_thread(control.inspection.gpus))

    @api.get("/schedulers", tags=tags, summary="Whether each scheduler answers, and how often it was called")
    async def schedulers() -> Any:
        return plain(await asyncio.to_thread(control.inspection.schedulers))

    @api.get("/gpu-hours", tags=["Usage"], summary="GPU hours by day and deployment, from Slurm's accounting")
    async def gpu_hours(
        first: Annotated[date | None, Query(alias="from", description="default: 30 days before `to`")] = None,
        last: Annotated[date | None, Query(alias="to", description="default: today, UTC; included")] = None,
    ) -> Any:
        until = last or datetime.now(UTC).date()
        since = first or until - timedelta(days=min(30, (until - date.min).days))
        since = max(since, until - timedelta(days=min(LONGEST_DAYS, (until - date.min).days)))
        return plain(await asyncio.to_thread(control.inspection.gpu_hours, since, until))


def _job(job: Job) -> dict[str, Any]:
    """`deployment` is whose replica it is, empty for this user's other jobs."""
    mark = Mark.read(job.comment)
    return {**plain(job), "deployment": mark.name if mark else "", "words": explain(job)}


def plain(value: Any) -> Any:
    return msgspec.to_builtins(value)
