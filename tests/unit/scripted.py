"""A model that says what a test wants it to say."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

Body = dict[str, Any]
USAGE = {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}


def answer(text: str | None) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {"object": "chat.completion", "choices": [{"index": 0, "message": message}], "usage": USAGE}


def finding(violated: Any, reason: str = "because", severity: str = "high", fix: str = "so") -> str:
    return json.dumps({"reason": reason, "violated": violated, "severity": severity, "fix": fix})


def words(body: Body) -> str:
    """All that is said to the model."""
    return "\n".join(str(message["content"]) for message in body["messages"])


def is_judge(body: Body) -> bool:
    return "You are a judge." in words(body)


def is_revision(body: Body) -> bool:
    return "judges found fault with it" in words(body)


class Model:
    """A `complete` that answers by a function of the body: a text, or an error to raise. Keeps what it was asked."""

    def __init__(self, says: Callable[[Body], str | Exception | None], delay_s: float = 0) -> None:
        self._says, self._delay_s = says, delay_s
        self.asked: list[Body] = []
        self.in_flight = self.most = 0

    async def __call__(self, body: Body) -> dict[str, Any]:
        self.asked.append(body)
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        try:
            await asyncio.sleep(self._delay_s)
        finally:
            self.in_flight -= 1
        said = self._says(body)
        if isinstance(said, Exception):
            raise said
        return answer(said)
