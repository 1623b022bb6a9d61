"""Feedback from users, and what admins see of it and of the verdicts."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from engine.gateway.access import admin_key, any_key
from engine.gateway.keys import Key
from engine.gateway.records.journal import Journal

CALLER = Depends(any_key)


class Feedback(BaseModel):
    """What somebody says of an answer. Personal numbers are masked before it is kept."""

    model_config = ConfigDict(extra="forbid")
    kind: Literal["like", "dislike", "refused"]
    question: str = Field(min_length=1, max_length=20_000)
    answer: str | None = Field(None, max_length=100_000)
    sources: list[str] | None = Field(None, max_length=100)
    reason: str | None = Field(None, max_length=5_000)
    language: str = Field(pattern=r"^[a-zA-Z]{2,3}(-[a-zA-Z0-9]{2,8})*$", max_length=35, examples=["de"])


def router(journal: Journal) -> APIRouter:
    api = APIRouter(prefix="/api")
    admins = [Depends(admin_key)]

    @api.post("/feedback", tags=["Feedback"], summary="Say what an answer was like", status_code=201)
    async def say(wanted: Feedback, key: Key = CALLER) -> dict[str, Any]:
        return await asyncio.to_thread(journal.add_feedback, key.id, wanted.model_dump(exclude_none=True))

    @api.get("/feedback", tags=["Feedback"], summary="What was said, the latest first", dependencies=admins)
    async def said(
        kind: Literal["like", "dislike", "refused"] | None = None, limit: int = Query(100, ge=1, le=10000)
    ) -> list[dict[str, Any]]:
        return await asyncio.to_thread(journal.feedback, limit, kind)

    @api.get("/feedback/counts", tags=["Feedback"], summary="How often each kind was said", dependencies=admins)
    async def feedback_counts(
        days: int = Query(30, ge=1, le=365, description="as many as these, back from now"),
    ) -> dict[str, int]:
        since = datetime.now(UTC) - timedelta(days=days)
        return {"days": days, **await asyncio.to_thread(journal.feedback_counts, since)}

    @api.get("/verdicts", tags=["Workflows"], summary="Outcomes of tribunals, the latest first", dependencies=admins)
    async def verdicts(
        outcome: Literal["accepted", "rejected", "bypassed"] | None = None,
        model: str | None = None,
        limit: int = Query(100, ge=1, le=10000),
    ) -> list[dict[str, Any]]:
        return await asyncio.to_thread(journal.verdicts, limit, outcome, model)

    @api.get("/verdicts/counts", tags=["Workflows"], summary="Tribunals by outcome, model and law", dependencies=admins)
    async def counts(
        days: int = Query(30, ge=1, le=365, description="as many as these, back from now"), model: str | None = None
    ) -> dict[str, Any]:
        since = datetime.now(UTC) - timedelta(days=days)
        return {"days": days, **await asyncio.to_thread(journal.verdict_counts, since, model)}

    return api
