"""BM25 over stems and 4-grams: built once for a generation, kept as arrays, scored by adding up postings."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rag.retrieve.words import is_gram, terms_of, words_of

_K1 = 0.9
_B = 0.4
# A 4-gram says less than a word, and a word has several.
GRAM_WEIGHT = 0.3

Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Lexical:
    """An inverted index: `rows[starts[t]:starts[t + 1]]` are the texts with term t, `weights` its BM25 parts there."""

    number: dict[str, int]
    idf: Scores
    starts: NDArray[np.int64]
    rows: NDArray[np.int32]
    weights: Scores
    texts: int

    def scores(self, question: str) -> Scores:
        """A BM25 score for each text, one float a text."""
        scores = np.zeros(self.texts, np.float32)
        for term, weight in self._weighed(question).items():
            if (number := self.number.get(term)) is not None:
                part = slice(self.starts[number], self.starts[number + 1])
                scores[self.rows[part]] += np.float32(weight) * self.weights[part]
        return scores

    def coverage(self, question: str, rows: Sequence[int]) -> float:
        """The share, 0 to 1, of the question's words that one of these texts holds, words counted by their rarity.

        A word that is in no text by its stem counts by the share of its 4-grams that are.
        """
        told, whole = 0.0, 0.0
        wanted = np.asarray(sorted(rows), np.int32)
        for word in dict.fromkeys(words_of(question)):
            terms = _both(word)
            stems = [term for term in terms if not is_gram(term)]
            if not stems:
                continue
            rarity = max(self._rarity(stem) for stem in stems)
            held = any(self._holds(stem, wanted) for stem in stems)
            grams = [term for term in terms if is_gram(term)]
            share = sum(self._holds(gram, wanted) for gram in grams) / len(grams) if grams else 0.0
            told += rarity * (1.0 if held else 0.6 * share * share)
            whole += rarity
        return told / whole if whole else 0.0

    def _weighed(self, question: str) -> dict[str, float]:
        weights: dict[str, float] = {}
        for word in words_of(question):
            for term in _both(word):
                weights[term] = GRAM_WEIGHT if is_gram(term) else 1.0
        return weights

    def _rarity(self, term: str) -> float:
        number = self.number.get(term)
        return math.log(1 + self.texts) if number is None else float(self.idf[number])

    def _holds(self, term: str, wanted: NDArray[np.int32]) -> bool:
        number = self.number.get(term)
        if number is None:
            return False
        rows = self.rows[self.starts[number] : self.starts[number + 1]]
        places = np.searchsorted(rows, wanted)
        places[places == len(rows)] = 0
        return bool((rows[places] == wanted).any()) if len(rows) else False


def build(texts: Iterable[tuple[str, str]]) -> Lexical:
    """An index of (text, language) pairs, in their order."""
    number: dict[str, int] = {}
    known: dict[tuple[str, str], NDArray[np.int32]] = {}
    columns, counts, lengths = [], [], []
    for text, language in texts:
        words = words_of(text)
        found = [_numbers(word, language, number, known) for word in words]
        terms, times = np.unique(np.concatenate([*found, np.zeros(0, np.int32)]), return_counts=True)
        columns.append(terms)
        counts.append(times)
        lengths.append(len(words))
    return _weigh(number, columns, counts, np.asarray(lengths, np.float32))


def save(index: Lexical, path: Path) -> None:
    terms = np.frombuffer("\n".join(index.number).encode(), np.uint8)
    np.savez(
        path, terms=terms, idf=index.idf, starts=index.starts, rows=index.rows, weights=index.weights, texts=index.texts
    )


def load(path: Path) -> Lexical:
    with np.load(path) as stored:
        terms = stored["terms"].tobytes().decode().split("\n") if stored["terms"].size else []
        number = {term: place for place, term in enumerate(terms)}
        return Lexical(number, stored["idf"], stored["starts"], stored["rows"], stored["weights"], int(stored["texts"]))


def _both(word: str) -> tuple[str, ...]:
    """A question's word in both languages: names and loan words are searched in pages of either."""
    return tuple(dict.fromkeys((*terms_of(word, "de"), *terms_of(word, "en"))))


def _numbers(
    word: str, language: str, number: dict[str, int], known: dict[tuple[str, str], NDArray[np.int32]]
) -> NDArray[np.int32]:
    if (word, language) not in known:
        terms = terms_of(word, language)
        known[word, language] = np.asarray([number.setdefault(term, len(number)) for term in terms], np.int32)
    return known[word, language]


def _weigh(
    number: dict[str, int], columns: list[NDArray[np.int32]], counts: list[NDArray[np.int64]], lengths: Scores
) -> Lexical:
    texts = len(columns)
    rows = np.repeat(np.arange(texts, dtype=np.int32), [len(one) for one in columns])
    terms = np.concatenate([*columns, np.zeros(0, np.int32)])
    times = np.concatenate([*counts, np.zeros(0, np.int64)]).astype(np.float32)
    order = np.argsort(terms, kind="stable")
    terms, rows, times = terms[order], rows[order], times[order]
    held = np.bincount(terms, minlength=len(number))
    starts = np.concatenate([[0], np.cumsum(held)]).astype(np.int64)
    idf = np.log(1 + (texts - held + 0.5) / (held + 0.5)).astype(np.float32)
    norm = _K1 * (1 - _B + _B * lengths / max(1.0, float(lengths.mean()) if texts else 1.0))
    weights = (idf[terms] * times * (_K1 + 1) / (times + norm[rows])).astype(np.float32)
    return Lexical(number, idf, starts, rows, weights, texts)
