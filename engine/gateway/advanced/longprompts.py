"""The route of long prompts."""

from collections.abc import AsyncGenerator
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from engine.errors import ConfigurationError
from engine.gateway.advanced.asker import Use
from engine.gateway.advanced.leaving import Events, unless_left
from engine.gateway.advanced.workflows import (
    CALLER,
    DEFAULT_LAWS,
    JSON_OR_EVENTS,
    WORKFLOW_PATIENCE_S,
    LawWanted,
    Wanted,
    Workflows,
    bypass_header,
    json_response,
    last_step,
    room,
    step_events,
)
from engine.gateway.gates import Klass
from engine.gateway.keys import Key
from engine.workflows.laws import choose
from engine.workflows.longprompt import Step, Task, longprompt, of_messages

LONGEST_TEXT = 20_000_000
Text = Annotated[str, Field(max_length=LONGEST_TEXT)]


class Review(BaseModel):
    model_config = ConfigDict(extra="forbid")
    laws: str | list[LawWanted] = DEFAULT_LAWS
    max_rounds: int = Field(default=2, ge=1, le=20)
    judges: list[str] = Field(default=[], max_length=16)


class LongPromptWanted(Wanted):
    text: Text | None = Field(None, description="the long text; or `messages`, of which the longest is the text")
    messages: list[dict[str, Any]] | None = Field(None, min_length=1)
    instruction: str | None = Field(None, min_length=1, max_length=100_000, description="what to do with the text")
    chunk_tokens: int | None = Field(None, ge=16, le=10_000_000, description="by default what the context takes")
    overlap_tokens: int = Field(64, ge=0, le=1_000_000, description="how much of a chunk the next one repeats")
    max_tokens: int | None = Field(None, ge=1, le=10_000_000, description="of the answer")
    tribunal: bool | str | Review = Field(False, description="review the result: true, the name of a set, or more")

    @property
    def review(self) -> Review | None:
        if isinstance(self.tribunal, Review):
            return self.tribunal
        if isinstance(self.tribunal, str):
            return Review(laws=self.tribunal)
        return Review() if self.tribunal else None


def router(workflows: Workflows) -> APIRouter:
    api = APIRouter(tags=["Workflows"])

    @api.post("/v1/longprompt", responses=JSON_OR_EVENTS, summary="A text longer than the model's context")
    async def long(wanted: LongPromptWanted, request: Request, key: Key = CALLER) -> Response:
        await workflows.asker.ready(wanted.model, key)
        peak = workflows.asker.is_peak(wanted.model)
        if peak:
            workflows.bypassed(key, workflows.asker.name(wanted.model))
        steps = _steps(workflows, await _task(wanted, workflows), key, peak)
        if wanted.stream:
            return Events(step_events("longprompt", steps), bypass_header(peak))
        answer = await unless_left(request.receive, last_step(steps))
        return json_response({**answer.as_json(), "object": "longprompt"}, bypass_header(peak))

    return api


async def _task(wanted: LongPromptWanted, workflows: Workflows) -> Task:
    if (wanted.text is None) == (wanted.messages is None):
        raise ConfigurationError("give either text or messages")
    text, instruction = wanted.text or "", wanted.instruction
    if wanted.messages is not None:
        text, instruction = of_messages(wanted.messages, instruction)
    more: dict[str, Any] = {"instruction": instruction} if instruction else {}
    if review := wanted.review:
        laws = review.laws if isinstance(review.laws, str) else [law.model_dump() for law in review.laws]
        more["laws"] = choose(laws, await workflows.laws())
        more |= {"max_rounds": review.max_rounds, "judges": tuple(review.judges)}
    return Task(
        wanted.model,
        text,
        chunk_tokens=wanted.chunk_tokens,
        overlap_tokens=wanted.overlap_tokens,
        parameters={**wanted.parameters, **({"max_tokens": wanted.max_tokens} if wanted.max_tokens else {})},
        **more,
    )


def _steps(workflows: Workflows, task: Task, key: Key, peak: bool) -> AsyncGenerator[Step, None]:
    asker, model = workflows.asker, task.model

    async def count(text: str) -> int:
        return await asker.count(model, text)

    return longprompt(
        task,
        asker.completer(Use(key, Klass.WORKFLOW, patience_s=WORKFLOW_PATIENCE_S)),
        count,
        asker.context(model),
        lambda: asker.capacity(model, key),
        room(peak, lambda: not asker.is_peak(model)),
    )
