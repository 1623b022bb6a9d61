"""From passages to an answer: written at once, judged by the tribunal, or read from a long file."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import date, datetime
from itertools import starmap
from typing import Any, Protocol

from engine.errors import EngineError
from rag.answer import freshness, prompt, support, troubles
from rag.answer.models import Model
from rag.answer.prompt import Message, Prompt
from rag.answer.states import Answer, Citation, Document, Done, Language, Question, State, Step, Writing
from rag.retrieve.passage import Passage

# Of passages that were read but not cited so many can be looked up.
READ = 3
# A file that takes more of the room for a prompt is read in parts.
FILE_SHARE = 0.6
# A prompt that proved too long is made again for so much of the context.
SMALLER = 0.6


class Asks(Protocol):
    """Of engine.client's AsyncEngineClient what a turn needs."""

    def models(self) -> Any: ...

    def chat(self, model: str, messages: list[Message], **parameters: Any) -> Any: ...

    def chat_stream(self, model: str, messages: list[Message], **parameters: Any) -> AsyncIterator[dict[str, Any]]: ...

    def tribunal_stream(
        self, model: str, messages: list[Message], **parameters: Any
    ) -> AsyncIterator[dict[str, Any]]: ...

    def longprompt_stream(
        self, model: str, text: str, instruction: str | None = None, **parameters: Any
    ) -> AsyncIterator[dict[str, Any]]: ...


@dataclass(frozen=True)
class Ground:
    """What an answer will be made from."""

    question: Question
    language: Language
    model: Model
    passages: tuple[Passage, ...]
    searched: str


class Writer:
    """Has answers written by the gateway's models; keeps nothing of any."""

    def __init__(self, client: Asks, now: Callable[[], datetime], university: str) -> None:
        self._client, self._now, self._university = client, now, university

    def answer(self, ground: Ground) -> AsyncGenerator[State, None]:
        documents = ground.question.documents
        made = self._prompt(ground, documents)
        room = (ground.model.context or prompt.CONTEXT) - made.max_tokens
        long = documents and sum(prompt.estimated_tokens(one.text) for one in documents) > FILE_SHARE * room
        if long:
            return self._long(ground, "\n\n".join(f"{one.name}\n\n{one.text}" for one in documents))
        if ground.question.tribunal and not ground.question.pictures:
            return self._judged(ground, made)
        return self._written(ground, made)

    def _prompt(self, ground: Ground, documents: Sequence[Document], share: float = 1.0) -> Prompt:
        context = int((ground.model.context or prompt.CONTEXT) * share)
        return prompt.build(
            ground.question,
            ground.passages,
            ground.language,
            context=context,
            today=self._today(),
            university=self._university,
            documents=documents,
        )

    def _today(self) -> date:
        return self._now().date()

    async def _written(self, ground: Ground, made: Prompt) -> AsyncGenerator[State, None]:
        """The answer as the model writes it; a prompt that turns out to be too long is made again, smaller, once."""
        try:
            async with aclosing(self._stream(ground, made)) as states:
                async for state in states:
                    yield state
        except EngineError as error:
            if not troubles.is_too_long(error):
                raise
            smaller = self._prompt(ground, ground.question.documents, share=SMALLER)
            async with aclosing(self._stream(ground, smaller)) as states:
                async for state in states:
                    yield state

    async def _stream(self, ground: Ground, made: Prompt) -> AsyncGenerator[State, None]:
        text, finish = "", ""
        chunks = self._client.chat_stream(ground.model.name, made.messages, max_tokens=made.max_tokens, temperature=0.2)
        try:
            async for chunk in chunks:
                choice = (chunk.get("choices") or [{}])[0]
                finish = choice.get("finish_reason") or finish
                if piece := (choice.get("delta") or {}).get("content"):
                    text += piece
                    yield Writing(support.only_supplied(text, len(made.passages), finished=False), ground.language)
        except EngineError as error:
            if not text:
                raise
            so_far = support.only_supplied(text, len(made.passages))
            yield troubles.of_error(error, ground.language, so_far)
            return
        if not text.strip():
            yield troubles.failed("empty", ground.language, f"{ground.model.name} streamed no content")
            return
        yield self._done(ground, text, made.passages, cut=finish == "length")

    async def _judged(self, ground: Ground, made: Prompt) -> AsyncGenerator[State, None]:
        laws = "default-de" if ground.language == "de" else "default"
        events = self._client.tribunal_stream(
            ground.model.name, made.messages, laws=laws, max_rounds=2, max_tokens=made.max_tokens
        )
        async for event in events:
            yield Step(event)
            if event.get("step") == "verdict":
                done = self._done(ground, str(event["answer"]), made.passages)
                bypassed = bool(event.get("bypassed"))
                yield Done(replace(done.answer, accepted=event.get("accepted"), bypassed=bypassed))

    async def _long(self, ground: Ground, text: str) -> AsyncGenerator[State, None]:
        """A file that does not fit is read in parts; the pages of the university have no place beside it."""
        parameters: dict[str, Any] = {"tribunal": True} if ground.question.tribunal else {}
        async for event in self._client.longprompt_stream(ground.model.name, text, ground.question.text, **parameters):
            yield Step(event)
            if event.get("step") == "answer":
                answer = support.only_supplied(str(event["answer"]), 0)
                told = Answer(answer, ground.language, model=ground.model.name, grounded=False)
                yield Done(replace(told, accepted=event.get("accepted"), bypassed=bool(event.get("bypassed"))))

    def _done(self, ground: Ground, text: str, passages: Sequence[Passage], cut: bool = False) -> Done:
        if not passages:
            plain = support.only_supplied(text, 0).strip()
            return Done(Answer(plain, ground.language, model=ground.model.name, cut=cut, grounded=False))
        checked = support.check(text, passages, ground.language)
        # What the asker's own picture or file says stands in no page: only a sentence that cites one can be wrong.
        own = bool(ground.question.pictures or ground.question.documents)
        return Done(
            Answer(
                checked.text,
                ground.language,
                checked.citations,
                () if own else checked.unsupported,
                freshness.flags(checked.citations, self._today()),
                ground.searched,
                ground.model.name,
                cut=cut,
                read=() if checked.citations else tuple(starmap(Citation, enumerate(passages[:READ], start=1))),
            )
        )
