"""Ranks a generation's chunks for one question."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rag.retrieve.fusion import fuse
from rag.retrieve.gate import Evidence
from rag.retrieve.generation import Generation
from rag.retrieve.passage import Way

# So many candidates come from either side.
CANDIDATES = 60
# Up to here all vectors are compared, in some 3 ms a 10,000; Chroma's graph is faster beyond, and misses some.
_EXACT_UP_TO = 50_000
# Words are looked for in so many of the best chunks together.
_COVERING = 3


@dataclass(frozen=True)
class Ranked:
    """Rows, best first, their scores, and what the gate goes by."""

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]
    evidence: Evidence


def rank(
    generation: Generation,
    question: str,
    vector: NDArray[np.float32],
    language: str,
    way: Way = "hybrid",
    candidates: int = CANDIDATES,
) -> Ranked:
    """`vector` is the question's unit vector, `language` "de" or "en"."""
    near = _nearest(generation, vector, candidates)
    words = generation.lexical.scores(question)
    told = _best(words, candidates)
    rows = {"dense": near, "lexical": told}.get(way, np.union1d(near, told))
    dense = np.asarray(generation.vectors[rows] @ vector, np.float32)
    same = generation.rows.is_german[rows] == (language == "de")
    twins = np.asarray([language in generation.pages[page].twins_here for page in generation.rows.page[rows]], bool)
    scores = fuse(dense, words[rows], same, ~same & twins, way)
    order = np.argsort(-scores, kind="stable")
    cosine = float(generation.vectors[near[0]] @ vector) if len(near) else 0.0
    coverage = generation.lexical.coverage(question, rows[order][:_COVERING].tolist()) if len(rows) else 0.0
    return Ranked(rows[order], scores[order], Evidence(cosine, coverage, *generation.probes.likeness(vector)))


def _nearest(generation: Generation, vector: NDArray[np.float32], most: int) -> NDArray[np.int64]:
    """Rows with the highest cosines, best first."""
    if len(generation.vectors) > _EXACT_UP_TO:
        return np.asarray([generation.row_of[one] for one in generation.store.nearest(vector, most)], np.int64)
    cosines = generation.vectors @ vector
    rows = np.argpartition(-cosines, most)[:most] if len(cosines) > most else np.arange(len(cosines))
    return rows[np.argsort(-cosines[rows], kind="stable")].astype(np.int64)


def _best(scores: NDArray[np.float32], most: int) -> NDArray[np.int64]:
    """Rows with the highest scores above zero."""
    rows = np.argpartition(-scores, most)[:most] if len(scores) > most else np.arange(len(scores))
    return rows[scores[rows] > 0].astype(np.int64)
