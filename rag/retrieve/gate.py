"""The gate: whether what was found can answer. Calibrated for each generation, as the level of cosines differs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rag.retrieve.passage import Gate

# A question is compared with so many of the nearest questions of either kind.
_NEAREST = 3
# Chosen on the calibration half of tests/data/university-qa: the cosine alone refused 74 % of foreign questions where
# 95 % of the answerable ones passed, all four together 94 %.
_OWN_WEIGHT = 0.25
_FOREIGN_WEIGHT = -0.75
_COVERAGE_WEIGHT = 0.05
# The share of the foreign questions that may pass, each judged without itself.
_MOST_PASSED = 0.1

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Evidence:
    """`cosine` is the best chunk's, `coverage` the share of the question's words that the best chunks hold, by rarity.

    `own` and `foreign` are the question's likeness to questions that the index answers, and to such about other things.
    """

    cosine: float
    coverage: float
    own: float
    foreign: float

    @property
    def sum(self) -> float:
        words = _COVERAGE_WEIGHT * self.coverage
        return self.cosine + words + _OWN_WEIGHT * self.own + _FOREIGN_WEIGHT * self.foreign


@dataclass(frozen=True)
class Probes:
    """Unit vectors of questions about the index's own headings, and of questions that no university's pages answer."""

    own: Vectors
    foreign: Vectors

    def likeness(self, vector: Vectors) -> tuple[float, float]:
        """To the nearest questions of either kind. A question that is itself among them is compared with the others."""
        return _likeness(self.own, vector), _likeness(self.foreign, vector)

    def save(self, path: Path) -> None:
        np.savez(path, own=self.own, foreign=self.foreign)

    @classmethod
    def load(cls, path: Path) -> "Probes":
        with np.load(path) as stored:
            return cls(stored["own"], stored["foreign"])


@dataclass(frozen=True)
class Calibration:
    """`mean` and `deviation` of the evidence for foreign questions; scores and the threshold are in such deviations."""

    mean: float = 0.4
    deviation: float = 0.02
    threshold: float = 1.5

    def score(self, evidence: Evidence) -> float:
        return (evidence.sum - self.mean) / self.deviation

    def gate(self, evidence: Evidence) -> Gate:
        score = self.score(evidence)
        return Gate(round(score, 4), round(self.threshold, 4), score >= self.threshold)


def calibrate(foreign: Sequence[Evidence]) -> Calibration:
    """From the evidence for foreign questions: the threshold lets few of them pass."""
    sums = np.asarray([one.sum for one in foreign])
    mean, deviation = float(sums.mean()), max(1e-3, float(sums.std()))
    return Calibration(mean, deviation, (float(np.quantile(sums, 1 - _MOST_PASSED)) - mean) / deviation)


def _likeness(questions: Vectors, vector: Vectors) -> float:
    cosines = questions @ vector
    others = cosines[cosines < 0.9995]
    return float(np.sort(others)[-_NEAREST:].mean()) if len(others) else 0.0
