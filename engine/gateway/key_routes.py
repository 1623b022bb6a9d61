"""Keys as routes: what admins make, change and revoke, and what a key is told of itself."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import msgspec
from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from engine.gateway.access import admin_key, any_key
from engine.gateway.keys import Key, Keys, Limits

CALLER = Depends(any_key)


class GivenLimits(BaseModel):
    model_config = ConfigDict(extra="forbid")
    models: list[str] = Field(default=[], max_length=1000, description="names of the models it opens; empty: all")
    requests_per_minute: int | None = Field(None, ge=1, lt=2**53)
    tokens_per_day: int | None = Field(None, ge=1, lt=2**53, description="prompt and completion, per day in UTC")
    parallel: int | None = Field(None, ge=1, lt=2**53, description="requests at the same time")

    @property
    def limits(self) -> Limits:
        return Limits(tuple(self.models), self.requests_per_minute, self.tokens_per_day, self.parallel)


class NewKey(GivenLimits):
    name: str = Field(min_length=1, max_length=100)
    role: Literal["admin", "user"] = "user"


class ChangedLimits(GivenLimits):
    """What is left out stays as it is; null, or an empty list of models, takes the limit away."""

    def over(self, before: Limits) -> Limits:
        given = {name: getattr(self.limits, name) for name in self.model_fields_set}
        return replace(before, **given)


def router(keys: Keys, tokens_today: Callable[[str], int]) -> APIRouter:
    """Routes under /api; `tokens_today` tells what a key has used on this day."""
    api = APIRouter(prefix="/api", tags=["Keys"])
    admins = [Depends(admin_key)]

    @api.get("/whoami", summary="The key that asks: its role, its limits, what it used today")
    async def whoami(key: Key = CALLER) -> dict[str, Any]:
        return {**msgspec.to_builtins(key), "tokens_today": tokens_today(key.id)}

    @api.get("/keys", summary="All keys ever made, without their secrets", dependencies=admins)
    async def list_keys() -> Any:
        return msgspec.to_builtins(await asyncio.to_thread(keys.list))

    @api.post("/keys", summary="Make a key; its secret is told this once", status_code=201, dependencies=admins)
    async def create_key(wanted: NewKey) -> dict[str, Any]:
        key, secret = await asyncio.to_thread(keys.create, wanted.name, wanted.role, wanted.limits)
        return {**msgspec.to_builtins(key), "key": secret}

    @api.patch("/keys/{id}", summary="Change a key's limits", dependencies=admins)
    async def limit_key(id: str, wanted: ChangedLimits) -> Any:
        return msgspec.to_builtins(await asyncio.to_thread(keys.limit, id, wanted.over))

    @api.delete("/keys/{id}", summary="Revoke a key", dependencies=admins)
    async def revoke_key(id: str) -> Any:
        return msgspec.to_builtins(await asyncio.to_thread(keys.revoke, id))

    return api
