"""Request bodies that no cache has seen."""

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import orjson

Prefix = Literal["unique", "shared"]
# An odd factor makes n -> n * FACTOR + seed a bijection of 64-bit numbers; this one (2^64 / golden ratio) also scatters
# their leading digits, so that two successive prompts differ from their first token on.
FACTOR, MASK = 0x9E3779B97F4A7C15, 0xFFFFFFFFFFFFFFFF
PLACE = "\ue000"


@dataclass(frozen=True)
class Task:
    """What is asked. `messages` makes it a chat, `prompt` a completion. `parameters` are further fields of the body."""

    model: str
    messages: tuple[Mapping[str, Any], ...] = ()
    prompt: str = ""
    max_tokens: int | None = None
    temperature: float | None = 0.0
    stream: bool = False
    parameters: tuple[tuple[str, Any], ...] = ()

    @property
    def path(self) -> str:
        return "/chat/completions" if self.messages else "/completions"


class Prompts(Iterator[bytes]):
    """Bodies of the same task, no two alike, also in other processes: each has 16 hexadecimal digits of its own.

    `unique` puts them at the very start of the prompt, so that no prefix cache has anything of it; `shared` at its end,
    so that a prefix cache has all but them. `says` tells readers of the result which it was. A body takes under 1 µs.
    """

    def __init__(self, task: Task, prefix: Prefix = "unique", seed: int | None = None) -> None:
        self.task, self.prefix = task, prefix
        self._number = secrets.randbits(64) if seed is None else seed & MASK
        before, after = _template(task, prefix).split(orjson.dumps(PLACE)[1:-1])
        self._form = before.replace(b"%", b"%%") + b"%016x" + after.replace(b"%", b"%%")
        self.body_bytes = len(before) + 16 + len(after)

    @property
    def says(self) -> str:
        if self.prefix == "unique":
            return "every prompt is unique from its first word on: a prefix cache has nothing of it"
        return "the prompts share their prefix: a prefix cache may have answered part of the work"

    def __next__(self) -> bytes:
        self._number = (self._number + FACTOR) & MASK
        return self._form % self._number


def _template(task: Task, prefix: Prefix) -> bytes:
    """The body as JSON, with PLACE once where the digits go."""
    body: dict[str, Any] = {"model": task.model, **dict(task.parameters)}
    if task.messages:
        at = 0 if prefix == "unique" else len(task.messages) - 1
        body["messages"] = [
            {**message, "content": _marked(message["content"], prefix)} if i == at else dict(message)
            for i, message in enumerate(task.messages)
        ]
    else:
        body["prompt"] = _marked(task.prompt, prefix)
    body |= {"max_tokens": task.max_tokens} if task.max_tokens is not None else {}
    body |= {"temperature": task.temperature} if task.temperature is not None else {}
    body |= {"stream": True, "stream_options": {"include_usage": True}} if task.stream else {}
    return orjson.dumps(body)


def _marked(content: Any, prefix: Prefix) -> Any:
    """A text with the place for the digits; of a list of parts, the list with one part more."""
    if not isinstance(content, str):
        part = {"type": "text", "text": PLACE}
        return [part, *content] if prefix == "unique" else [*content, part]
    return f"{PLACE} {content}" if prefix == "unique" else f"{content} {PLACE}"
