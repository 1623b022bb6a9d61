"""Which of many good candidates to show: few of one page, and not the same thing twice. Pure."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MOST_PER_PAGE = 2
# Share of the score against the share of newness.
_RELEVANCE = 0.8


def spread(
    scores: NDArray[np.float32],
    vectors: NDArray[np.float32],
    pages: Sequence[int],
    limit: int,
    most_per_page: int = MOST_PER_PAGE,
) -> list[int]:
    """Places of up to `limit` candidates, best first, by maximal marginal relevance.

    `vectors` are the candidates' unit vectors, `pages` tells to which page each belongs.
    """
    chosen: list[int] = []
    held: Counter[int] = Counter()
    likeness = np.zeros(len(scores), np.float32)
    open_ = np.ones(len(scores), np.bool_)
    baseline = float(np.quantile(vectors @ vectors.T, 0.1)) if len(scores) else 0.0
    while len(chosen) < limit and open_.any():
        # Vectors of one model all lie in a narrow cone: likeness counts from the usual one up.
        over = np.clip((likeness - baseline) / max(1e-6, 1 - baseline), 0, 1)
        worth = np.where(open_, _RELEVANCE * scores - (1 - _RELEVANCE) * (over if chosen else 0), -np.inf)
        best = int(np.argmax(worth))
        chosen.append(best)
        open_[best] = False
        held[pages[best]] += 1
        if held[pages[best]] >= most_per_page:
            open_ &= np.asarray([page != pages[best] for page in pages])
        likeness = np.maximum(likeness, vectors @ vectors[best])
    return chosen
