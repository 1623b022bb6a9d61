"""Makes the sample that comes with the engine: crawls tests/university for real, extracts, embeds, and keeps both.

python -m tests.sample
"""

import gzip
import os
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np

from rag import sample
from rag.crawl.store import kept
from rag.extract.page import Page
from rag.index.building import build
from rag.index.cache import EmbeddingCache
from rag.index.embed import E5
from rag.index.generations import Generations
from rag.index.reading import read
from tests.processes import ROOT
from tests.university.serving import START, serving


def crawled(folder: Path) -> tuple[Page, ...]:
    """The made-up university as a crawl finds it."""
    environ = {**os.environ, "ENGINE_HOME": str(folder), "ENGINE_LOCAL": str(folder / "local")}
    with serving() as university:
        argv = [sys.executable, "-m", "rag", "crawl", START, "--name", "sample", "--allow-private", "--delay-s", "0.01"]
        argv += ["--contact", "https://www.example.org/", "--max-pages", "400"]
        argv += [part for one in university.resolve for part in ("--resolve", one)]
        subprocess.run(argv, cwd=ROOT, env=environ, check=True, stdout=subprocess.DEVNULL, timeout=300)
    return read(kept(folder / "local" / "crawl" / "sample")).pages


def vectors(pages: tuple[Page, ...], folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Keys and vectors of all that a build of these pages embeds."""
    cache = folder / "embeddings.db"
    build(Generations(folder / "index"), pages, E5(), EmbeddingCache(cache))
    with closing(sqlite3.connect(cache)) as database:
        rows = database.execute("SELECT key, vector FROM embedding ORDER BY key").fetchall()
    keys = np.array([np.frombuffer(key, np.uint8) for key, _ in rows])
    return keys, np.array([np.frombuffer(vector, np.float16) for _, vector in rows])


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        pages = crawled(Path(name))
        keys, rows = vectors(pages, Path(name) / "built")
    # Without a time in it the same pages give the same file.
    sample.PAGES.write_bytes(gzip.compress(msgspec.json.encode(pages), mtime=0))
    np.savez_compressed(sample.VECTORS, keys=keys, vectors=rows)
    size_kb = (sample.PAGES.stat().st_size + sample.VECTORS.stat().st_size) / 1000
    print(f"{len(pages)} pages, {len(rows)} vectors, {size_kb:.0f} kB")


if __name__ == "__main__":
    main()
