"""Runs batches in the background of the worker and goes on with them at a start."""

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Any

from engine.errors import EngineError, UnknownName
from engine.gateway.advanced.asker import Asker, Use
from engine.gateway.advanced.batch_store import BatchStore, Results
from engine.gateway.advanced.batches import ENDED, Batch, InvalidInput, Item
from engine.gateway.gates import Klass
from engine.gateway.keys import Key
from engine.gateway.protocol import refusal
from engine.workflows.parallel import as_they_end

log = logging.getLogger("engine.batches")
LOOK_S = 1.0
# New batches are told of; this is for those that another process leaves.
RESCAN_S = 5.0
FORGET_EVERY_S = 3600.0
SAVE_EVERY_S = 1.0


class BatchRunner:
    """One task looks for batches that nobody runs, one more runs each of them.

    The state is in the store alone, so a worker that ends, however it ends, leaves a batch to the next one; requests
    in flight at that moment are asked again, finished ones never.
    """

    def __init__(self, store: BatchStore, asker: Asker, key_of: Callable[[str], Key | None]) -> None:
        """`key_of` tells the valid key of an id; it blocks."""
        self._store, self._asker, self._key_of = store, asker, key_of
        self._running: dict[str, asyncio.Task[None]] = {}
        self._looking: asyncio.Task[None] | None = None
        self._new = asyncio.Event()

    def start(self) -> None:
        if self._looking is None:
            self._looking = asyncio.create_task(self._look_for_ever())

    async def stop(self) -> None:
        """Ends what runs here; its results so far stay."""
        tasks = [*self._running.values(), *([self._looking] if self._looking else [])]
        self._looking = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def look(self) -> None:
        """There is a new batch."""
        self._new.set()

    async def _look_for_ever(self) -> None:
        await self._asker.started()
        forgotten_at = -FORGET_EVERY_S
        while True:
            self._new.clear()
            try:
                for batch in await asyncio.to_thread(self._store.batches, None):
                    if batch.status not in ENDED and batch.id not in self._running:
                        self._begin(batch)
                if time.monotonic() - forgotten_at > FORGET_EVERY_S:
                    forgotten_at = time.monotonic()
                    await asyncio.to_thread(self._store.forget_old)
            except Exception:
                log.exception("looking for batches failed")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._new.wait(), RESCAN_S)

    def _begin(self, batch: Batch) -> None:
        task = asyncio.create_task(self._run(batch.id), name=batch.id)
        self._running[batch.id] = task
        task.add_done_callback(lambda _: self._running.pop(batch.id, None))

    async def _run(self, id: str) -> None:
        try:
            batch = await asyncio.to_thread(self._store.batch, id, None)
            lock = await asyncio.to_thread(self._store.lock, batch)
        except (UnknownName, OSError) as error:
            log.warning("batch %s cannot be run: %s", id, error)
            return
        if lock is None:
            return  # another process runs it still
        try:
            # What was read before the lock may be old.
            batch = await asyncio.to_thread(self._store.batch, id, None)
            if batch.status not in ENDED:
                await self._work(batch)
        except EngineError as error:
            await self._fail(batch, [{"code": "batch_failed", "line": None, "message": str(error), "param": None}])
        except Exception:
            log.exception("batch %s failed", id)
            told = {"code": "batch_failed", "line": None, "message": "the engine failed at this batch", "param": None}
            await self._fail(batch, [told])
        finally:
            lock.close()

    async def _fail(self, batch: Batch, errors: list[dict[str, Any]]) -> None:
        failed = replace(batch, status="failed", errors=tuple(errors), ended_at=int(time.time()))
        await asyncio.to_thread(self._store.save, failed)

    async def _work(self, batch: Batch) -> None:
        try:
            items = await asyncio.to_thread(self._store.items, batch)
        except InvalidInput as error:
            await self._fail(batch, error.errors)
            return
        results = await asyncio.to_thread(self._store.results, batch)
        try:
            now = int(time.time())
            batch = replace(batch, status="in_progress", in_progress_at=batch.in_progress_at or now, total=len(items))
            todo = [item for item in items if item.custom_id not in results.done]
            batch = await self._progress(batch, results, todo)
        finally:
            await asyncio.to_thread(results.close)
        await self._finish(batch)

    async def _progress(self, batch: Batch, results: Results, todo: list[Item]) -> Batch:
        """Asks for what is left; returns the batch with the status that it ends with."""
        key = await asyncio.to_thread(self._key_of, batch.owner)
        status = "completed" if key is not None else "failed"
        saved_at = 0.0
        if key is not None:
            async with aclosing(self._lines(batch, key, todo)) as lines:
                async for line in lines:
                    if line is not None:
                        results.write(line)
                    if time.monotonic() - saved_at > SAVE_EVERY_S:
                        saved_at = time.monotonic()
                        batch = counted(batch, results)
                        await asyncio.to_thread(self._store.save, batch)
                        if self._store.is_cancelled(batch):
                            status = "cancelled"
                        elif time.time() > batch.expires_at:
                            status = "expired"
                        if status != "completed":
                            break
        else:
            revoked = {"code": "invalid_api_key", "line": None, "param": None}
            batch = replace(batch, errors=({**revoked, "message": "the key of this batch was revoked"},))
        return replace(counted(batch, results), status=status)

    async def _lines(self, batch: Batch, key: Key, todo: list[Item]) -> AsyncGenerator[dict[str, Any] | None, None]:
        """The output's lines as they end, and None now and then, so that a cancel is seen while nothing ends."""
        patience_s = max(0.0, batch.expires_at - time.time())
        use = Use(key, Klass.BULK, batch.endpoint, patience_s)
        models = sorted({str(item.body["model"]) for item in todo})

        async def one(item: Item) -> dict[str, Any]:
            return await self._line(item, use)

        def parallel() -> int:
            return sum(self._asker.capacity(model, key) for model in models)

        async with aclosing(as_they_end(todo, one, parallel)) as lines:
            coming: asyncio.Future[Any] = asyncio.ensure_future(anext(lines, None))
            try:
                while True:
                    done, _ = await asyncio.wait({coming}, timeout=LOOK_S)
                    if not done:
                        yield None
                        continue
                    line = coming.result()
                    if line is None:
                        return
                    yield line
                    coming = asyncio.ensure_future(anext(lines, None))
            finally:
                coming.cancel()
                await asyncio.gather(coming, return_exceptions=True)

    async def _line(self, item: Item, use: Use) -> dict[str, Any]:
        id = f"batch_req_{secrets.token_hex(12)}"
        try:
            status, body = 200, await self._asker.complete(item.body, use)
        except EngineError as error:
            told = refusal(error)
            status, body = told.status, dict(told.payload)
        except Exception as error:
            log.exception("an item of a batch failed in a way nobody foresaw")
            told = refusal(error)
            status, body = told.status, dict(told.payload)
        response = {"status_code": status, "request_id": id, "body": body}
        return {"id": id, "custom_id": item.custom_id, "response": response, "error": None}

    async def _finish(self, batch: Batch) -> None:
        ending = replace(batch, status="finalizing", finalizing_at=int(time.time()))
        await asyncio.to_thread(self._store.save, ending)
        output = await asyncio.to_thread(self._store.publish, batch, "output.jsonl")
        errors = await asyncio.to_thread(self._store.publish, batch, "errors.jsonl")
        ended = replace(ending, status=batch.status, output_file_id=output, error_file_id=errors)
        await asyncio.to_thread(self._store.save, replace(ended, ended_at=int(time.time())))


def counted(batch: Batch, results: Results) -> Batch:
    return replace(batch, completed=results.completed, failed=results.failed)
