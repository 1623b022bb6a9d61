"""One turn of a chat, from the question to the answer, as a generator of states. No screen and no browser in here."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol

from engine.errors import EngineError
from rag.answer import followup, models, prompt, smalltalk, troubles
from rag.answer.language import detect
from rag.answer.models import PASSAGES, Model
from rag.answer.states import Answer, Done, Failed, Language, Question, Refused, Retrieved, Searching, State
from rag.answer.writing import Asks, Ground, Writer
from rag.retrieve.passage import Found, Passage

NEAREST = 3
REWRITE_TIMEOUT_S = 8.0
MODELS_FOR_S = 2.0
# Among questions about other things (the gate's mean and deviation are theirs) an ordinary one, for which no office is
# the right one: the general one takes it.
FAR = 0.8
GENERAL_OFFICE: dict[Language, str] = {
    "de": "Allgemeine Studienberatung: Fragen rund um das Studium",
    "en": "General student advice: questions about studying",
}
# An embedding costs a core for 20 ms: more at once only make each other late.
SEARCHES_AT_ONCE = 2


class Finds(Protocol):
    """rag.retrieve's Retriever, or what stands for it."""

    def search(self, question: str, *, language: str | None = None, limit: int = 6) -> Found: ...

    def contacts(self, question: str) -> list[Passage]: ...


class Turns:
    """Answers questions for any number of chats at once; keeps nothing of any of them."""

    def __init__(
        self,
        client: Asks,
        retriever: Finds,
        now: Callable[[], datetime] = datetime.now,
        university: str = "",
    ) -> None:
        self._client, self._retriever = client, retriever
        self._writer = Writer(client, now, university)
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
        if by == "terms" and (alone := await self._strayed(question.text, found, language)):
            yield Searching(None)
            searched, found = question.text, alone
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
        async with aclosing(self._writer.answer(ground)) as states:
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

    async def _strayed(self, question: str, found: Found, language: Language) -> Found | None:
        """What a question finds by itself that was taken for a follow-up and is about something else: `The weather?`"""
        if followup.leans(question) or followup.touches(question, found.passages):
            return None
        alone = await self._search(question, language)
        return None if alone.gate.answers else alone

    async def _refusal(self, searched: str, found: Found, language: Language) -> Refused:
        async with self._searching:
            wanted = searched if found.gate.score > FAR else GENERAL_OFFICE[language]
            offices = await asyncio.to_thread(self._retriever.contacts, wanted)
        nearest = {passage.url: passage for passage in reversed(found.passages)}
        pages = tuple(reversed(nearest.values()))[:NEAREST]
        return Refused(searched, pages, offices[0] if offices else None, language)


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
