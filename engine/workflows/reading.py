"""What is to be done with a long text, the steps of it, and how a context is shared out."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from engine.errors import ConfigurationError
from engine.workflows import case
from engine.workflows.complete import Usage
from engine.workflows.laws import LawSet

INSTRUCTION = "Summarise the text. Where it asks a question, answer it. Keep to the language of the text."
# What a chat template adds to a message.
TEMPLATE_TOKENS = 64
SMALLEST_CHUNK = 64
# Our words to a judge, and of a finding for each law.
CRITIQUE_TOKENS, FINDING_TOKENS = 300, 150


@dataclass(frozen=True)
class Task:
    """What to do with which text.

    `chunk_tokens`: of a chunk, at most; by default as many as the context takes. `overlap_tokens`: how much of a chunk
    the next one repeats. `note_tokens`: of what is noted about each chunk. `parameters` (temperature, max_tokens, …)
    are for the answer. With `laws` the answer is reviewed by the tribunal, in at most `max_rounds`.
    """

    model: str
    text: str
    instruction: str = INSTRUCTION
    chunk_tokens: int | None = None
    overlap_tokens: int = 64
    note_tokens: int | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    laws: LawSet | None = None
    max_rounds: int = 2
    judges: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise ConfigurationError("the text is empty; there is nothing to read")
        for name in ("chunk_tokens", "note_tokens"):
            value = getattr(self, name)
            if value is not None and value < 16:
                raise ConfigurationError(f"{name} is {value}; it must be at least 16")
        if self.max_tokens is not None and (type(self.max_tokens) is not int or self.max_tokens < 1):
            raise ConfigurationError(f"max_tokens is {self.max_tokens!r}; it must be a number from 1")
        if self.overlap_tokens < 0:
            raise ConfigurationError(f"overlap_tokens is {self.overlap_tokens}; it must be 0 or more")

    @property
    def max_tokens(self) -> int | None:
        """Of the answer, as asked for."""
        given = self.parameters.get("max_tokens")
        found: int | None = given if given is not None else self.parameters.get("max_completion_tokens")
        return found


@dataclass(frozen=True)
class Split:
    """The text is cut. Level 0 is the text, level 1 the notes on it where they are too long for one prompt, …"""

    chunks: int
    tokens: int
    level: int = 0

    def as_json(self) -> dict[str, Any]:
        return {"step": "split", **asdict(self)}


@dataclass(frozen=True)
class Note:
    """What one chunk held for the instruction; `index` counts from 0, notes come as they end."""

    index: int
    chunks: int
    tokens: int
    text: str
    level: int = 0

    def as_json(self) -> dict[str, Any]:
        return {"step": "note", **asdict(self)}


@dataclass(frozen=True)
class Answer:
    """The last step.

    `tokens` are of the text, `tokens_read` of what reached the model: the same, unless bypassed, when the model read
    only what one prompt takes. `levels`: how often something had to be noted before one prompt took it all, 0 for a
    short text. `accepted` is the review's, None without one.
    """

    answer: str
    chunks: int
    tokens: int
    tokens_read: int
    levels: int
    usage: Usage
    bypassed: Literal["peak"] | None = None
    review: case.Verdict | None = None

    @property
    def accepted(self) -> bool | None:
        return self.review.accepted if self.review else None

    def as_json(self) -> dict[str, Any]:
        return {
            "step": "answer",
            "answer": self.answer,
            "chunks": self.chunks,
            "tokens": self.tokens,
            "tokens_read": self.tokens_read,
            "levels": self.levels,
            "accepted": self.accepted,
            "bypassed": self.bypassed,
            "review": self.review.as_json() if self.review else None,
            "usage": self.usage.as_json(),
        }


Step = Split | Note | case.Step | Answer


@dataclass(frozen=True)
class Room:
    """How many tokens of a context go where.

    `chunk`: a chunk of the text, of which `overlap` repeats its predecessor; `notes`: a chunk of notes; `note`: what is
    noted about either; `whole`: text or notes that are answered in one prompt; `answer`, `judge`: what comes back.
    """

    chunk: int
    overlap: int
    notes: int
    note: int
    whole: int
    answer: int
    judge: int


def share(task: Task, context: int, overhead: int) -> Room:
    """A context shared out, `overhead` of it to our own words and the instruction.

    A review needs the text, the answer and a judge's words in one prompt, so it leaves less for the text. Raises
    ConfigurationError where too little is left.
    """
    eighth = context // 8
    answer, judge = min(task.max_tokens or context, eighth if task.laws else 2 * eighth), min(512, eighth)
    notes = context - overhead - eighth
    whole = context - overhead - answer
    if task.laws:
        laws = sum(len(law.text) // 2 + FINDING_TOKENS for law in task.laws.laws)
        whole = max(SMALLEST_CHUNK, whole - CRITIQUE_TOKENS - laws - max(judge, answer))
    if min(notes, whole) < SMALLEST_CHUNK:
        raise ConfigurationError(
            f"a context of {context} tokens leaves no room for the text: the instruction and what we say around it "
            f"take {overhead}, the answer {answer}"
        )
    chunk = min(task.chunk_tokens or notes, notes)
    note = min(task.note_tokens or 512, eighth, max(16, notes // 3))
    return Room(chunk, min(task.overlap_tokens, chunk // 3), notes, note, whole, answer, judge)
