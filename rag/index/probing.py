"""Questions that calibrate the gate: about the index's own headings, and about other worlds."""

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from rag.extract.language import detect
from rag.extract.page import Page
from rag.index.cache import EmbeddingCache
from rag.index.chunk import Chunk
from rag.index.embed import Embedder
from rag.retrieve.gate import Calibration, Probes, calibrate
from rag.retrieve.generation import Generation
from rag.retrieve.rank import rank

_OFF_TOPIC = Path(__file__).with_name("off_topic.txt")
_MOST_OWN = 150
_FORMS = {
    "de": ("Was muss ich über {} wissen?", "Wie ist das mit {}?", "Wo finde ich etwas zu {}?"),
    "en": ("What do I need to know about {}?", "How does {} work?", "Where can I find out about {}?"),
}


def probes_of(pages: Sequence[Page], chunks: Sequence[Chunk], embedder: Embedder, cache: EmbeddingCache) -> Probes:
    own = list(dict.fromkeys(_own_questions(pages, chunks)))
    vectors = cache.queries(embedder, [*own, *off_topic()])
    return Probes(own=vectors[: len(own)], foreign=vectors[len(own) :])


def calibration_of(generation: Generation) -> Calibration:
    """Asks the foreign questions, each compared with the others only."""
    asked = zip(off_topic(), generation.probes.foreign, strict=True)
    return calibrate([rank(generation, question, vector, detect(question)).evidence for question, vector in asked])


@cache
def off_topic() -> tuple[str, ...]:
    """Questions that no university's pages answer, German and English."""
    lines = _OFF_TOPIC.read_text(encoding="utf-8").splitlines()
    return tuple(line for line in map(str.strip, lines) if line and not line.startswith("#"))


def _own_questions(pages: Sequence[Page], chunks: Sequence[Chunk]) -> Iterator[str]:
    """Questions about pages' titles and headings, spread over the index."""
    title = {page.url: page.title for page in pages}
    for number, chunk in enumerate(chunks[:: max(1, len(chunks) // _MOST_OWN)]):
        forms = _FORMS.get(chunk.language, _FORMS["de"])
        yield forms[number % len(forms)].format(chunk.heading_path[-1] if chunk.heading_path else title[chunk.url])
