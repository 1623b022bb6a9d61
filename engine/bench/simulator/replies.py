"""What the simulator says: OpenAI's request and reply bodies, without a model. A token is a word. All pure."""

import base64
import hashlib
import itertools
import random
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

SENTENCE = "This is a simulated answer: no model was run, only the time that a model would need has passed."
IMAGE_TOKENS = 64
DIMENSIONS = 384
LABEL = {"system_fingerprint": "simulated", "engine": "simulator"}


class Refused(Exception):
    """An answer in OpenAI's error shape."""

    def __init__(self, status: int, message: str, kind: str = "invalid_request_error", code: str | None = None) -> None:
        self.status = status
        self.body = error(message, kind, code)
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Ask:
    """A request, understood. `words` are the tokens of the answer, said once for each of `choices`."""

    object: str
    id: str
    model: str
    created: int
    prompt_tokens: int
    words: tuple[str, ...] = ()
    finish: str = "stop"
    choices: int = 1
    stream: bool = False
    include_usage: bool = False
    vectors: tuple[Any, ...] = ()
    cached_tokens: int = -1

    @property
    def completion_tokens(self) -> int:
        return len(self.words) * self.choices


def error(message: str, kind: str, code: str | None = None, param: str | None = None) -> bytes:
    return orjson.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}})


def answer(tokens: int, text: str = "") -> tuple[str, ...]:
    """The tokens of an answer; joined they are its text: the words of `text`, or the labelled sentence, repeated."""
    words = text.split() if text else list(itertools.islice(itertools.cycle(SENTENCE.split()), tokens))
    return tuple(word if i == 0 else " " + word for i, word in enumerate(words))


_numbers = itertools.count(1)


def understand(path: str, body: bytes, models: tuple[str, ...], words: tuple[str, ...], context: int) -> Ask:
    """Raises Refused as vLLM would."""
    given = parse(body)
    model = given.get("model", models[0])
    if model not in models:
        raise Refused(404, f"The model `{model}` does not exist.", "NotFoundError", "model_not_found")
    if path == "/v1/embeddings":
        return _embedding(given, model)
    chat = path == "/v1/chat/completions"
    prompt_tokens, prompts = (_chat_tokens(given), 1) if chat else _prompt_tokens(given.get("prompt"))
    limit = given.get("max_completion_tokens") or given.get("max_tokens") or len(words)
    choices = (given.get("n") or 1) * prompts
    if not isinstance(limit, int) or not isinstance(choices, int) or limit < 1 or choices < 1:
        raise Refused(400, "max_tokens and n must be whole numbers from 1 on")
    if prompt_tokens + 1 > context:
        raise Refused(
            400,
            f"This model's maximum context length is {context} tokens. "
            f"However, your request has {prompt_tokens} input tokens.",
            code="context_length_exceeded",
        )
    limit = min(limit, max(1, context - prompt_tokens))
    return Ask(
        object="chat.completion" if chat else "text_completion",
        id=f"{'chatcmpl' if chat else 'cmpl'}-simulated-{next(_numbers)}",
        model=model,
        created=int(time.time()),
        prompt_tokens=prompt_tokens,
        words=words[:limit],
        finish="length" if limit < len(words) else "stop",
        choices=choices,
        stream=bool(given.get("stream")),
        include_usage=bool((given.get("stream_options") or {}).get("include_usage")),
    )


def parse(body: bytes) -> dict[str, Any]:
    try:
        given = orjson.loads(body)
    except orjson.JSONDecodeError as failure:
        raise Refused(400, f"the body is not JSON: {failure}") from failure
    if not isinstance(given, dict):
        raise Refused(400, "the body must be a JSON object")
    return given


def _chat_tokens(given: dict[str, Any]) -> int:
    messages = given.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(m, dict) for m in messages):
        raise Refused(400, "messages must be a list of messages")
    return sum(_content_tokens(message.get("content")) for message in messages)


def _content_tokens(content: Any) -> int:
    if isinstance(content, str):
        return len(content.split())
    parts = [part for part in content or () if isinstance(part, dict)]
    images = sum("image" in str(part.get("type")) for part in parts)
    return images * IMAGE_TOKENS + sum(len(str(part.get("text", "")).split()) for part in parts)


def _prompt_tokens(prompt: Any) -> tuple[int, int]:
    """Tokens and the number of prompts, of any of OpenAI's four forms."""
    inputs = _inputs(prompt, "prompt")
    return sum(len(one.split()) if isinstance(one, str) else len(one) for one in inputs), len(inputs)


def _inputs(value: Any, name: str) -> list[Any]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value:
        if all(isinstance(one, int) for one in value):
            return [value]
        if all(isinstance(one, str | list) for one in value):
            return value
    raise Refused(400, f"{name} must be a text, a list of texts, tokens or lists of tokens")


def _embedding(given: dict[str, Any], model: str) -> Ask:
    inputs = _inputs(given.get("input"), "input")
    size = given.get("dimensions") or DIMENSIONS
    if not isinstance(size, int) or not 0 < size <= 4096:
        raise Refused(400, "dimensions must be a whole number, 1 to 4096")
    encoded = given.get("encoding_format") == "base64"
    vectors = tuple(_base64(vector(str(one), size)) if encoded else vector(str(one), size) for one in inputs)
    tokens = sum(len(one.split()) if isinstance(one, str) else len(one) for one in inputs)
    return Ask("list", "", model, int(time.time()), tokens, vectors=vectors)


def vector(text: str, size: int) -> list[float]:
    """A unit vector that depends on the text alone; equal texts, equal vectors, no other meaning."""
    gauss = random.Random(hashlib.sha256(text.encode()).digest()).gauss
    values = [gauss(0, 1) for _ in range(size)]
    length = sum(value * value for value in values) ** 0.5
    return [value / length for value in values]


def _base64(values: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()


def tokenize(given: dict[str, Any], context: int) -> bytes:
    """vLLM's /tokenize: `prompt`, or `messages`, counted exactly as usage counts them."""
    if "messages" in given:
        count, words = _chat_tokens(given), []
        for message in given["messages"]:
            words += str(message.get("content") or "").split() if isinstance(message.get("content"), str) else []
        words += ["<image>"] * (count - len(words))
    else:
        words = str(given.get("prompt", "")).split()
    tokens = [zlib.crc32(word.encode()) % 128_000 for word in words]
    strings = words if given.get("return_token_strs") else None
    return orjson.dumps({"count": len(tokens), "max_model_len": context, "tokens": tokens, "token_strs": strings})


def usage(ask: Ask) -> dict[str, Any]:
    done, asked = ask.completion_tokens, ask.prompt_tokens
    cached = {"prompt_tokens_details": {"cached_tokens": ask.cached_tokens}} if ask.cached_tokens >= 0 else {}
    return {"prompt_tokens": asked, "completion_tokens": done, "total_tokens": asked + done, **cached}


def whole(ask: Ask) -> bytes:
    """The body of an answer that is not streamed."""
    if ask.object == "list":
        data = [{"object": "embedding", "index": i, "embedding": one} for i, one in enumerate(ask.vectors)]
        counted = {"prompt_tokens": ask.prompt_tokens, "total_tokens": ask.prompt_tokens}
        return orjson.dumps({"object": "list", "model": ask.model, "data": data, "usage": counted, **LABEL})
    text = "".join(ask.words)
    said = {"message": {"role": "assistant", "content": text}} if ask.object == "chat.completion" else {"text": text}
    choices = [{"index": i, **said, "logprobs": None, "finish_reason": ask.finish} for i in range(ask.choices)]
    return orjson.dumps(
        {"id": ask.id, "object": ask.object, "created": ask.created, "model": ask.model, **LABEL, "choices": choices,
         "usage": usage(ask)}
    )  # fmt: skip


def events(ask: Ask) -> Iterator[bytes]:
    """The server-sent events of a streamed answer: one item per token (all choices), then one item that ends it."""
    chat = ask.object == "chat.completion"
    object_ = "chat.completion.chunk" if chat else ask.object
    head = {"id": ask.id, "object": object_, "created": ask.created, "model": ask.model, **LABEL}
    opening = b"data: " + orjson.dumps(head)[:-1] + b',"choices":[{"index":'

    def event(said: bytes, finish: bytes = b"null") -> bytes:
        closing = b"," + said + b',"finish_reason":' + finish + b"}]}\n\n"
        return b"".join(opening + str(i).encode() + closing for i in range(ask.choices))

    role = event(b'"delta":{"role":"assistant","content":""}') if chat else b""
    for word in ask.words:
        quoted = orjson.dumps(word)
        yield role + event(b'"delta":{"content":' + quoted + b"}" if chat else b'"text":' + quoted)
        role = b""
    last = event(b'"delta":{}' if chat else b'"text":""', orjson.dumps(ask.finish))
    if ask.include_usage:
        last += b"data: " + orjson.dumps({**head, "choices": [], "usage": usage(ask)}) + b"\n\n"
    yield last + b"data: [DONE]\n\n"
