"""Embeddings that come with the product, so that an index of known texts is there in seconds.

`python -m rag.index.shipping` writes those of the questions that calibrate the gate, after off_topic.txt was changed.
"""

import os
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import numpy as np

from rag.index.cache import KEY_BYTES, OFF_TOPIC, content_key
from rag.index.embed import E5, Embedder, Vectors
from rag.index.probing import off_topic


def ship(path: Path, embedder: Embedder, passages: Iterable[str] = (), queries: Iterable[str] = ()) -> int:
    """Embeds the texts and writes an .npz for EmbeddingCache: `keys`, and `vectors` in float16. Returns how many."""
    known: dict[bytes, Vectors] = {}
    for role, embed, texts in (("passage", embedder.passages, passages), ("query", embedder.queries, queries)):
        unique = list(dict.fromkeys(texts))
        rows = chain.from_iterable(embed(unique[start : start + 64]) for start in range(0, len(unique), 64))
        known.update((content_key(embedder.name, role, text), row) for text, row in zip(unique, rows, strict=True))
    write_vectors(path, known)
    return len(known)


def write_vectors(path: Path, known: dict[bytes, Vectors]) -> None:
    keys = np.frombuffer(b"".join(known), np.uint8).reshape(-1, KEY_BYTES)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp.npz")
    np.savez_compressed(temporary, keys=keys, vectors=np.asarray(list(known.values())).astype(np.float16))
    temporary.replace(path)


if __name__ == "__main__":
    ship(OFF_TOPIC, E5(), queries=off_topic())
