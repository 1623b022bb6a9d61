"""Thousands of chat completions in one call."""

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal

from engine.errors import ConfigurationError, EngineError
from engine.workflows.complete import Complete, Usage, error_json
from engine.workflows.parallel import as_they_end

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """One item's outcome. `index` is its place in the requests; exactly one of `response` and `error` is set."""

    index: int
    status: Literal["ok", "error"]
    response: dict[str, Any] | None = None
    error: dict[str, Any] | None = None

    @property
    def usage(self) -> Usage:
        return Usage.of(self.response)

    def as_json(self) -> dict[str, Any]:
        outcome = {"response": self.response} if self.status == "ok" else {"error": self.error}
        return {"index": self.index, "status": self.status, **outcome}


async def bulk(
    requests: Iterable[Any],
    shared: Mapping[str, Any],
    complete: Complete,
    parallel: Callable[[], int],
    describe: Callable[[Exception], dict[str, Any]] = error_json,
) -> AsyncGenerator[Result, None]:
    """Results as they end, at most parallel() in flight; it is asked anew as they end, for replicas come and go.

    A request is the body of a chat completion, or has a `prompt` in place of `messages`; what it leaves out comes
    from `shared`. An item that is wrong or fails is a Result with OpenAI's error, made by `describe`, and the others
    go on. Cancelling or closing the iterator cancels everything in flight.
    """

    async def one(numbered: tuple[int, Any]) -> Result:
        index, request = numbered
        try:
            return Result(index, "ok", response=await complete(body(request, shared)))
        except EngineError as error:
            return Result(index, "error", error=describe(error))
        except Exception as error:
            log.exception("bulk: item %d failed in a way nobody foresaw", index)
            return Result(index, "error", error=describe(error))

    async with aclosing(as_they_end(enumerate(requests), one, parallel)) as results:
        async for result in results:
            yield result


def body(request: Any, shared: Mapping[str, Any]) -> dict[str, Any]:
    """The chat completion that an item asks for; raises ConfigurationError where it asks for none."""
    if not isinstance(request, Mapping):
        raise ConfigurationError(f"an item must be an object with messages or prompt; this is {_kind(request)}")
    given = {**shared, **request}
    if "prompt" in request or ("prompt" in given and "messages" not in given):
        if "messages" in request:
            raise ConfigurationError("an item has messages or prompt, not both")
        prompt = given["prompt"]
        if not isinstance(prompt, str):
            raise ConfigurationError(f"prompt must be a text; this is {_kind(prompt)}")
        given["messages"] = [{"role": "user", "content": prompt}]
    if not isinstance(given.get("messages"), list) or not given["messages"]:
        raise ConfigurationError("an item needs messages, a list that is not empty, or prompt, a text")
    left_out = ("prompt", "stream", "stream_options")
    return {name: value for name, value in given.items() if name not in left_out}


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), "null")


async def in_order(results: AsyncIterator[Result]) -> AsyncGenerator[Result, None]:
    """The same results by index, each as soon as all before it have ended."""
    early: dict[int, Result] = {}
    following = 0
    async for result in results:
        early[result.index] = result
        while following in early:
            yield early.pop(following)
            following += 1
