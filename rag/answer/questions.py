"""Open questions for the operator: what was refused or disliked, alike ones together. Pure."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rag.answer.terms import terms

# Of what two questions share, weighted by how rare it is, this much makes them one.
ALIKE = 0.5
# e5's cosines of questions about one thing lie above this, those of others below.
ALIKE_VECTORS = 0.92
OPEN = ("refused", "dislike")
EXAMPLES = 5

Vectors = Callable[[Sequence[str]], Sequence[Sequence[float]]]


@dataclass(frozen=True)
class OpenQuestion:
    """`question` is the most central of those alike, `examples` are others; `reasons` with how often each was given."""

    question: str
    refused: int
    disliked: int
    languages: tuple[str, ...]
    reasons: tuple[tuple[str, int], ...]
    examples: tuple[str, ...]
    last_at: str

    @property
    def count(self) -> int:
        return self.refused + self.disliked


def cluster(feedback: Sequence[Mapping[str, Any]], vectors: Vectors | None = None) -> list[OpenQuestion]:
    """Rows of `GET /api/feedback` as open questions, the most frequent first.

    `vectors` embeds questions (unit length), so that different words and languages come together; without it the words
    that questions share decide.
    """
    rows = [row for row in feedback if row.get("kind") in OPEN and str(row.get("question") or "").strip()]
    texts = [str(row["question"]) for row in rows]
    alike = _by_vectors(vectors(texts)) if vectors and texts else _by_terms(texts)
    groups = [[rows[at] for at in group] for group in _grouped(len(rows), alike)]
    return sorted(map(_open_question, groups), key=lambda one: (-one.count, one.question))


def _grouped(count: int, alike: Callable[[int, int], bool]) -> list[list[int]]:
    """Each joins the first group whose first member it is alike."""
    groups: list[list[int]] = []
    for at in range(count):
        home = next((group for group in groups if alike(group[0], at)), None)
        if home is None:
            groups.append([at])
        else:
            home.append(at)
    return groups


def _by_vectors(vectors: Sequence[Sequence[float]]) -> Callable[[int, int], bool]:
    def alike(one: int, other: int) -> bool:
        return sum(a * b for a, b in zip(vectors[one], vectors[other], strict=True)) >= ALIKE_VECTORS

    return alike


def _by_terms(texts: Sequence[str]) -> Callable[[int, int], bool]:
    sets = [set(terms(text)) for text in texts]
    often = Counter(term for one in sets for term in one)
    weight = {term: math.log(1 + len(texts) / count) for term, count in often.items()}

    def alike(one: int, other: int) -> bool:
        if texts[one].casefold().strip() == texts[other].casefold().strip():
            return True
        both = sum(weight[term] for term in sets[one] & sets[other])
        either = sum(weight[term] for term in sets[one] | sets[other])
        return bool(either) and both / either >= ALIKE

    return alike


def _open_question(rows: Sequence[Mapping[str, Any]]) -> OpenQuestion:
    kinds = Counter(str(row["kind"]) for row in rows)
    asked = Counter(str(row["question"]) for row in rows)
    reasons = Counter(str(row["reason"]) for row in rows if row.get("reason"))
    name = min(asked, key=lambda text: (-asked[text], len(text)))
    return OpenQuestion(
        name,
        kinds["refused"],
        kinds["dislike"],
        tuple(sorted({str(row.get("language") or "") for row in rows})),
        tuple(reasons.most_common()),
        tuple(text for text, _ in asked.most_common(EXAMPLES + 1) if text != name)[:EXAMPLES],
        max(str(row.get("at") or "") for row in rows),
    )
