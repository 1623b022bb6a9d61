"""Texts longer than a model's context: read in parts at once, put together, reviewed by the tribunal if asked."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any

from engine.errors import ConfigurationError, EndpointError
from engine.workflows.case import Case, Verdict
from engine.workflows.complete import Complete, Tally, Usage, own, plain
from engine.workflows.laws import LawSet
from engine.workflows.parallel import as_they_end
from engine.workflows.prompts import PROMPTS, Prompts
from engine.workflows.reading import INSTRUCTION, TEMPLATE_TOKENS, Answer, Note, Room, Split, Step, Task, share
from engine.workflows.split import LARGEST, Chunk, Count, next_chunks, split
from engine.workflows.tribunal import tribunal

__all__ = ["Answer", "Note", "Split", "Step", "Task", "longprompt", "of_messages"]

# Where nobody knows a model's context: nearly every model has this much.
CONTEXT = 4096


def of_messages(messages: Sequence[dict[str, Any]], instruction: str | None = None) -> tuple[str, str]:
    """Text and instruction of a conversation: its longest message is the text, the others say what to do with it."""
    texts = [plain(message.get("content")) for message in messages]
    longest = max(range(len(texts)), key=lambda at: len(texts[at]), default=None)
    if longest is None:
        raise ConfigurationError("messages hold no text; there is nothing to read")
    others = "\n\n".join(text for at, text in enumerate(texts) if at != longest and text.strip())
    return texts[longest], instruction or others or INSTRUCTION


async def longprompt(
    task: Task,
    complete: Complete,
    count: Count,
    context: int,
    parallel: Callable[[], int] = lambda: 8,
    has_room: Callable[[], bool] = lambda: True,
    prompts: Prompts = PROMPTS,
) -> AsyncGenerator[Step, None]:
    """The steps as they happen, the Answer last; close the generator (contextlib.aclosing) when leaving early.

    `context`: tokens of prompt and answer together (0: unknown). `parallel`: how many chunks may be read at once, asked
    anew as they end. Without room at the start the model answers at once from as much of the text as one prompt takes.
    Raises EngineError as soon as a chunk cannot be read, for an answer without it would not be one to the whole text.
    """
    reader = Reader(task, complete, prompts)
    room = share(task, context or CONTEXT, await count(reader.prompt("chunk", "", parts=2)) + TEMPLATE_TOKENS)
    if not has_room():
        yield await _bypassed(reader, count, room)
        return
    text, level, splits = task.text, 0, list[Split]()
    while (tokens := await _fits(text, count, room.whole if level else min(room.whole, room.chunk))) is None:
        first = level == 0
        found = await split(text, count, room.chunk if first else room.notes, room.overlap if first else 0)
        splits.append(Split(len(found), sum(chunk.own_tokens for chunk in found), level))
        yield splits[-1]
        if level and splits[-1].tokens >= splits[-2].tokens:
            raise EndpointError(f"{task.model} notes more than it reads: {splits[-1].tokens} tokens; see note_tokens")
        notes = [""] * len(found)
        async with aclosing(reader.notes(found, room.note, parallel, level)) as read:
            async for note in read:
                notes[note.index] = note.text
                yield note
        text, level = "\n\n".join(notes), level + 1
    if not splits:
        splits.append(Split(1, tokens))
        yield splits[0]
    messages = reader.whole(text) if level == 0 else reader.combined(text, splits[0].chunks)
    answer, review = await reader.ask(messages, room.answer), None
    if task.laws:
        case = reader.case(task.laws, messages, answer, room)
        async with aclosing(tribunal(case, complete, has_room, prompts)) as steps:
            async for step in steps:
                yield step
                review = step if isinstance(step, Verdict) else review
    yield _answer(reader, splits, level, answer, review)


async def _fits(text: str, count: Count, limit: int) -> int | None:
    """The text's tokens if they are at most `limit`; what is far too long is not counted."""
    if len(text) > limit * LARGEST:
        return None
    tokens = await count(text)
    return tokens if tokens <= limit else None


async def _bypassed(reader: "Reader", count: Count, room: Room) -> Answer:
    """The model's own answer to the beginning of the text, up to what one prompt takes."""
    text = reader.task.text
    first = await anext(next_chunks(text, count, room.whole, 0))
    answer = await reader.ask(reader.whole(first.text), room.answer)
    tokens = round(first.tokens * len(text) / max(1, len(first.text)))
    return Answer(answer, 1, tokens, first.tokens, 0, reader.tally.usage, "peak")


def _answer(reader: "Reader", splits: Sequence[Split], levels: int, answer: str, review: Verdict | None) -> Answer:
    usage = reader.tally.usage + (review.usage if review else Usage())
    text, tokens = review.answer if review else answer, splits[0].tokens
    return Answer(text, splits[0].chunks, tokens, tokens, levels, usage, None, review)


class Reader:
    """The questions that are asked of the model about a text and its parts."""

    def __init__(self, task: Task, complete: Complete, prompts: Prompts) -> None:
        self.task, self.tally, self._prompts = task, Tally(complete), prompts

    def prompt(self, name: str, text: str, parts: int, part: int = 1) -> str:
        return self._prompts.render(name, text=text, instruction=self.task.instruction, part=part, parts=parts)

    def whole(self, text: str) -> list[dict[str, Any]]:
        return [{"role": "user", "content": self.prompt("whole", text, 1)}]

    def combined(self, notes: str, parts: int) -> list[dict[str, Any]]:
        return [{"role": "user", "content": self.prompt("combine", notes, parts)}]

    async def ask(self, messages: list[dict[str, Any]], max_tokens: int) -> str:
        body = {**_parameters(self.task), "model": self.task.model, "messages": messages, "max_tokens": max_tokens}
        return await self.tally.ask(body)

    async def notes(
        self, found: Sequence[Chunk], max_tokens: int, parallel: Callable[[], int], level: int
    ) -> AsyncGenerator[Note, None]:
        async def note(numbered: tuple[int, Chunk]) -> Note:
            at, chunk = numbered
            text = self.prompt("chunk", chunk.text, len(found), at + 1)
            said = await self.ask([{"role": "user", "content": text}], max_tokens)
            return Note(at, len(found), chunk.tokens, said.strip(), level)

        async with aclosing(as_they_end(enumerate(found), note, parallel)) as read:
            async for one in read:
                yield one

    def case(self, laws: LawSet, messages: list[dict[str, Any]], answer: str, room: Room) -> Case:
        """The review: the prompt that was answered is the question, the answer its draft."""
        return Case(
            self.task.model,
            messages,
            laws,
            self.task.max_rounds,
            self.task.judges,
            {**_parameters(self.task), "max_tokens": room.answer},
            judge_tokens=room.judge,
            draft=answer,
        )


def _parameters(task: Task) -> dict[str, Any]:
    """What may go with each question about the text; its length is ours to say."""
    return {name: value for name, value in own(task.parameters).items() if name != "max_completion_tokens"}
