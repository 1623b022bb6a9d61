"""What an answer says about itself: whether its stream was whole, and how many tokens it counts. All pure."""

import re
from functools import lru_cache

import orjson

from engine.bench.load.samples import Code

# Inside a JSON text a quote is escaped, so that `"usage":` with bare quotes is a key.
USAGE = re.compile(rb'"usage"\s*:\s*(\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\})')
# The first token: an event whose text is not empty. Servers may send the role alone as soon as they have the request.
CONTENT = re.compile(rb'"(?:content|text|reasoning_content|reasoning)":\s*"[^"]|"tool_calls":\s*\[\s*\{')
DONE = re.compile(rb"^data:\s*\[DONE\]", re.MULTILINE)
FAILURE = re.compile(rb'^(?:error:|data:\s*\{\s*"error"\s*:\s*[^n\s])', re.MULTILINE)
UNKNOWN = (-1, -1, -1)


def usage(text: bytes) -> tuple[int, int, int]:
    """Tokens of the prompt, of the answer, and of the prompt that the server's cache had; -1 is unknown.

    Of several usages, as in a stream that counts as it goes, the last one.
    """
    at = len(text)
    while (at := text.rfind(b'"usage"', 0, at)) >= 0:
        if found := _counts(text[at:]):
            return found
    return UNKNOWN


@lru_cache(1024)  # answers of one task often count alike, to the last byte
def _counts(text: bytes) -> tuple[int, int, int] | None:
    """Of a text that begins with the key `usage`; None if no object follows it."""
    found = USAGE.match(text)
    if found is None:
        return None
    try:
        given = orjson.loads(found[1])
    except orjson.JSONDecodeError:
        return UNKNOWN
    details = given.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    return _count(given.get("prompt_tokens")), _count(given.get("completion_tokens")), _count(cached)


def _count(value: object) -> int:
    return value if isinstance(value, int) and 0 <= value < 2**31 else -1


def stream_code(tail: bytes) -> Code:
    """How a stream ended of which `tail` is the last part: without `[DONE]`, or with an error in it, it is broken."""
    return Code.OK if DONE.search(tail) and not FAILURE.search(tail) else Code.BROKEN
