"""The one thing that workflows know of a model: a function from a chat completion's body to its answer."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from engine.errors import EndpointError, EngineError

Complete = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
"""Body of a chat completion (model, messages, max_tokens, …; never streamed) to OpenAI's answer, decoded.

Raises EngineError. An error with which a server refused the body carries its HTTP status as `status`, as GatewayError
does. Retries, queueing, deadlines and accounting are the callable's own business.
"""

# Refusals that say something of the caller, the model's name or the load, and nothing of the body.
NOT_OF_THE_BODY = frozenset({401, 402, 403, 404, 408, 409, 425, 429})
OURS = ("model", "messages", "stream", "stream_options", "n")


@dataclass(frozen=True)
class Usage:
    """Tokens, as the inference engines counted them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(self.prompt_tokens + other.prompt_tokens, self.completion_tokens + other.completion_tokens)

    @classmethod
    def of(cls, response: Any) -> "Usage":
        """The usage that an answer tells; nothing where it tells none."""
        told = response.get("usage") if isinstance(response, dict) else None
        counts = [told.get(key) if isinstance(told, dict) else 0 for key in ("prompt_tokens", "completion_tokens")]
        return cls(*(count if isinstance(count, int) else 0 for count in counts))

    def as_json(self) -> dict[str, int]:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        }


class Tally:
    """Asks through a `complete` and sums up what all the calls used."""

    def __init__(self, complete: Complete) -> None:
        self._complete = complete
        self.usage, self.calls = Usage(), 0

    async def ask(self, body: dict[str, Any]) -> str:
        """The text of the answer; raises EngineError, too, where the answer has none of OpenAI's form."""
        self.calls += 1
        response = await self._complete(body)
        self.usage += Usage.of(response)
        return text_of(response, body.get("model"))


def text_of(response: Any, model: Any) -> str:
    """The text of the first choice ("" where the model said nothing)."""
    try:
        content = response["choices"][0]["message"].get("content")
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise EndpointError(f"{model} answered what is no chat completion: {str(response)[:200]}") from error
    return content if isinstance(content, str) else plain(content)


def plain(content: Any) -> str:
    """The text of a message's content, which may come in parts; a picture is named, not described."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    found = [part for part in parts if isinstance(part, dict)]
    return "\n".join(str(part["text"]) if "text" in part else f"[{part.get('type', 'part')}]" for part in found)


def refuses_the_body(error: EngineError) -> bool:
    """Did the server answer 4xx to what was asked, so that asking it otherwise may help?"""
    status = getattr(error, "status", None)
    return isinstance(status, int) and 400 <= status < 500 and status not in NOT_OF_THE_BODY


def own(parameters: dict[str, Any]) -> dict[str, Any]:
    """Parameters without those that a workflow sets itself."""
    return {name: value for name, value in parameters.items() if name not in OURS and value is not None}


def error_json(error: Exception) -> dict[str, Any]:
    """An error in OpenAI's shape; a gateway has a finer one."""
    status, code = getattr(error, "status", None), getattr(error, "code", None)
    wrong = isinstance(error, ValueError) or (isinstance(status, int) and status < 500)
    kind = "invalid_request_error" if wrong else "api_error"
    message = str(error) if isinstance(error, EngineError | ValueError) else f"this item failed: {error!r}"
    return {"message": message, "type": kind, "param": None, "code": code}
