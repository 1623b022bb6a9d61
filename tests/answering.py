"""What the turn's tests stand on: passages of a small university, a retriever over them and a scripted model server."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

from engine.errors import EngineError
from rag.answer.states import Question, State
from rag.answer.turn import Turns
from rag.retrieve.passage import Found, Gate, Passage

BASE = "https://www.auental.example"


def passage(text: str, **more: Any) -> Passage:
    made = Passage(
        id=more.pop("id", "p"),
        url=more.pop("url", f"{BASE}/page"),
        title="A page",
        text=text,
        language="en",
        date=date(2026, 10, 1),
        score=0.9,
    )
    return replace(made, **more)


@dataclass
class Shelf:
    """A retriever that gives the same passages to every question, and remembers what it was asked."""

    passages: Sequence[Passage] = ()
    answers: bool = True
    office: Sequence[Passage] = ()
    error: EngineError | None = None
    asked: list[str] = field(default_factory=list)
    wanted: list[str] = field(default_factory=list)

    def search(self, question: str, *, language: str | None = None, limit: int = 6) -> Found:
        self.asked.append(question)
        if self.error:
            raise self.error
        return Found(tuple(self.passages[:limit]), Gate(0.9 if self.answers else 0.1, 0.5, self.answers))

    def contacts(self, question: str) -> list[Passage]:
        self.wanted.append(question)
        return list(self.office)


ROW = {"id": "m", "ready": 1, "context": 8192, "languages": ["de", "en"], "capacity": 4, "parameters": 1.0}


@dataclass
class Model:
    """A scripted gateway: what it says, word for word, and all that it was sent."""

    says: str | Callable[[list[dict[str, Any]]], str] = "It is on 1 July [1]."
    rows: Sequence[dict[str, Any]] = (ROW,)
    error: EngineError | None = None
    breaks_after: int | None = None
    events: Sequence[dict[str, Any]] = ()
    models_error: EngineError | None = None
    sent: list[dict[str, Any]] = field(default_factory=list)
    said: list[dict[str, Any]] = field(default_factory=list)

    async def models(self) -> Any:
        if self.models_error:
            raise self.models_error
        return {"data": list(self.rows)}

    async def chat(self, model: str, messages: list[dict[str, Any]], **parameters: Any) -> Any:
        self.sent.append({"model": model, "messages": messages, **parameters})
        if self.error:
            raise self.error
        return {"choices": [{"message": {"content": self._reply(messages)}}]}

    async def chat_stream(
        self, model: str, messages: list[dict[str, Any]], **parameters: Any
    ) -> AsyncIterator[dict[str, Any]]:
        self.sent.append({"model": model, "messages": messages, **parameters})
        if self.error and self.breaks_after is None:
            raise self.error
        for at, piece in enumerate(_pieces(self._reply(messages))):
            if self.error and at == self.breaks_after:
                raise self.error
            yield {"choices": [{"delta": {"content": piece}, "finish_reason": None}]}
        yield {"choices": [{"delta": {}, "finish_reason": "stop"}]}

    async def tribunal_stream(
        self, model: str, messages: list[dict[str, Any]], **parameters: Any
    ) -> AsyncIterator[dict[str, Any]]:
        self.sent.append({"model": model, "messages": messages, **parameters})
        for event in self.events:
            yield event

    async def longprompt_stream(
        self, model: str, text: str, instruction: str | None = None, **parameters: Any
    ) -> AsyncIterator[dict[str, Any]]:
        self.sent.append({"model": model, "text": text, "instruction": instruction, **parameters})
        for event in self.events:
            yield event

    async def feedback(self, kind: str, question: str, language: str, **more: Any) -> Any:
        self.said.append({"kind": kind, "question": question, "language": language, **more})
        return {}

    def _reply(self, messages: list[dict[str, Any]]) -> str:
        return self.says if isinstance(self.says, str) else self.says(messages)


def _pieces(text: str) -> list[str]:
    words = text.split(" ")
    return [word if at == 0 else f" {word}" for at, word in enumerate(words)]


async def run(turns: Turns, text: str, **more: Any) -> list[State]:
    return [state async for state in turns.ask(Question(text, **{"interface": "en", **more}))]


def user_text(sent: dict[str, Any]) -> str:
    """The text of the last message that a model was sent."""
    content = sent["messages"][-1]["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
