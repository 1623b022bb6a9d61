"""The request log as a route: the last requests, for admins."""

import asyncio
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends, Query

from engine.gateway.access import admin_key
from engine.gateway.records.ledger import Ledger
from engine.gateway.records.requestlog import Line, RequestLog

Name = Annotated[str | None, Query(max_length=200)]


def router(ledger: Ledger, log: RequestLog) -> APIRouter:
    api = APIRouter(prefix="/api", dependencies=[Depends(admin_key)], tags=["Usage"])

    @api.get(
        "/requests", summary="The last requests, the latest first; prompts only where they are logged and asked for"
    )
    async def requests(
        model: Name = None,
        key: Annotated[str | None, Query(max_length=200, description="a key's id")] = None,
        outcome: Literal["ok", "error"] | None = None,
        id: Annotated[str | None, Query(max_length=200, description="of one request, as X-Request-Id tells it")] = None,
        slower_than_s: Annotated[float | None, Query(ge=0)] = None,
        prompts: bool = False,
        limit: int = Query(100, ge=1, le=10000),
    ) -> list[dict[str, Any]]:
        def wanted(line: Line) -> bool:
            return (
                model in (None, line.model)
                and key in (None, line.key)
                and id in (None, line.id)
                and (outcome is None or (outcome == "error") == (line.status >= 400 or bool(line.error)))
                and (slower_than_s is None or line.latency_s > slower_than_s)
            )

        await ledger.written()
        found = await asyncio.to_thread(log.latest, wanted, limit)
        return [_row(line, prompts) for line in found]

    return api


def _row(line: Line, prompts: bool) -> dict[str, Any]:
    row = {name: getattr(line, name) for name in Line.__struct_fields__}
    if not prompts:
        del row["prompt"]
    plain: dict[str, Any] = msgspec.to_builtins(row)
    return plain
