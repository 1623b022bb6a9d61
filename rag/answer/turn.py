"""One turn of a chat, from the question to the answer, as a generator of states. No screen and no browser in here."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import date, datetime
from itertools import starmap
from typing import Any, Protocol

from engine.errors import EngineError
from rag.answer import followup, freshness, models, prompt, smalltalk, support, troubles
from rag.answer.language import detect
from rag.answer.models import PASSAGES, Model
from rag.answer.prompt import Message, Prompt
from rag.answer.states import (
    Answer,
    Citation,
    Document,
    Done,
    Failed,
    Language,
    Past,
    Question,
    Refused,
    Retrieved,
    Searching,
    State,
    Step,
    Writing,
)
from rag.retrieve.passage import Found, Passage

NEAREST = 3
REWRITE_TIMEOUT_S = 8.0
MODELS_FOR_S = 2.0
# An embedding costs a core for 20 ms: more at once only make each other late.
SEARCHES_AT_ONCE = 2


class Finds(Protocol):
    """rag.retrieve's Retriever, or what stands for it."""

    def search(self, question: str, *, language: str | None = None, limit: int = 6) -> Found: ...

    def contacts(self, question: str) -> list[Passage]: ...


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


class Turns:
    """Answers questions for any number of chats at once; keeps nothing of any of them."""

    def __init__(
        self,
        client: Asks,
        retriever: Finds,
        now: Callable[[], datetime] = datetime.now,
        university: str = "",
    ) -> None:
        self._client, self._retriever, self._now, self._university = client, retriever, now, university
        self._searching = asyncio.Semaphore(SEARCHES_AT_ONCE)
        self._models: tuple[float, tuple[Model, ...]] = (-MODELS_FOR_S, ())

    async def models(self) -> tuple[Model, ...]:
        """What can be asked, at most MODELS_FOR_S old; raises EngineError where the gateway does not answer."""
        at = asyncio.get_running_loop().time()
        if at - self._models[0] >= MODELS_FOR_S:
            rows = await self._client.models()
            self._models = (at, models.read(rows["data"]))
        return self._models[1]

    async def ask(self, question: Question) -> AsyncGenerator[State, None]:
        """The states of one turn; the last one is Done, Refused or Failed. Close it (contextlib.aclosing) to stop."""
        language = detect(question.text, question.interface)
        try:
            if (words := smalltalk.reply(question.text, language)) and not question.pictures:
                yield Done(Answer(words, language, grounded=False))
                return
            async with aclosing(self._grounded(question, language)) as states:
                async for state in states:
                    yield state
        except EngineError as error:
            yield troubles.of_error(error, language)

    async def _grounded(self, question: Question, language: Language) -> AsyncGenerator[State, None]:
        own = bool(question.pictures or question.documents)
        known = await self._known(language)
        if isinstance(known, Failed) and own:
            yield known
            return
        usable = () if isinstance(known, Failed) else known
        model = models.chosen(usable, question.model, language, bool(question.pictures))
        searched, by = await self._standing_alone(question, language, model)
        yield Searching(searched if by else None, by)
        found = await self._search(searched, language)
        if not found.gate.answers and not own:
            yield await self._refusal(searched, found, language)
            return
        if isinstance(known, Failed):
            yield known
            return
        if trouble := _trouble(model, question, usable, language):
            yield trouble
            return
        assert model is not None
        passages = found.passages[: model.passages] if found.gate.answers else ()
        yield Retrieved(passages)
        ground = Ground(question, language, model, passages, searched)
        async with aclosing(self._answer(ground)) as states:
            async for state in states:
                yield state

    async def _known(self, language: Language) -> tuple[Model, ...] | Failed:
        """The models, or why there are none to ask: a refusal needs none, so the search goes on all the same."""
        try:
            known = await self.models()
        except EngineError as error:
            return troubles.of_error(error, language)
        return known or troubles.failed("no_model", language, "launch one: `engine launch MODEL`")

    async def _standing_alone(self, question: Question, language: Language, model: Model | None) -> tuple[str, Any]:
        """What to search for, and who changed it: the model where it can, else the words of the turns before."""
        if followup.stands_alone(question.text, question.past):
            return question.text, None
        if rewritten := await self._rewritten(question, model, language):
            return rewritten, "model"
        completed = followup.completed(question.text, question.past)
        return completed, "terms" if completed != question.text else None

    async def _rewritten(self, question: Question, model: Model | None, language: Language) -> str:
        """By the model; an empty text where it is too small for that, fails, takes long or says too much."""
        if model is None or not (model.ready and model.rewrites(language)):
            return ""
        messages = prompt.rewriting(question.text, question.past)
        try:
            async with asyncio.timeout(REWRITE_TIMEOUT_S):
                said = await self._client.chat(model.name, messages, max_tokens=80, temperature=0)
        except (EngineError, TimeoutError):
            return ""
        text = str(said["choices"][0]["message"].get("content") or "").strip().strip('"„“”')
        return text if 0 < len(text) <= 300 and "\n" not in text else ""

    async def _search(self, searched: str, language: Language) -> Found:
        async with self._searching:
            return await asyncio.to_thread(self._retriever.search, searched, language=language, limit=PASSAGES)

    async def _refusal(self, searched: str, found: Found, language: Language) -> Refused:
        async with self._searching:
            offices = await asyncio.to_thread(self._retriever.contacts, searched)
        nearest = {passage.url: passage for passage in reversed(found.passages)}
        pages = tuple(reversed(nearest.values()))[:NEAREST]
        return Refused(searched, pages, offices[0] if offices else None, language)

    def _answer(self, ground: Ground) -> AsyncGenerator[State, None]:
        documents = ground.question.documents
        made = self._prompt(ground, documents)
        room = (ground.model.context or prompt.CONTEXT) - made.max_tokens
        long = documents and sum(prompt.estimated_tokens(one.text) for one in documents) > 0.6 * room
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
            smaller = self._prompt(ground, ground.question.documents, share=0.6)
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
                read=() if checked.citations else tuple(starmap(Citation, enumerate(passages[:NEAREST], start=1))),
            )
        )


def _trouble(model: Model | None, question: Question, known: Sequence[Model], language: Language) -> Failed | None:
    """Why this model cannot take this question."""
    if model is None:
        return troubles.failed("stopped", language, f"no model {question.model!r} is deployed")
    if question.pictures and not model.vision:
        other = models.default([one for one in known if one.ready], language, sees=True)
        told = troubles.failed("blind", language, model=model.name)
        return replace(told, offer=other.name if other else "")
    if not model.ready:
        return troubles.failed(
            "starting", language, model.reason or model.stage, reason=troubles.reason_in_words(model.stage, language)
        )
    return None


def next_past(past: Sequence[Past], searched: str, answer: str) -> tuple[Past, ...]:
    """The turns that a next question may hang on."""
    return (*past[-3:], Past(searched, answer))
