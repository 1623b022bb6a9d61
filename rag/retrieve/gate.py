"""The gate: whether what was found can answer. Calibrated for each generation, as the level of cosines differs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rag.retrieve.passage import Gate

# How much the words count beside the cosine, which is measured in standard deviations of unanswerable questions.
COVERAGE_WEIGHT = 3.0
# The share of unanswerable questions that may pass, and of answerable ones that may be refused, in the calibration.
_MOST_PASSED = 0.03
_MOST_REFUSED = 0.05


@dataclass(frozen=True)
class Evidence:
    """The best chunk's cosine, and how much of the question's words, weighed by rarity, the best chunks hold."""

    cosine: float
    coverage: float


@dataclass(frozen=True)
class Calibration:
    """`mean` and `deviation` are those of the best cosines of questions that the index cannot answer."""

    mean: float = 0.8
    deviation: float = 0.02
    threshold: float = 2.5

    def score(self, evidence: Evidence) -> float:
        return (evidence.cosine - self.mean) / self.deviation + COVERAGE_WEIGHT * evidence.coverage

    def gate(self, evidence: Evidence) -> Gate:
        score = self.score(evidence)
        return Gate(round(score, 4), round(self.threshold, 4), score >= self.threshold)


def calibrate(answerable: Sequence[Evidence], unanswerable: Sequence[Evidence]) -> Calibration:
    """From questions made of the index's own headings, and questions about other things.

    The threshold lies where few of the latter pass, but never so high that many of the former would be refused.
    """
    if len(unanswerable) < 10:
        return Calibration()
    cosines = np.asarray([one.cosine for one in unanswerable])
    raw = Calibration(float(cosines.mean()), max(1e-3, float(cosines.std())), 0.0)
    wrong = np.asarray([raw.score(one) for one in unanswerable])
    threshold = float(np.quantile(wrong, 1 - _MOST_PASSED))
    if len(answerable) >= 10:
        right = np.asarray([raw.score(one) for one in answerable])
        threshold = min(threshold, float(np.quantile(right, _MOST_REFUSED)))
    return Calibration(raw.mean, raw.deviation, threshold)
