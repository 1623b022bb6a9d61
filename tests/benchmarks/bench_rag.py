"""What an index of 10,000 chunks costs: to build, on disk, a question. `python -m tests.benchmarks.bench_rag [CHUNKS]`.

The texts are sentences of the made-up university, put together anew; the chunks' vectors are drawn at random around its
pages' own cone, as 10,000 embeddings would take minutes. The questions, their embeddings and all else are real.
"""

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from rag.evaluate.beir import Dataset, load
from rag.extract.page import Block, Page
from rag.index.building import build
from rag.index.cache import EmbeddingCache
from rag.index.embed import DIMENSIONS, E5, Vectors, unit
from rag.index.generations import Generations
from rag.index.sentences import sentences
from rag.retrieve.retriever import Retriever

DATA = Path(__file__).parent.parent / "data" / "university-qa"
QUESTIONS = 100


class DrawnVectors:
    """The real embedder, but for passages, whose vectors are drawn."""

    def __init__(self) -> None:
        self._real = E5()
        self._random = np.random.default_rng(5)
        self.name = self._real.name
        self.count = self._real.count
        self.queries = self._real.queries
        self._axis = self._real.passages(["Die Hochschule"])[0]

    def passages(self, texts: Sequence[str]) -> Vectors:
        noise = self._random.normal(size=(len(texts), DIMENSIONS)).astype(np.float32) / np.sqrt(DIMENSIONS)
        return unit(self._axis + np.float32(0.6) * noise)


def pages_of(dataset: Dataset, chunks: int) -> Iterator[Page]:
    """Pages of four chunks each."""
    random = np.random.default_rng(3)
    for language in ("de", "en"):
        known = [one for page in dataset.pages if page.language == language for one in sentences(page.text)]
        for number in range(chunks // 8):
            parts = [" ".join(known[place] for place in random.integers(0, len(known), 8)) for _ in range(4)]
            blocks = [one for part in parts for one in (Block("heading", part[:40], 2), Block("text", part))]
            yield Page(f"https://bench.example/{language}/{number}", f"Seite {number}", language, tuple(blocks))


def milliseconds(retriever: Retriever, questions: Sequence[str]) -> tuple[list[float], list[float]]:
    """By the clock, and of CPU: the latter stays the same on a busy machine."""
    by_clock, of_cpu = [], []
    for question in questions:
        clock, cpu = time.perf_counter(), time.process_time()
        retriever.search(question)
        by_clock.append((time.perf_counter() - clock) * 1000)
        of_cpu.append((time.process_time() - cpu) * 1000)
    return by_clock, of_cpu


def main(chunks: int) -> None:
    dataset, embedder = load(DATA), DrawnVectors()
    questions = [query.text for query in dataset.queries[:: max(1, len(dataset.queries) // QUESTIONS)]]
    with tempfile.TemporaryDirectory(prefix="bench-rag-") as folder:
        cache = EmbeddingCache(Path(folder) / "embeddings.db")
        built = build(Generations(Path(folder) / "index"), list(pages_of(dataset, chunks)), embedder, cache)
        steps = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in built.seconds.items())
        print(f"build        {built.chunks} chunks in {sum(built.seconds.values()):.1f} s, not embedded ({steps})")
        print(f"on disk      {built.bytes / 1e6:.0f} MB")
        start = time.perf_counter()
        retriever = Retriever.open(Path(folder) / "index", embedder)
        print(f"open         {time.perf_counter() - start:.2f} s")
        milliseconds(retriever, ["Wann ist die Rückmeldung?"])
        first = milliseconds(retriever, questions)
        again = milliseconds(retriever, questions)
        retriever.close()
    for name, (by_clock, of_cpu) in (("question", first), ("known one", again)):
        p50, p95, cpu = np.percentile(by_clock, 50), np.percentile(by_clock, 95), np.percentile(of_cpu, 50)
        print(f"{name:<12} p50 {p50:.1f} ms, p95 {p95:.1f} ms, CPU p50 {cpu:.1f} ms")
    texts = [page.text[:500] for page in dataset.pages[:16]]
    start = time.perf_counter()
    E5().passages(texts)
    print(f"embedding    {len(texts) / (time.perf_counter() - start):.1f} passages of 500 characters a second")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
