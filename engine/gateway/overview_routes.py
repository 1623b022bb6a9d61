"""/api/overview: asked for by every open console, so its parts that cost something are kept for a moment."""

import asyncio
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from fastapi import APIRouter, Depends

from engine.errors import EngineError
from engine.fleet.gpus import GpuType
from engine.gateway import overview
from engine.gateway.access import admin_key
from engine.gateway.admin import Control
from engine.gateway.records.ledger import Ledger
from engine.gateway.records.traffic import traffic
from engine.gateway.rows import Rows

WINDOW = timedelta(minutes=5)
KEPT_S = 1.0


class Overview:
    """`in_flight` tells how many requests the gateway has now."""

    def __init__(
        self, control: Control, rows: Rows, ledger: Ledger, backend: str, in_flight: Callable[[], int]
    ) -> None:
        self._control, self._rows, self._ledger, self._in_flight = control, rows, ledger, in_flight
        self._backend = backend
        self._started_at, self._begun = datetime.now(UTC), time.monotonic()
        self._asking = asyncio.Lock()
        self._last: tuple[float, dict[str, Any]] = (0.0, {})

    async def now(self) -> dict[str, Any]:
        async with self._asking:
            at, found = self._last
            if not found or time.monotonic() - at > KEPT_S:
                found = await self._ask()
                self._last = (time.monotonic(), found)
            return found

    async def _ask(self) -> dict[str, Any]:
        now = datetime.now(UTC)
        inspection = self._control.inspection
        schedulers, nginx = await asyncio.to_thread(lambda: (inspection.schedulers(), inspection.nginx_state()))
        gpus, gpus_trouble = await self._gpus()
        seen, database_trouble = await self._traffic(now)
        snapshot = self._control.snapshot
        statuses = list(snapshot.statuses.values()) if snapshot else []
        queued = {row["name"]: row["queued"] for row in self._rows.queue()}
        found = overview.attention(statuses, schedulers, nginx, database_trouble, gpus, seen, queued, now)
        parts = {
            "taken_at": now,
            "gateway": self._gateway(),
            "schedulers": schedulers,
            "nginx": nginx,
            "database": {"kind": self._backend, "trouble": database_trouble},
            "models": overview.stages(statuses, "model"),
            "apps": overview.stages(statuses, "app"),
            "replicas": {
                "ready": sum(len(status.serving) for status in statuses),
                "wanted": sum(status.deployment.replicas for status in statuses),
            },
            "gpus": gpus,
            "gpus_trouble": gpus_trouble,
            "traffic": seen,
            "queued": sum(queued.values()),
        }
        told: dict[str, Any] = msgspec.to_builtins(overview.as_json(parts, found))
        return told

    def _gateway(self) -> dict[str, Any]:
        return {
            "started_at": self._started_at,
            "uptime_s": round(time.monotonic() - self._begun, 1),
            "pid": os.getpid(),
            "address": self._rows.url,
            "in_flight": self._in_flight(),
        }

    async def _gpus(self) -> tuple[dict[str, list[GpuType]], str]:
        try:
            found = await asyncio.to_thread(self._control.inspection.gpus)
        except EngineError as error:
            return {}, str(error)
        return {name: one["types"] for name, one in found.items()}, ""

    async def _traffic(self, now: datetime) -> tuple[overview.Traffic, str]:
        """Of the last minutes, the one that runs included."""
        begin = (now - WINDOW).replace(second=0, microsecond=0) + timedelta(minutes=1)
        window_s = max(1, int((now - begin).total_seconds()))
        try:
            end = now + timedelta(minutes=1)
            rows = await self._ledger.ask(lambda connection: traffic(connection, begin, end, 60, "none"))
        except EngineError as error:
            return overview.traffic([], window_s), str(error)
        return overview.traffic(rows, window_s), ""


def router(page: Overview) -> APIRouter:
    api = APIRouter(prefix="/api", dependencies=[Depends(admin_key)], tags=["Fleet"])

    @api.get("/overview", summary="How all of it is: parts, models, GPUs, traffic, and what needs attention")
    async def now() -> dict[str, Any]:
        return await page.now()

    return api
