"""Metrics of ranked lists, with bootstrap intervals. Pure."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

Scores = dict[str, float]
METRICS = ("ndcg@10", "recall@5", "mrr@10")
_RESAMPLES = 2000


def of_query(ranked: Sequence[str], relevant: Mapping[str, int]) -> Scores:
    """The metrics of one query's ranked documents; `relevant` has the gains of those that count, all above 0."""
    gains = [relevant.get(one, 0) for one in ranked[:10]]
    best = sorted(relevant.values(), reverse=True)[:10]
    first = next((place for place, gain in enumerate(gains) if gain > 0), None)
    return {
        "ndcg@10": _discounted(gains) / _discounted(best) if best else 0.0,
        "recall@5": len(set(ranked[:5]) & relevant.keys()) / len(relevant) if relevant else 0.0,
        "mrr@10": 0.0 if first is None else 1 / (first + 1),
    }


def mean(rows: Sequence[Scores]) -> Scores:
    return {metric: float(np.mean([row[metric] for row in rows])) if rows else 0.0 for metric in METRICS}


def interval(values: Sequence[float], seed: int = 7) -> tuple[float, float]:
    """The 95 % interval of the mean, by resampling the queries."""
    if len(values) < 2:
        return (0.0, 1.0)
    drawn = np.random.default_rng(seed).choice(np.asarray(values, float), (_RESAMPLES, len(values))).mean(axis=1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return (float(low), float(high))


def auroc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """How probably a positive scores above a negative; a tie counts half. 0.5 when one side is empty."""
    if not positive or not negative:
        return 0.5
    order = np.sort(np.asarray(negative, float))
    below = np.searchsorted(order, positive, side="left")
    up_to = np.searchsorted(order, positive, side="right")
    return float((below + up_to).mean() / 2 / len(negative))


def _discounted(gains: Sequence[int]) -> float:
    return sum(gain / math.log2(place + 2) for place, gain in enumerate(gains))
