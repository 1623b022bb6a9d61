"""What a search finds: passages with their source, and the gate's judgement whether they can answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date as Date
from typing import Literal, Protocol

Kind = Literal["text", "contact", "table", "pdf"]
Way = Literal["hybrid", "rrf", "dense", "lexical"]
WAYS: tuple[Way, ...] = ("hybrid", "rrf", "dense", "lexical")


@dataclass(frozen=True)
class Passage:
    """A piece of a page, as it can be quoted and cited.

    `url` is the page's canonical address and `urls` are all addresses that lead to the same text. `heading_path` leads
    from the page's first heading down to the passage. `date` is when the page says that it was last changed, None where
    it says nothing. `twins` are the same page in other languages (language to address), `twin_dates` their dates where
    known. `score` is the fused one, 0 to 1, comparable only within one search; a reranked order does not follow it.
    """

    id: str
    url: str
    title: str
    text: str
    heading_path: tuple[str, ...] = ()
    language: str = "de"
    date: Date | None = None
    score: float = 0.0
    kind: Kind = "text"
    urls: tuple[str, ...] = ()
    twins: Mapping[str, str] = field(default_factory=dict)
    twin_dates: Mapping[str, Date] = field(default_factory=dict)

    @property
    def whole(self) -> str:
        """All that it says: title, headings and text."""
        return " ".join((self.title, *self.heading_path, self.text))


@dataclass(frozen=True)
class Gate:
    """Whether the passages can answer: `score` against the `threshold` that was calibrated for this generation."""

    score: float
    threshold: float
    answers: bool


@dataclass(frozen=True)
class Reranking:
    """What became of a second look by `model`: `done`, or the search's own order stayed, for the `reason`."""

    model: str
    done: bool
    reason: str = ""


class Reranker(Protocol):
    """Puts the best passages of a search in order; gives them back as they were where it cannot, and says so."""

    model: str

    def __call__(self, question: str, passages: Sequence[Passage]) -> tuple[tuple[Passage, ...], Reranking]: ...


@dataclass(frozen=True)
class Found:
    """The passages, best first, and the gate. Below the gate the passages are still the nearest that there are.

    `reranking` is None where nobody asked for it.
    """

    passages: tuple[Passage, ...]
    gate: Gate
    reranking: Reranking | None = None
