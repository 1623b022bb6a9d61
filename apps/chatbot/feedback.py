"""What a student says of an answer, sent to the gateway without who it was; there personal numbers are masked."""

from typing import Any

from apps.chatbot import history
from engine.errors import EngineError
from rag.answer.states import Refused


def about(stored: Any, index: int) -> dict[str, Any] | None:
    """The question and answer of a turn, as the gateway takes them; None where there is no such turn."""
    turns = history.read(stored).chat.turns
    if not 0 <= index < len(turns):
        return None
    turn = turns[index]
    said = {"question": turn.searched or turn.question or "(file)", "language": turn.language}
    return {**said, "answer": turn.said, "sources": list(turn.sources)}


async def refused(client: Any, said: Refused) -> bool:
    """A question that the pages do not answer, for whoever writes them."""
    return await send(
        client, "refused", {"question": said.question, "language": said.language, "answer": "", "sources": []}
    )


async def send(client: Any, kind: str, said: dict[str, Any], reason: str = "", more: str = "") -> bool:
    """Whether it got through; a chat goes on without."""
    told = ": ".join(filter(None, [reason, more.strip()]))
    extra = {"answer": said["answer"] or None, "sources": said["sources"], "reason": told or None}
    given = {name: value for name, value in extra.items() if value is not None}
    try:
        await client.feedback(kind, said["question"], said["language"], **given)
    except EngineError:
        return False
    return True
