"""The routes of the workflows: bulk, tribunal and the laws."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from engine.gateway.access import any_key
from engine.gateway.advanced.answers import encode
from engine.gateway.advanced.asker import Asker, Use
from engine.gateway.advanced.leaving import Events, unless_left
from engine.gateway.gates import Klass
from engine.gateway.keys import Key
from engine.gateway.metrics import Counts
from engine.gateway.protocol import refusal
from engine.gateway.records.journal import Journal, outcome
from engine.gateway.records.recording import Recorder
from engine.workflows import bulk as bulk_workflow
from engine.workflows.complete import Usage
from engine.workflows.laws import LawSet, choose, load_laws
from engine.workflows.tribunal import Case, Step, Verdict, tribunal

log = logging.getLogger("engine.workflows")
ITEMS_MOST = 100_000
# Of a completion, but not of a workflow: it says itself how often and how a model answers.
NOT_PARAMETERS = frozenset({"stream", "stream_options", "n"})
DEFAULT_LAWS = "default"
BULK_PATIENCE_S = 600.0
WORKFLOW_PATIENCE_S = 300.0
CALLER = Depends(any_key)
JSON_OR_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "the whole answer; with `stream` server-sent events as things happen, then `[DONE]`",
        "content": {"application/json": {}, "text/event-stream": {}},
    }
}


class Wanted(BaseModel):
    """Fields that are not named here are parameters of the completions: max_tokens, temperature, …"""

    model_config = ConfigDict(extra="allow")
    model: str = Field(description="name of a deployment, or a catalogue id", max_length=200)
    stream: bool = Field(False, description="server-sent events as things happen, then `[DONE]`")

    @property
    def parameters(self) -> dict[str, Any]:
        return {name: value for name, value in (self.model_extra or {}).items() if name not in NOT_PARAMETERS}


class BulkWanted(Wanted):
    requests: list[Any] = Field(
        min_length=1,
        max_length=ITEMS_MOST,
        description="objects with `messages` or `prompt`, and what differs from the shared parameters",
        examples=[[{"prompt": "What is Slurm?"}, {"messages": [{"role": "user", "content": "Hello"}]}]],
    )


class LawWanted(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    text: str


class TribunalWanted(Wanted):
    messages: list[dict[str, Any]] = Field(min_length=1)
    laws: str | list[LawWanted] = Field(DEFAULT_LAWS, description="the name of a set, or laws")
    max_rounds: int = Field(3, ge=1, le=20)
    judges: list[str] = Field([], max_length=16, description="models that judge; none: the model itself")

    def case(self, known: dict[str, LawSet]) -> Case:
        laws = self.laws if isinstance(self.laws, str) else [law.model_dump() for law in self.laws]
        found = choose(laws, known)
        return Case(self.model, self.messages, found, self.max_rounds, tuple(self.judges), self.parameters)


class Workflows:
    """Runs workflows for a key; the routes, the `tribunal/…` model names and batches all come here."""

    def __init__(self, asker: Asker, journal: Journal, laws: Path, counts: Counts, recorder: Recorder) -> None:
        """`laws` is the folder of the sets, read anew at each use, for operators edit it."""
        self.asker, self._journal, self._laws = asker, journal, laws
        self._counts, self._recorder = counts, recorder

    def bypassed(self, key: Key, model: str) -> None:
        """A workflow on a deployment falls back to the plain model."""
        self._recorder.bypassed(key.id, model)

    async def laws(self) -> dict[str, LawSet]:
        return await asyncio.to_thread(load_laws, self._laws)

    async def tribunal(self, case: Case, key: Key, peak: bool) -> AsyncGenerator[Step, None]:
        """The steps of a tribunal, written down when the verdict is there; at a peak the model answers by itself."""
        asker = self.asker
        complete = asker.completer(Use(key, Klass.WORKFLOW, patience_s=WORKFLOW_PATIENCE_S))
        begun = asyncio.get_running_loop().time()
        async with aclosing(tribunal(case, complete, room(peak, lambda: not asker.is_peak(case.model)))) as steps:
            async for step in steps:
                if isinstance(step, Verdict):
                    await self._note(case, key, step, asyncio.get_running_loop().time() - begun)
                yield step

    async def _note(self, case: Case, key: Key, verdict: Verdict, seconds: float) -> None:
        """A verdict that cannot be written down is still the client's."""
        name = self.asker.name(case.model)
        if verdict.bypassed:
            self.bypassed(key, name)
        record = verdict_record(name, verdict, seconds)
        self._counts.judged(name, outcome(record))
        try:
            await asyncio.to_thread(self._journal.add_verdict, key.id, record)
        except Exception as error:
            log.warning("a verdict on %s was not written down: %s", name, error)


def room(peak: bool, later: Callable[[], bool]) -> Callable[[], bool]:
    """`has_room` that at first says what the headers of the answer said already."""
    first = [not peak]
    return lambda: first.pop() if first else later()


def verdict_record(model: str, verdict: Verdict, seconds: float) -> dict[str, Any]:
    """What the log keeps: no prompt and no answer."""
    rounds = [[f.law for f in one.findings if f.violated] for one in verdict.rounds]
    return {
        "model": model,
        "laws": verdict.laws.name,
        "laws_hash": verdict.laws.hash,
        "accepted": verdict.accepted,
        "bypassed": verdict.bypassed,
        "ended": verdict.ended,
        "rounds": len(verdict.rounds),
        "violated": rounds,
        "usage": verdict.usage.as_json(),
        "seconds": round(seconds, 3),
    }


def router(workflows: Workflows) -> APIRouter:
    api = APIRouter(tags=["Workflows"])
    _bulk(api, workflows)
    _tribunal(api, workflows)

    @api.get("/v1/laws", summary="The sets of laws of the tribunal", dependencies=[Depends(any_key)])
    async def laws() -> dict[str, Any]:
        return {"object": "list", "data": [one.as_json() for one in (await workflows.laws()).values()]}

    return api


def _bulk(api: APIRouter, workflows: Workflows) -> None:
    @api.post("/v1/bulk", responses=JSON_OR_EVENTS, summary="Thousands of completions in one call, in order")
    async def bulk(wanted: BulkWanted, request: Request, key: Key = CALLER) -> Response:
        asker = workflows.asker
        await asker.ready(wanted.model, key)
        complete = asker.completer(Use(key, Klass.BULK, patience_s=BULK_PATIENCE_S))
        shared = {**wanted.parameters, "model": wanted.model}

        def results() -> AsyncGenerator[bulk_workflow.Result, None]:
            return bulk_workflow.bulk(
                wanted.requests, shared, complete, lambda: asker.capacity(wanted.model, key), openai_error
            )

        if wanted.stream:
            return Events(_bulk_events(results(), len(wanted.requests)))
        return json_response(await unless_left(request.receive, _bulk_whole(results())))


async def _bulk_whole(results: AsyncGenerator[bulk_workflow.Result, None]) -> dict[str, Any]:
    found = [result async for result in bulk_workflow.in_order(results)]
    usage = sum((result.usage for result in found), Usage())
    return {"object": "bulk", "results": [result.as_json() for result in found], "usage": usage.as_json()}


async def _bulk_events(results: AsyncGenerator[bulk_workflow.Result, None], total: int) -> AsyncGenerator[Any, None]:
    done = failed = 0
    usage = Usage()
    async with aclosing(results) as found:
        async for result in found:
            done += 1
            failed += result.status == "error"
            usage += result.usage
            progress = {"done": done, "failed": failed, "total": total}
            yield {"object": "bulk.result", **result.as_json(), "progress": progress}
    yield {
        "object": "bulk.done",
        "progress": {"done": done, "failed": failed, "total": total},
        "usage": usage.as_json(),
    }


def _tribunal(api: APIRouter, workflows: Workflows) -> None:
    @api.post("/v1/tribunal", responses=JSON_OR_EVENTS, summary="An answer judged by laws and revised by them")
    async def judge(wanted: TribunalWanted, request: Request, key: Key = CALLER) -> Response:
        await workflows.asker.ready(wanted.model, key)
        case = wanted.case(await workflows.laws())
        peak = workflows.asker.is_peak(wanted.model)
        steps = workflows.tribunal(case, key, peak)
        if wanted.stream:
            return Events(step_events("tribunal", steps), bypass_header(peak))
        verdict = await unless_left(request.receive, last_step(steps))
        return json_response({**verdict.as_json(), "object": "tribunal"}, bypass_header(peak))


async def last_step(steps: AsyncGenerator[Any, None]) -> Any:
    last = None
    async with aclosing(steps) as found:
        async for step in found:
            last = step
    return last


async def step_events(kind: str, steps: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
    async with aclosing(steps) as found:
        async for step in found:
            yield {"object": f"{kind}.step", **step.as_json()}


def bypass_header(peak: bool) -> dict[str, str]:
    return {"x-engine-bypass": "peak"} if peak else {}


def openai_error(error: Exception) -> dict[str, Any]:
    return dict(refusal(error).payload["error"])


def json_response(value: Any, headers: dict[str, str] | None = None) -> Response:
    return Response(encode(value), media_type="application/json", headers=headers)
