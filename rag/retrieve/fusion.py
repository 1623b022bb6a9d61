"""Two kinds of scores into one. Pure."""

import numpy as np
from numpy.typing import NDArray

from rag.retrieve.passage import Way

Scores = NDArray[np.float32]
# How much the words count in a page of the question's language, and in one of the other language.
SAME_LANGUAGE = 0.4
OTHER_LANGUAGE = 0.15
# What a page in the other language loses when the index has the same page in the question's.
_TWIN_PENALTY = 0.2
_RRF_K = 60


def fuse(
    dense: Scores, lexical: Scores, same_language: NDArray[np.bool_], has_better_twin: NDArray[np.bool_], way: Way
) -> Scores:
    """One score, 0 to 1, for each candidate; all arrays are as long as there are candidates.

    `has_better_twin` marks what stands in the index in the question's language as well. Hybrid adds both scores after
    stretching each over 0 to 1, because ranks (rrf) throw away how much better the best is.
    """
    fused = _fused(dense, lexical, same_language, way)
    return np.maximum(fused - np.float32(_TWIN_PENALTY) * has_better_twin, 0).astype(np.float32)


def _fused(dense: Scores, lexical: Scores, same_language: NDArray[np.bool_], way: Way) -> Scores:
    if way == "dense":
        return stretched(dense)
    if way == "lexical":
        return stretched(lexical)
    if way == "rrf":
        return _reciprocal_ranks(dense) + np.where(lexical > 0, _reciprocal_ranks(lexical), 0).astype(np.float32)
    share = np.where(same_language, SAME_LANGUAGE, OTHER_LANGUAGE).astype(np.float32)
    return (1 - share) * stretched(dense) + share * stretched(lexical)


def stretched(scores: Scores) -> Scores:
    """Scores over 0 to 1; all equal ones become 0."""
    if not len(scores):
        return scores
    low, high = float(scores.min()), float(scores.max())
    if high <= low:
        return np.zeros_like(scores)
    return ((scores - low) / (high - low)).astype(np.float32)


def _reciprocal_ranks(scores: Scores) -> Scores:
    ranks = np.empty(len(scores), np.float32)
    ranks[np.argsort(-scores, kind="stable")] = np.arange(len(scores), dtype=np.float32)
    return ((_RRF_K + 1) / 2 / (_RRF_K + 1 + ranks)).astype(np.float32)
