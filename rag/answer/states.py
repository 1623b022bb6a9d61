"""What a turn yields as it goes on, and what it is asked with. Values, without any behaviour."""

from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal

from rag.retrieve.passage import Passage

Language = Literal["de", "en"]


@dataclass(frozen=True)
class Past:
    """An earlier turn: the question as it was searched for, and the answer without its cards."""

    question: str
    answer: str


@dataclass(frozen=True)
class Document:
    """The text of a file that the asker gave."""

    name: str
    text: str


@dataclass(frozen=True)
class Question:
    """`interface` is the language of the screen, for questions too short to tell; `pictures` are data URLs."""

    text: str
    model: str = ""
    interface: Language = "de"
    past: tuple[Past, ...] = ()
    pictures: tuple[str, ...] = ()
    documents: tuple[Document, ...] = ()
    tribunal: bool = False


@dataclass(frozen=True)
class Searching:
    """`question` is what is searched for where it differs from what was typed; `by` says who made it."""

    question: str | None
    by: Literal["model", "terms"] | None = None


@dataclass(frozen=True)
class Retrieved:
    passages: tuple[Passage, ...]


@dataclass(frozen=True)
class Refused:
    """No model was asked. `nearest` are pages that may help all the same, `office` a contact card."""

    question: str
    nearest: tuple[Passage, ...]
    office: Passage | None
    language: Language


@dataclass(frozen=True)
class Step:
    """What a workflow has done; `data` is the gateway's event, whose `step` is draft, judged, verdict, note …"""

    data: dict[str, Any]

    @property
    def kind(self) -> str:
        return str(self.data.get("step", ""))


@dataclass(frozen=True)
class Writing:
    """The answer so far, whole, with citations of supplied passages only."""

    text: str
    language: Language


@dataclass(frozen=True)
class Citation:
    """Passage `number` of those supplied. `marks`: where in its text words of the answer stand (begin, end)."""

    number: int
    passage: Passage
    marks: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Flag:
    """Something that may make a passage worthless today: a `deadline` or `semester` that is past, an `old` page.

    `words` is how the page says it, `day` when it ended or was written.
    """

    kind: Literal["deadline", "semester", "old"]
    number: int
    words: str
    day: date


@dataclass(frozen=True)
class Answer:
    """`unsupported` are sentences of `text` that no supplied passage bears out.

    `read` are the nearest of the supplied passages where the text cites none, to be looked up all the same.
    """

    text: str
    language: Language
    citations: tuple[Citation, ...] = ()
    unsupported: tuple[str, ...] = ()
    flags: tuple[Flag, ...] = ()
    searched: str = ""
    model: str = ""
    accepted: bool | None = None
    bypassed: bool = False
    cut: bool = False
    grounded: bool = True
    read: tuple[Citation, ...] = ()


@dataclass(frozen=True)
class Done:
    answer: Answer


@dataclass(frozen=True)
class Failed:
    """What went wrong, for the asker; `hint` is for whoever runs the engine. `so_far` is what had been written.

    `offer` names a model that could do what this one cannot.
    """

    words: str
    retryable: bool = True
    hint: str = ""
    retry_after_s: int | None = None
    so_far: str = ""
    offer: str = ""
    kind: str = field(default="trouble")


State = Searching | Retrieved | Refused | Step | Writing | Done | Failed
