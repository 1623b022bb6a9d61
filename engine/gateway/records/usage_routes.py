"""Usage and traffic as routes: /api/usage for everybody's own and admins' all, /api/traffic for admins."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Literal

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response

from engine.errors import ConfigurationError
from engine.gateway.access import admin_key, any_key
from engine.gateway.keys import Key, Keys
from engine.gateway.records import accounting
from engine.gateway.records.cells import BUCKETS_S, TOKEN_BUCKETS_S
from engine.gateway.records.ledger import Ledger
from engine.gateway.records.traffic import By, minute_of, traffic

CALLER = Depends(any_key)
ADMIN = Depends(admin_key)
EVERYTHING: list[accounting.By] = ["day", "key", "model"]
TRAFFIC_BEFORE = timedelta(hours=1)


def router(ledger: Ledger, keys: Keys) -> APIRouter:
    """Routes under /api, each with the rights that it needs."""
    api = APIRouter(prefix="/api", tags=["Usage"])
    csv: dict[int | str, dict[str, Any]] = {200: {"content": {"text/csv": {"schema": {"type": "string"}}}}}

    @api.get("/usage", summary="Use by day, key and model: an admin sees all, others their own", responses=csv)
    async def usage(
        caller: Key = CALLER,
        first: Annotated[date | None, Query(alias="from", description="first day, UTC")] = None,
        last: Annotated[date | None, Query(alias="to", description="last day, UTC, included")] = None,
        by: Annotated[list[accounting.By], Query(description="what rows are told apart by", max_length=3)] = EVERYTHING,
        format: Literal["json", "csv"] = "json",
    ) -> Any:
        names = {key.id: key.name for key in await asyncio.to_thread(keys.list)}
        days = (first.isoformat() if first else "", last.isoformat() if last else "9")
        own = None if caller.role == "admin" else caller.id

        def rows(connection: sa.Connection) -> list[dict[str, Any]]:
            return accounting.usage(connection, names, *days, key_id=own, by=by)

        found = await ledger.ask(rows)
        if format == "csv":
            return Response(accounting.as_csv(found, accounting.columns(by)), media_type="text/csv; charset=utf-8")
        return found

    @api.get("/traffic", summary="Traffic over time, in steps of minutes", dependencies=[ADMIN])
    async def over_time(
        begin: Annotated[datetime | None, Query(alias="from", description="default: an hour before `to`")] = None,
        end: Annotated[datetime | None, Query(alias="to", description="default: now")] = None,
        step: Annotated[int, Query(ge=60, le=30 * 86400, description="seconds, a multiple of 60")] = 60,
        by: Annotated[By, Query(description="what rows are told apart by, beside time")] = "model",
        model: Annotated[str | None, Query(max_length=200)] = None,
        key: Annotated[str | None, Query(max_length=200, description="a key's id")] = None,
    ) -> dict[str, Any]:
        until = _utc(end) if end else datetime.now(UTC) + timedelta(minutes=1)
        since = _utc(begin) if begin else until - TRAFFIC_BEFORE
        rows = await ledger.ask(lambda connection: traffic(connection, since, until, step, by, model, key))
        bounds = {"buckets_s": BUCKETS_S, "token_buckets_s": TOKEN_BUCKETS_S}
        return {"object": "traffic", "step_s": step, **bounds, "data": rows}

    return api


def _utc(moment: datetime) -> datetime:
    """A time without a zone is taken as UTC; raises ConfigurationError for one that no database holds."""
    zoned = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    try:
        minute_of(zoned)
        return zoned.astimezone(UTC)
    except (OverflowError, ValueError) as error:
        raise ConfigurationError(f"{moment.isoformat()} is no time to ask for") from error
