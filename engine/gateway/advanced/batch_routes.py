"""OpenAI's /v1/files and /v1/batches. A key sees its own, a key of role admin all."""

import asyncio
import re
from typing import Any, Literal

from fastapi import APIRouter, Depends, Form, Query, UploadFile
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from engine.gateway.access import any_key
from engine.gateway.advanced.batch_runner import BatchRunner
from engine.gateway.advanced.batch_store import BatchStore
from engine.gateway.advanced.batches import Batch
from engine.gateway.keys import Key
from engine.gateway.protocol import Refusal, Refused

CALLER = Depends(any_key)


class BatchWanted(BaseModel):
    input_file_id: str = Field(max_length=100)
    endpoint: Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings"]
    completion_window: str = Field("24h", pattern=r"^[1-9][0-9]{0,2}[hd]$", description="such as 24h or 7d")
    metadata: dict[str, str] | None = Field(None, max_length=16)

    @property
    def window_s(self) -> int:
        return int(self.completion_window[:-1]) * (3600 if self.completion_window[-1] == "h" else 86_400)


def router(store: BatchStore, runner: BatchRunner) -> APIRouter:
    api = APIRouter(tags=["Batches"])
    _files(api, store)
    _batches(api, store, runner)
    return api


def seen_by(key: Key) -> str | None:
    return None if key.role == "admin" else key.id


def _files(api: APIRouter, store: BatchStore) -> None:
    @api.post("/v1/files", summary="Upload the input of a batch, a request as JSON on each line")
    async def upload(file: UploadFile, purpose: Literal["batch"] = Form(), key: Key = CALLER) -> dict[str, Any]:
        name = printable(file.filename or "input.jsonl")[:200]
        made = await asyncio.to_thread(store.add_file, key.id, name, file.file)
        return made.as_json(store.keep_s)

    @api.get("/v1/files", summary="Files, the newest first")
    async def files(
        purpose: str | None = None,
        limit: int = Query(10_000, ge=1, le=10_000),
        after: str | None = None,
        order: Literal["asc", "desc"] = "desc",
        key: Key = CALLER,
    ) -> dict[str, Any]:
        found = await asyncio.to_thread(store.files, seen_by(key))
        rows = [file.as_json(store.keep_s) for file in found if purpose in (None, file.purpose)]
        return page(rows if order == "desc" else rows[::-1], after, limit)

    @api.get("/v1/files/{id}", summary="One file")
    async def file(id: str, key: Key = CALLER) -> dict[str, Any]:
        return (await asyncio.to_thread(store.file, id, seen_by(key))).as_json(store.keep_s)

    @api.get("/v1/files/{id}/content", summary="What is in a file", response_class=FileResponse)
    async def content(id: str, key: Key = CALLER) -> FileResponse:
        path = await asyncio.to_thread(store.content, id, seen_by(key))
        return FileResponse(path, media_type="application/jsonl")

    @api.delete("/v1/files/{id}", summary="Delete a file")
    async def delete(id: str, key: Key = CALLER) -> dict[str, Any]:
        await asyncio.to_thread(store.delete_file, id, seen_by(key))
        return {"id": id, "object": "file", "deleted": True}


def _batches(api: APIRouter, store: BatchStore, runner: BatchRunner) -> None:
    @api.post("/v1/batches", summary="Run the requests of a file in the background")
    async def create(wanted: BatchWanted, key: Key = CALLER) -> dict[str, Any]:
        metadata = {printable(name)[:64]: printable(text)[:512] for name, text in (wanted.metadata or {}).items()}
        batch = await asyncio.to_thread(
            store.create, key.id, wanted.input_file_id, wanted.endpoint, wanted.window_s, metadata or None
        )
        runner.look()
        return batch.as_json()

    @api.get("/v1/batches", summary="Batches, the newest first")
    async def batches(
        after: str | None = None, limit: int = Query(20, ge=1, le=100), key: Key = CALLER
    ) -> dict[str, Any]:
        found = await asyncio.to_thread(store.batches, seen_by(key))
        return page([batch.as_json() for batch in found], after, limit)

    @api.get("/v1/batches/{id}", summary="How far a batch is")
    async def one(id: str, key: Key = CALLER) -> dict[str, Any]:
        return (await _find(store, id, key)).as_json()

    @api.post("/v1/batches/{id}/cancel", summary="End a batch; what is done stays")
    async def cancel(id: str, key: Key = CALLER) -> dict[str, Any]:
        return (await asyncio.to_thread(store.cancel, id, seen_by(key))).as_json()


async def _find(store: BatchStore, id: str, key: Key) -> Batch:
    return await asyncio.to_thread(store.batch, id, seen_by(key))


def page(rows: list[dict[str, Any]], after: str | None, limit: int) -> dict[str, Any]:
    """OpenAI's list: `limit` rows behind the one whose id is `after`."""
    if after is not None:
        at = next((at for at, row in enumerate(rows) if row["id"] == after), None)
        if at is None:
            raise Refused(Refusal(404, f"`after` names {after!r}, which is not here", code="not_found", param="after"))
        rows = rows[at + 1 :]
    shown = rows[:limit]
    ends = {"first_id": shown[0]["id"], "last_id": shown[-1]["id"]} if shown else {"first_id": None, "last_id": None}
    return {"object": "list", "data": shown, **ends, "has_more": len(rows) > limit}


def printable(text: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f\ud800-\udfff]", "_", text)
