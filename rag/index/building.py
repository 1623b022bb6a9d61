"""Builds a generation: beside the current one, checked, and only then made current."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import IndexRejected
from rag.extract.page import Page
from rag.index.cache import EmbeddingCache, Progress
from rag.index.chunk import Chunk, chunks_of
from rag.index.embed import Embedder, Vectors
from rag.index.generations import KEEP, Generations
from rag.index.probing import calibration_of, probes_of
from rag.index.store import Store
from rag.retrieve import lexical
from rag.retrieve.generation import Generation, PageRecord, Rows

# A new generation with less than this share of the current one's chunks comes from a site that did not answer well.
_LEAST_SHARE = 0.5
_SAMPLES = 20
# A graph may miss a few; one that was written badly misses most.
_LEAST_FOUND = 0.75

# Raises IndexRejected when the new generation answers questions worse than it must.
Check = Callable[[Generation], None]


@dataclass(frozen=True)
class Built:
    """`seconds` by step; `embedded` chunks were new, the others came out of the cache."""

    name: str
    pages: int
    chunks: int
    embedded: int
    bytes: int
    seconds: dict[str, float]


def build(
    generations: Generations,
    pages: Sequence[Page],
    embedder: Embedder,
    cache: EmbeddingCache,
    *,
    progress: Progress | None = None,
    check: Check | None = None,
    shrink: bool = False,
    keep: int = KEEP,
) -> Built:
    """A new current generation of these pages.

    Raises Conflict when somebody else builds, and IndexRejected when the pages hold nothing, when the new generation
    has less than half the chunks of the current one (unless `shrink`), or when a check fails: then the old one stays.
    """
    with generations.writing() as folder:
        clock = _Clock()
        chunks = [chunk for page in pages for chunk in chunks_of(page, embedder.count)]
        if not chunks:
            raise IndexRejected(f"none of the {len(pages)} pages holds any text; see `python -m rag status`")
        clock.step("chunk")
        embedded = _Counter(progress)
        vectors = cache.passages(embedder, [chunk.embedded for chunk in chunks], embedded)
        clock.step("embed")
        _write(folder, pages, chunks, vectors, embedder.name)
        clock.step("index")
        probes_of(pages, chunks, embedder, cache).save(folder / "probes.npz")
        _calibrate(folder)
        clock.step("calibrate")
        _check(folder, generations, chunks, vectors, check, shrink)
        clock.step("check")
        name = generations.next_name()
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        generations.finish(folder, name)
        generations.prune(keep)
    return Built(name, len(pages), len(chunks), embedded.done, size, clock.seconds)


def _write(folder: Path, pages: Sequence[Page], chunks: list[Chunk], vectors: Vectors, embedder: str) -> None:
    number = {page.url: place for place, page in enumerate(pages)}
    Rows(
        ids=np.asarray([chunk.id for chunk in chunks]),
        page=np.asarray([number[chunk.url] for chunk in chunks], np.int32),
        section=np.asarray([chunk.section for chunk in chunks], np.int32),
        is_german=np.asarray([chunk.language == "de" for chunk in chunks]),
        is_contact=np.asarray([chunk.kind == "contact" for chunk in chunks]),
    ).save(folder / "rows.npz")
    np.save(folder / "vectors.npy", vectors)
    lexical.save(lexical.build((chunk.embedded, chunk.language) for chunk in chunks), folder / "lexical.npz")
    _write_json(folder / "pages.json", [record.to_json() for record in records_of(pages)])
    Store.create(folder / "chroma", chunks, vectors).close()
    about = {"built": datetime.now(UTC).isoformat(timespec="seconds"), "embedder": embedder, "chunks": len(chunks)}
    _write_json(folder / "generation.json", about | {"pages": len(pages), "gate": {}})


def records_of(pages: Sequence[Page]) -> list[PageRecord]:
    """What is kept of each page, with twins in one group."""
    at = {url: page.url for page in pages for url in (page.url, *page.urls)}
    group: dict[str, int] = {}
    for place, page in enumerate(pages):
        twins = [at[url] for url in page.twins.values() if url in at]
        known = next((group[url] for url in (page.url, *twins) if url in group), place)
        for url in (page.url, *twins):
            group.setdefault(url, known)
    return [
        PageRecord(
            url=page.url,
            urls=page.urls or (page.url,),
            title=page.title,
            language=page.language,
            date=page.date,
            twins={
                language: at.get(url, url)
                for language, url in page.twins.items()
                if at.get(url, url) != page.url and language[:2] in ("de", "en")
            },
            group=group[page.url],
            twins_here=tuple(language[:2] for language, url in page.twins.items() if at.get(url, page.url) != page.url),
        )
        for page in pages
    ]


def _calibrate(folder: Path) -> None:
    generation = Generation.open(folder)
    try:
        calibration = calibration_of(generation)
    finally:
        generation.close()
    about = json.loads((folder / "generation.json").read_text(encoding="utf-8"))
    _write_json(folder / "generation.json", about | {"gate": asdict(calibration)})


def _check(
    folder: Path, generations: Generations, chunks: list[Chunk], vectors: Vectors, check: Check | None, shrink: bool
) -> None:
    """Opens what was written and asks it; raises IndexRejected."""
    generation = Generation.open(folder)
    try:
        stored = generation.store.count()
        if not stored == len(chunks) == len(generation.rows.ids) == generation.lexical.texts == len(generation.vectors):
            raise IndexRejected(f"{len(chunks)} chunks were written, and {stored} are there")
        rows = range(0, len(chunks), max(1, len(chunks) // _SAMPLES))
        found = sum(_finds(generation, vectors[row]) for row in rows)
        if found < _LEAST_FOUND * len(rows):
            raise IndexRejected(f"of {len(rows)} chunks Chroma finds only {found} by their own vector; build again")
        if check:
            check(generation)
    finally:
        generation.close()
    _check_size(generations, len(chunks), shrink)


def _finds(generation: Generation, vector: Vectors) -> bool:
    near = generation.store.nearest(vector, 10)
    return max(float(generation.vectors[generation.row_of[one]] @ vector) for one in near) > 0.99


def _check_size(generations: Generations, chunks: int, shrink: bool) -> None:
    if shrink or not (generations.folder / "current").is_file():
        return
    about = generations.about()
    if chunks < _LEAST_SHARE * about["chunks"]:
        raise IndexRejected(
            f"the new generation has {chunks} chunks and the current one {about['chunks']}: did the site answer? "
            "See `python -m rag status`; `python -m rag build --shrink` builds it nevertheless"
        )


def _write_json(path: Path, value: Any) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(value, ensure_ascii=False, indent=1), encoding="utf-8")
    temporary.replace(path)


class _Counter:
    """Passes progress on, and remembers how much there was to do."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self.done = 0

    def __call__(self, done: int, whole: int) -> None:
        self.done = done
        if self._progress:
            self._progress(done, whole)


class _Clock:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.monotonic()

    def step(self, name: str) -> None:
        now = time.monotonic()
        self.seconds[name] = round(now - self._last, 2)
        self._last = now
