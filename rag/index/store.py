"""Chroma as the store of one generation: written once, closed, then only read."""

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from engine.errors import IndexRejected
from rag.index.chunk import Chunk
from rag.index.embed import Vectors
from rag.retrieve.passage import Kind

if TYPE_CHECKING:
    from chromadb.api.client import Client
    from chromadb.api.collection_configuration import CreateHNSWConfiguration
    from chromadb.api.models.Collection import Collection

_NAME = "chunks"
_HNSW: "CreateHNSWConfiguration" = {"space": "cosine", "ef_construction": 100, "ef_search": 200, "max_neighbors": 16}
# Chroma keeps its systems in a table of the process that it does not guard itself.
_opening = threading.Lock()


@dataclass(frozen=True)
class Stored:
    """A chunk as it was stored."""

    id: str
    url: str
    heading_path: tuple[str, ...]
    text: str
    kind: Kind


class Store:
    """An open generation's chunks. Close it: Chroma holds the folder's files until then."""

    def __init__(self, client: "Client", collection: "Collection") -> None:
        self._client = client
        self._collection = collection

    @classmethod
    def create(cls, folder: Path, chunks: Sequence[Chunk], vectors: Vectors) -> "Store":
        client = _client(folder)
        collection = client.create_collection(_NAME, configuration={"hnsw": _HNSW}, embedding_function=None)
        batch = client.get_max_batch_size()
        for start in range(0, len(chunks), batch):
            part = chunks[start : start + batch]
            collection.add(
                ids=[chunk.id for chunk in part],
                embeddings=vectors[start : start + batch],
                documents=[chunk.text for chunk in part],
                metadatas=[_metadata(chunk) for chunk in part],
            )
        return cls(client, collection)

    @classmethod
    def open(cls, folder: Path) -> "Store":
        """Raises IndexRejected when there is no store in the folder, or none that Chroma can read."""
        if not (folder / "chroma.sqlite3").is_file():
            raise IndexRejected(f"{folder} holds no Chroma store; roll back, or build the index again")
        client = _client(folder)
        try:
            return cls(client, client.get_collection(_NAME, embedding_function=None))
        except Exception as error:
            client.close()
            raise IndexRejected(f"Chroma cannot read {folder}: {error}; roll back, or build the index again") from error

    def count(self) -> int:
        return self._collection.count()

    def nearest(self, vector: Vectors, limit: int) -> list[str]:
        """The ids of the chunks nearest to a unit vector, nearest first."""
        limit = min(limit, self.count())
        if limit == 0:
            return []
        found = self._collection.query(
            query_embeddings=vector.reshape(1, -1).astype(np.float32), n_results=limit, include=[]
        )
        return found["ids"][0]

    def get(self, ids: Sequence[str]) -> dict[str, Stored]:
        found = self._collection.get(ids=list(ids), include=["documents", "metadatas"])
        rows = zip(found["ids"], found["documents"] or [], found["metadatas"] or [], strict=True)
        return {name: _stored(name, text, told) for name, text, told in rows}

    def close(self) -> None:
        with _opening:
            self._client.close()


def _client(folder: Path) -> "Client":
    import chromadb
    from chromadb.config import Settings

    with _opening:
        return cast("Client", chromadb.PersistentClient(str(folder), Settings(anonymized_telemetry=False)))


def _metadata(chunk: Chunk) -> dict[str, str | int]:
    return {
        "url": chunk.url,
        "headings": json.dumps(chunk.heading_path, ensure_ascii=False),
        "kind": chunk.kind,
        "language": chunk.language,
        "position": chunk.position,
    }


def _stored(name: str, text: str, told: Mapping[str, Any]) -> Stored:
    return Stored(name, told["url"], tuple(json.loads(told["headings"])), text, told["kind"])
