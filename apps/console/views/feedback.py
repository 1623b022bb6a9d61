"""What people ask in vain: feedback of the chatbot, questions that mean the same put together."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Any

import pandas as pd

from apps.console import words
from apps.console.markup import Cell, Tile
from rag.retrieve.words import terms_of, words_of

KINDS = {"refused": "not answered", "dislike": "disliked", "like": "liked"}
# Questions with the same telling words reach this; of the made-up university's 770, all different, 735 stay alone.
ALIKE = 0.4
CLUSTERS = (
    "Questions",
    "Like this one",
    "Not answered",
    "Disliked",
    "Languages",
    "Last asked, UTC",
    "Reasons told",
    "Sources shown",
)


@dataclass(frozen=True)
class Cluster:
    """Feedback on questions that are alike, the latest first."""

    rows: tuple[Mapping[str, Any], ...]

    def count(self, kind: str) -> int:
        return sum(row["kind"] == kind for row in self.rows)


def tiles(counts: Mapping[str, int]) -> list[Tile]:
    """As the gateway has counted them."""
    judged = counts["like"] + counts["dislike"]
    share = words.percent(counts["like"] / judged) if judged else "–"
    return [
        Tile(
            "Not answered",
            words.amount(counts["refused"]),
            "the pages do not tell",
            "warn" if counts["refused"] else "",
        ),
        Tile("Disliked", words.amount(counts["dislike"]), "", "bad" if counts["dislike"] else ""),
        Tile("Liked", words.amount(counts["like"]), "", "good" if counts["like"] else ""),
        Tile("Liked of judged", share, f"of {judged} judged answers"),
    ]


def clusters(rows: Sequence[Mapping[str, Any]], alike: float = ALIKE) -> list[Cluster]:
    """Puts questions together whose stems are alike (cosine of idf weights); the largest cluster first.

    Each question joins the cluster whose first question it is most like. Words of one language do not meet those of
    another.
    """
    vectors = _vectors([(str(row["question"]), str(row.get("language", "de"))) for row in rows])
    leaders: list[dict[str, float]] = []
    members: list[list[Mapping[str, Any]]] = []
    by_term: dict[str, list[int]] = {}
    for row, vector in zip(rows, vectors, strict=True):
        near = {place for term in vector for place in by_term.get(term, ())}
        best = max(near, key=lambda place: (_cosine(leaders[place], vector), -place), default=None)
        if best is not None and _cosine(leaders[best], vector) >= alike:
            members[best].append(row)
            continue
        for term in vector:
            by_term.setdefault(term, []).append(len(leaders))
        leaders.append(vector)
        members.append([row])
    return sorted((Cluster(tuple(found)) for found in members), key=lambda one: -len(one.rows))


def _vectors(questions: Sequence[tuple[str, str]]) -> list[dict[str, float]]:
    """Of length 1; a question of stop words alone goes by its words."""
    found = [_terms(text, language) for text, language in questions]
    seen = Counter(term for terms in found for term in terms)
    weighted = [{term: 1 + log(len(found) / seen[term]) for term in terms} for terms in found]
    lengths = [sum(weight**2 for weight in one.values()) ** 0.5 for one in weighted]
    return [{t: w / length for t, w in one.items()} for one, length in zip(weighted, lengths, strict=True)]


def _terms(text: str, language: str) -> set[str]:
    told = words_of(text)
    return {terms[0] for word in told if (terms := terms_of(word, language[:2]))} or set(told) or {text}


def _cosine(mine: Mapping[str, float], other: Mapping[str, float]) -> float:
    return sum(weight * other[term] for term, weight in mine.items() if term in other)


def table(found: Sequence[Cluster]) -> list[tuple[Cell, ...]]:
    return [_cells(cluster) for cluster in found]


def _cells(cluster: Cluster) -> tuple[Cell, ...]:
    rows = cluster.rows
    reasons = Counter(row["reason"] for row in rows if row.get("reason"))
    sources = Counter(source for row in rows for source in row.get("sources") or ())
    return (
        len(rows),
        str(rows[0]["question"])[:300],
        cluster.count("refused"),
        cluster.count("dislike"),
        ", ".join(sorted({str(row.get("language", "")) for row in rows})),
        words.date_time(max(row["at"] for row in rows)),
        "; ".join(text[:120] for text, _ in reasons.most_common(3)),
        ", ".join(url for url, _ in sources.most_common(2)),
    )


def each(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    columns = ["When, UTC", "Kind", "Question", "Reason", "Answer", "Language", "Sources"]
    found = [
        [
            words.date_time(row["at"]),
            KINDS[row["kind"]],
            row["question"],
            row.get("reason", ""),
            row.get("answer", ""),
            row.get("language", ""),
            ", ".join(row.get("sources") or ()),
        ]
        for row in rows
    ]
    return pd.DataFrame(found, columns=columns)
