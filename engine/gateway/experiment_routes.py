"""Experiments as routes. The measuring is a process of its own, never on the gateway's loop; here folders are read."""

import asyncio
from typing import Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from engine import experiments
from engine.errors import ConfigurationError, UnknownName
from engine.experiments import Experiment, Options
from engine.gateway.access import admin_key
from engine.gateway.routes import HasSnapshot, Routes
from engine.settings import Settings


class Wanted(BaseModel):
    """What `engine bench saturate` takes; `task` is a task file's content."""

    model_config = ConfigDict(extra="forbid")
    target: Literal["gateway", "nginx", "replica"] = "gateway"
    replica: int | None = Field(None, ge=0, description="with target replica: its index; else the first")
    stream: bool = False
    task: dict[str, Any] = Field(default={}, description="messages or prompt, max_tokens, …; empty: the paper's task")
    objective_ms: float | None = Field(None, gt=0, description="the knee is the largest load with this p95 latency")
    max_concurrency: int = Field(4096, ge=1, le=100_000)
    repeats: int = Field(3, ge=1, le=100)
    seed: int = Field(0, ge=0, lt=2**31, description="of the order of trials; 0 takes a random one")
    foreign_cpu: float = Field(0.5, gt=0, le=1, description="share of this machine's CPU that others may use")
    time_scale: float = Field(1.0, gt=0, description="of simulated servers: they run so many times slower")


class NewExperiment(BaseModel):
    model_config = ConfigDict(extra="forbid")
    deployments: list[str] = Field(min_length=1, max_length=100, description="swept one after the other")
    options: Wanted = Wanted.model_validate({})


def router(control: HasSnapshot, routes: Routes, settings: Settings) -> APIRouter:
    api = APIRouter(prefix="/api/experiments", dependencies=[Depends(admin_key)], tags=["Experiments"])
    home = settings.home

    def find(id: str) -> Experiment:
        return experiments.find(home, id)

    def begin(options: Options) -> dict[str, Any]:
        made = experiments.create(home, options)
        experiments.start(settings, made)
        return made.summary()

    def go_on(id: str) -> dict[str, Any]:
        experiments.start(settings, find(id))
        return find(id).summary()

    def end(id: str) -> dict[str, Any]:
        experiments.ask_stop(find(id))
        return find(id).summary()

    def forget(id: str) -> dict[str, Any]:
        experiments.delete(find(id))
        return {"id": id, "deleted": True}

    @api.get("", summary="All experiments, the latest first")
    async def every() -> list[dict[str, Any]]:
        return await asyncio.to_thread(lambda: [one.summary() for one in experiments.every(home)])

    @api.post("", summary="Sweep deployments, in a process that outlives this gateway", status_code=201)
    async def create(wanted: NewExperiment) -> dict[str, Any]:
        await routes.wait()
        _require_models(control, wanted.deployments)
        options = Options(deployments=tuple(wanted.deployments), **wanted.options.model_dump())
        return await asyncio.to_thread(begin, options)

    @api.get("/{id}", summary="One experiment: state, trials from number `first_trial` on, the result so far")
    async def one(id: str, first_trial: int = Query(0, ge=0)) -> dict[str, Any]:
        return await asyncio.to_thread(lambda: find(id).details(first_trial))

    @api.post("/{id}/stop", summary="Stop it; what was measured is kept, and it can go on")
    async def stop(id: str) -> dict[str, Any]:
        return await asyncio.to_thread(end, id)

    @api.post("/{id}/resume", summary="Go on with one that was stopped or failed; valid trials are not repeated")
    async def resume(id: str) -> dict[str, Any]:
        return await asyncio.to_thread(go_on, id)

    @api.delete("/{id}", summary="Delete one that does not run")
    async def delete(id: str) -> dict[str, Any]:
        return await asyncio.to_thread(forget, id)

    return api


def _require_models(control: HasSnapshot, names: list[str]) -> None:
    """Raises UnknownName, or ConfigurationError for an app."""
    known = control.snapshot.statuses if control.snapshot else {}
    for name in names:
        if name not in known:
            raise UnknownName("deployment", name, known)
        if known[name].deployment.kind != "model":
            raise ConfigurationError(f"{name} is an app, not a model: there is nothing to saturate")
