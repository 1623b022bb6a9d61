"""Retriever: answers questions with passages from the current generation of an index."""

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigurationError, IndexMissing, RetrievalError
from engine.settings import Settings
from rag.extract.language import detect
from rag.index.embed import Embedder, embedder_named
from rag.index.generations import Generations
from rag.retrieve import compose
from rag.retrieve.generation import Generation
from rag.retrieve.passage import WAYS, Found, Passage, Reranker, Reranking, Way
from rag.retrieve.rank import rank

_REMEMBERED = 512
_MOST_CONTACTS = 3
# So many of the best passages are reranked.
RERANKED = 10
# Longer than any question; what is behind it is not searched.
_MOST_CHARACTERS = 1000


class Retriever:
    """Reads an index. Thread-safe; goes over to a new generation by itself as soon as that is made current."""

    def __init__(self, generations: Generations, embedder: Embedder) -> None:
        self._generations = generations
        self._embedder = embedder
        self._lock = threading.Lock()
        self._vectors: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self._stamp = (0, 0)
        self._held: _Held | None = None

    @classmethod
    def open(cls, where: Path | Settings, embedder: Embedder | None = None) -> "Retriever":
        """A retriever of the index in this folder, or of the one under ENGINE_LOCAL; raises IndexMissing.

        The embedder must be the one that the index was built with; by default it is found by that one's name (an
        engine's model is asked at ENGINE_URL with ENGINE_KEY).
        """
        generations = Generations(index_folder(where))
        retriever = cls(generations, embedder or embedder_named(generations.about()["embedder"], os.environ))
        with retriever._using():
            return retriever

    def search(
        self,
        question: str,
        *,
        language: str | None = None,
        limit: int = 6,
        way: Way = "hybrid",
        rerank: Reranker | None = None,
    ) -> Found:
        """The passages nearest to a question in German or English, best first, and whether they can answer it.

        `language` is the question's ("de", "en"); None detects it. Blocks some 20 to 50 ms: from a coroutine, call it
        in a thread. With `rerank` (rag.answer.rerank) a model then puts the best ten in order, unless the gate refuses:
        that takes as long as the model. Raises IndexMissing when the index has gone.
        """
        if way not in WAYS:
            raise ConfigurationError(f"way is {way!r}; it must be one of {', '.join(WAYS)}")
        question = question.strip()[:_MOST_CHARACTERS]
        with self._using() as generation:
            ranked = rank(generation, question, self._vector(question), language or detect(question), way)
            found = Found(compose.passages(generation, ranked, limit), generation.calibration.gate(ranked.evidence))
            if rerank is None:
                return found
            best = compose.passages(generation, ranked, max(limit, RERANKED))
        return _reranked(question, found, best, limit, rerank)

    def contacts(self, question: str) -> list[Passage]:
        """The contact cards nearest to the question, at most three: whom to ask when the pages do not answer."""
        question = question.strip()[:_MOST_CHARACTERS]
        with self._using() as generation:
            cards = np.flatnonzero(generation.rows.is_contact)
            likeness = np.asarray(generation.vectors[cards] @ self._vector(question), np.float32)
            best = np.argsort(-likeness, kind="stable")[:_MOST_CONTACTS]
            return compose.of_rows(generation, cards[best].tolist(), likeness[best].tolist())

    @property
    def generation(self) -> str:
        """The name of the generation that the next search reads."""
        with self._using() as generation:
            return generation.name

    def close(self) -> None:
        """Lets go of the generation; a search that runs ends first."""
        with self._lock:
            if self._held:
                self._held.leave()
            self._held, self._stamp = None, (0, 0)

    def _vector(self, question: str) -> NDArray[np.float32]:
        with self._lock:
            if question in self._vectors:
                self._vectors.move_to_end(question)
                return self._vectors[question]
        vector: NDArray[np.float32] = self._embedder.queries([question])[0]
        with self._lock:
            self._vectors[question] = vector
            while len(self._vectors) > _REMEMBERED:
                self._vectors.popitem(last=False)
        return vector

    @contextmanager
    def _using(self) -> Iterator[Generation]:
        held = self._enter()
        try:
            yield held.generation
        finally:
            held.leave()

    def _enter(self) -> "_Held":
        with self._lock:
            stamp = self._generations.stamp()
            if self._held is None or stamp != self._stamp:
                self._go_over()
            self._stamp = stamp
            if self._held is None:
                raise IndexMissing(f"there is no index in {self._generations.folder}; `python -m rag build` makes one")
            self._held.enter()
            return self._held

    def _go_over(self) -> None:
        before = self._held
        try:
            generation = Generation.open_current(self._generations)
        except RetrievalError:
            if before:  # better the old generation than none
                return
            raise
        built_with = generation.about["embedder"]
        if built_with != self._embedder.name:
            generation.close()
            raise ConfigurationError(
                f"the index in {self._generations.folder} was built with {built_with}, not {self._embedder.name}; "
                "build it again, or search with that model"
            )
        self._held = _Held(generation)
        if before:
            before.leave()


class _Held:
    """A generation that is closed when the last one who uses it leaves; the retriever itself is the first."""

    def __init__(self, generation: Generation) -> None:
        self.generation = generation
        self._users = 1
        self._lock = threading.Lock()

    def enter(self) -> None:
        with self._lock:
            self._users += 1

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self.generation.close()


def _reranked(question: str, found: Found, best: Sequence[Passage], limit: int, rerank: Reranker) -> Found:
    """The first of the `best` in the reranker's order; what was found as it is, where that has none."""
    if not found.gate.answers:
        return replace(found, reranking=Reranking(rerank.model, False, "the gate refuses the question"))
    passages, told = rerank(question, best[:RERANKED])
    if not told.done:
        return replace(found, reranking=told)
    return replace(found, passages=(*passages, *best[RERANKED:])[:limit], reranking=told)


def index_folder(where: Path | Settings) -> Path:
    return where.local / "index" if isinstance(where, Settings) else where
