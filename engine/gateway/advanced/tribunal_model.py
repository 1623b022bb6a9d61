"""The tribunal under a model's name: `tribunal/MODEL` and `tribunal:LAWS/MODEL` on /v1/chat/completions."""

import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.types import Message, Receive, Send

from engine.gateway.advanced.leaving import Events, unless_left
from engine.gateway.advanced.workflows import DEFAULT_LAWS, Workflows, bypass_header, json_response, last_step
from engine.gateway.keys import Key
from engine.gateway.protocol import Refusal, Refused
from engine.workflows.laws import choose
from engine.workflows.tribunal import Case, Step, Verdict

NOT_PARAMETERS = frozenset({"model", "messages", "stream", "stream_options", "n", "max_rounds"})


class _Options(BaseModel):
    include_usage: bool = False


class _Chat(BaseModel):
    model_config = ConfigDict(extra="allow")
    messages: list[dict[str, Any]] = Field(min_length=1)
    stream: bool | None = False
    stream_options: _Options | None = None
    max_rounds: int = Field(3, ge=1, le=20)


def parse(model: str) -> tuple[str, str]:
    """The set of laws and the model of `tribunal:LAWS/MODEL`; raises Refused."""
    head, slash, name = model.partition("/")
    laws = head.partition(":")[2] or DEFAULT_LAWS
    if not slash or not name:
        text = f"{model!r} names no model; it must be tribunal/MODEL or tribunal:LAWS/MODEL"
        raise Refused(Refusal(404, text, code="model_not_found", param="model"))
    return laws, name


class Exchange(Protocol):
    """The request as the hot path knows it."""

    name: str
    request_id: bytes
    receive: Receive
    started: bool
    apart: bool


class TribunalModel:
    """Answers chat completions, streamed or not, by the tribunal."""

    def __init__(self, workflows: Workflows) -> None:
        self._workflows = workflows

    async def __call__(self, exchange: Exchange, model: str, body: bytes, key: Key, send: Send) -> int:
        """Sends the whole answer; returns its status. Raises EngineError as long as nothing was sent."""

        async def started(message: Message) -> None:
            exchange.started = True
            await send(message)

        laws, asked = parse(model)
        try:
            chat = _Chat.model_validate_json(body)
        except ValidationError as error:
            first = error.errors()[0]
            param = ".".join(map(str, first["loc"])) or None
            raise Refused(Refusal(422, f"{param}: {first['msg']}", code="invalid_value", param=param)) from error
        asker = self._workflows.asker
        await asker.ready(asked, key)
        exchange.name, exchange.apart = asker.name(asked), True
        parameters = {name: given for name, given in (chat.model_extra or {}).items() if name not in NOT_PARAMETERS}
        found = choose(laws, await self._workflows.laws())
        case = Case(asked, chat.messages, found, chat.max_rounds, parameters=parameters)
        peak = asker.is_peak(asked)
        steps = self._workflows.tribunal(case, key, peak)
        headers = {**bypass_header(peak), "x-request-id": exchange.request_id.decode()}
        scope = {"type": "http"}
        if chat.stream:
            usage = chat.stream_options is not None and chat.stream_options.include_usage
            await Events(chunks(model, steps, usage), headers)(scope, exchange.receive, started)
            return 200
        verdict = await unless_left(exchange.receive, last_step(steps))
        await json_response(completion(model, verdict), headers)(scope, exchange.receive, started)
        return 200


def completion(model: str, verdict: Verdict) -> dict[str, Any]:
    """A verdict as a chat completion; `tribunal` in it tells the outcome to those who look."""
    message = {"role": "assistant", "content": verdict.answer}
    return {
        **_head(model, "chat.completion"),
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": verdict.usage.as_json(),
        "tribunal": outcome(verdict),
    }


async def chunks(model: str, steps: AsyncGenerator[Step, None], usage: bool) -> AsyncGenerator[Any, None]:
    """The chunks of a streamed completion: one that opens it, and the answer when the verdict is there.

    A chunk without text tells of each step in between, so that neither the client nor a proxy gives up.
    """
    head = _head(model, "chat.completion.chunk")

    def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return {**head, "choices": [choice], **more}

    yield chunk({"role": "assistant", "content": ""})
    async with aclosing(steps) as found:
        async for step in found:
            if not isinstance(step, Verdict):
                yield chunk({}, tribunal=step.as_json())
                continue
            yield chunk({"content": step.answer})
            yield chunk({}, "stop", tribunal=outcome(step))
            if usage:
                yield {**head, "choices": [], "usage": step.usage.as_json()}


def outcome(verdict: Verdict) -> dict[str, Any]:
    told = verdict.as_json()
    return {name: told[name] for name in ("accepted", "bypassed", "ended", "laws", "rounds")}


def _head(model: str, kind: str) -> dict[str, Any]:
    id = f"chatcmpl-{secrets.token_hex(12)}"
    return {"id": id, "object": kind, "created": int(time.time()), "model": model}
