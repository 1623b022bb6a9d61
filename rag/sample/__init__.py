"""The pages of a made-up university that come with the engine, with their vectors: an index within seconds, offline.

`python -m tests.sample` makes both files anew from tests/university, by a real crawl.
"""

import gzip
from pathlib import Path

import msgspec

from engine.errors import IndexMissing
from rag.extract.page import Page
from rag.index.building import Built, build
from rag.index.cache import EmbeddingCache
from rag.index.embed import E5, Embedder
from rag.index.generations import Generations

FOLDER = Path(__file__).parent
PAGES, VECTORS = FOLDER / "pages.json.gz", FOLDER / "vectors.npz"
# Holds the name of the generation that is the sample, so that a real one made later is not taken for it.
MARK = "sample"


def pages() -> tuple[Page, ...]:
    return msgspec.json.decode(gzip.decompress(PAGES.read_bytes()), type=tuple[Page, ...])


def is_there() -> bool:
    return PAGES.is_file() and VECTORS.is_file()


def build_sample(folder: Path, embedder: Embedder | None = None) -> Built:
    """Indexes the sample in `folder`. What the vectors that came with it do not cover is embedded as ever."""
    generations = Generations(folder)
    cache = EmbeddingCache(folder.parent / "embeddings.db", [VECTORS])
    built = build(generations, pages(), embedder or E5(), cache, shrink=True)
    (folder / MARK).write_text(built.name)
    return built


def is_sample(folder: Path) -> bool:
    """Is the current generation in `folder` the sample?"""
    try:
        return (folder / MARK).read_text() == Generations(folder).current()
    except (FileNotFoundError, IndexMissing):
        return False
