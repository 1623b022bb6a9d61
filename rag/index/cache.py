"""Embeddings by content, so that only changed text is embedded again."""

import hashlib
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from rag.index.embed import Embedder, Vectors, unit

# So many are embedded and then committed at once: what a kill loses.
_BATCH = 32
_SQL_MOST = 500
KEY_BYTES = 20
# Those of the questions that calibrate every index, by the packaged model.
OFF_TOPIC = Path(__file__).with_name("off_topic.npz")

Progress = Callable[[int, int], None]


class EmbeddingCache:
    """Vectors in SQLite by a hash of model, role and text, two bytes a number. `also` are read-only vectors that came
    with the product, in files that shipping.py writes.

    Safe for several processes at once.
    """

    def __init__(self, path: Path, also: Sequence[Path] = ()) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._also = [_Shipped(one) for one in (OFF_TOPIC, *also) if one.is_file()]
        with closing(self._open()) as database:
            database.execute("CREATE TABLE IF NOT EXISTS embedding (key BLOB PRIMARY KEY, vector BLOB) WITHOUT ROWID")

    def passages(self, embedder: Embedder, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        return self._through(embedder, "passage", texts, embedder.passages, progress)

    def queries(self, embedder: Embedder, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        return self._through(embedder, "query", texts, embedder.queries, progress)

    def _through(
        self,
        embedder: Embedder,
        role: str,
        texts: Sequence[str],
        embed: Callable[[Sequence[str]], Vectors],
        progress: Progress | None,
    ) -> Vectors:
        keys = [content_key(embedder.name, role, text) for text in texts]
        with closing(self._open()) as database:
            known = _read(database, keys)
            for shipped in self._also:
                known.update({key: row for key in set(keys) - known.keys() if (row := shipped.row(key)) is not None})
            missing = list(dict.fromkeys(key for key in keys if key not in known))
            text_of = dict(zip(keys, texts, strict=True))
            for start in range(0, len(missing), _BATCH):
                batch = missing[start : start + _BATCH]
                vectors = embed([text_of[key] for key in batch]).astype(np.float16)
                with database:
                    database.executemany(
                        "INSERT OR REPLACE INTO embedding VALUES (?, ?)",
                        [(key, row.tobytes()) for key, row in zip(batch, vectors, strict=True)],
                    )
                known.update(zip(batch, vectors, strict=True))
                if progress:
                    progress(start + len(batch), len(missing))
        rows = np.array([known[key] for key in keys], np.float32)
        return unit(rows) if len(rows) else rows

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, timeout=60)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=NORMAL")
        return database


class _Shipped:
    def __init__(self, path: Path) -> None:
        with np.load(path) as stored:
            self._vectors = stored["vectors"]
            self._row = {bytes(key): number for number, key in enumerate(stored["keys"])}

    def row(self, key: bytes) -> np.ndarray[tuple[int], np.dtype[np.float16]] | None:
        number = self._row.get(key)
        return None if number is None else self._vectors[number]


def content_key(model: str, role: str, text: str) -> bytes:
    return hashlib.sha256(f"{model}\0{role}\0{text}".encode()).digest()[:KEY_BYTES]


def _read(database: sqlite3.Connection, keys: list[bytes]) -> dict[bytes, np.ndarray[tuple[int], np.dtype[np.float16]]]:
    unique = list(dict.fromkeys(keys))
    found = {}
    for start in range(0, len(unique), _SQL_MOST):
        part = unique[start : start + _SQL_MOST]
        marks = ",".join("?" * len(part))
        for key, vector in database.execute(f"SELECT key, vector FROM embedding WHERE key IN ({marks})", part):
            found[bytes(key)] = np.frombuffer(vector, np.float16)
    return found
