"""A second look at what a search found: one call of a model puts the best passages in order.

What the model says is advice. Where there is none, or none that can be read, the search's own order stays.
"""

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol

from engine.client import EngineClient
from engine.errors import ConfigurationError, EndpointTimedOut, EngineError, GatewayError
from rag.answer.prompt import Message, render
from rag.retrieve.passage import Passage, Reranking

DEADLINE_S = 20.0
# Of each passage the model reads so much: ten of them then fit a context of 4096 tokens.
_CHARACTERS = 600
_MOST_TOKENS = 256
_LONGEST_ANSWER = 4000
# So many of the numbers that a model names must be numbers of passages, each counted once: a small model that fell into
# a loop names one for ever.
_SENSE = 0.5
# Servers answer so when they know no response_format.
_REFUSES_THE_BODY = (400, 422, 501)

_THOUGHTS = re.compile(r"<think>.*?(?:</think>|\Z)|\A.*</think>", re.DOTALL | re.IGNORECASE)
_NAMED = re.compile(r"\border\b[\"'`*\s]*[:=]\s*\[([^\]{}]*)", re.IGNORECASE)
_BARE = re.compile(r"\[([\d\s\"']{1,20},[\d\s,\"']{1,400})\]")
# [2] > [1] > [3], as models write that were trained to rank.
_CHAIN = re.compile(r"\[?\b\d{1,3}\b\]?(?:\s*>\s*\[?\d{1,3}\b\]?)+")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


class Chats(Protocol):
    """Of engine.client's EngineClient what a second look needs."""

    def chat(self, model: str, messages: list[Message], **parameters: Any) -> Any: ...


class ModelReranker:
    """Asks a model of the engine once for each question, and waits for it no longer than `deadline_s`. Thread-safe."""

    def __init__(self, client: Chats, model: str, deadline_s: float = DEADLINE_S) -> None:
        self.model = model
        self._client, self._deadline_s = client, deadline_s

    def __call__(self, question: str, passages: Sequence[Passage]) -> tuple[tuple[Passage, ...], Reranking]:
        """The passages in the model's order and what became of it; raises nothing that has to do with the model."""
        if len(passages) < 2:
            return tuple(passages), Reranking(self.model, False, "there is nothing to put in order")
        try:
            said = within(self._deadline_s, lambda: self._ask(question, passages), self.model)
        except EngineError as error:
            return tuple(passages), Reranking(self.model, False, str(error))
        places = order(said, len(passages))
        if places is None:
            return tuple(passages), Reranking(self.model, False, f"{self.model} gave no order: {said[:200]!r}")
        return tuple(passages[place] for place in places), Reranking(self.model, True)

    def _ask(self, question: str, passages: Sequence[Passage]) -> str:
        short = [replace(passage, text=_shortened(passage.text)) for passage in passages]
        messages: list[Message] = [
            {"role": "user", "content": render("rerank", question=question, passages=short)},
        ]
        wanted = {"temperature": 0, "max_tokens": _MOST_TOKENS}
        try:
            answer = self._client.chat(self.model, messages, response_format=response_format(len(short)), **wanted)
        except GatewayError as error:
            if error.status not in _REFUSES_THE_BODY or error.code == "context_length_exceeded":
                raise
            answer = self._client.chat(self.model, messages, **wanted)
        return _content(answer)


@contextmanager
def reranker_named(model: str, environ: Mapping[str, str]) -> Iterator[ModelReranker | None]:
    """That model of the engine at ENGINE_URL, asked with ENGINE_KEY; None without a name."""
    if not model:
        yield None
        return
    url = environ.get("ENGINE_URL")
    if not url:
        raise ConfigurationError(f"{model!r} reranks at an engine: set ENGINE_URL and ENGINE_KEY to say where")
    with EngineClient(url, environ.get("ENGINE_KEY", ""), timeout_s=DEADLINE_S) as client:
        yield ModelReranker(client, model)


def response_format(passages: int) -> dict[str, Any]:
    """A JSON object with an order of so many passages."""
    number = {"type": "integer", "minimum": 1, "maximum": passages}
    schema = {
        "type": "object",
        "properties": {"order": {"type": "array", "items": number, "minItems": 1, "maxItems": passages}},
        "required": ["order"],
        "additionalProperties": False,
    }
    return {"type": "json_schema", "json_schema": {"name": "order", "strict": True, "schema": schema}}


def order(said: str, passages: int) -> list[int] | None:
    """Places from 0, each once, out of whatever a model says: JSON, whole or cut off, a bare list, or [2] > [1].

    Passages that it does not name follow in the order that they had. None where nothing names any, or where most
    numbers are of no passage or said again. Of several orders the last counts: a model may quote before it answers.
    """
    text = _THOUGHTS.sub(" ", said[-_LONGEST_ANSWER:])
    found = _NAMED.findall(text) or _CHAIN.findall(text) or _BARE.findall(text)
    told = _NUMBER.findall(found[-1]) if found else []
    right = dict.fromkeys(int(one) - 1 for one in told if one.isdecimal() and 1 <= int(one) <= passages)
    if not right or len(right) < _SENSE * len(told):
        return None
    return list(dict.fromkeys([*right, *range(passages)]))


def within(deadline_s: float, work: Callable[[], str], model: str) -> str:
    """What the work returns or raises; EndpointTimedOut at the deadline, also where bytes trickle in for ever."""
    done: Future[str] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, daemon=True, name="rerank").start()
    try:
        return done.result(deadline_s)
    except TimeoutError as error:
        raise EndpointTimedOut(f"{model} gave no order within {deadline_s:g} s") from error


def _content(answer: Any) -> str:
    try:
        return str(answer["choices"][0]["message"]["content"] or "")
    except (KeyError, IndexError, TypeError) as error:
        raise GatewayError(f"the answer is no chat completion: {str(answer)[:200]}", 502) from error


def _shortened(text: str) -> str:
    return text if len(text) <= _CHARACTERS else text[:_CHARACTERS].rsplit(" ", 1)[0] + " …"
