"""Questions whose answerability is known, to calibrate the gate: of the index's own headings, and of other worlds."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np

from rag.extract.language import detect
from rag.index.cache import EmbeddingCache
from rag.index.embed import Embedder
from rag.retrieve.gate import Calibration, calibrate
from rag.retrieve.generation import Generation
from rag.retrieve.rank import rank

_OFF_TOPIC = Path(__file__).with_name("off_topic.txt")
_MOST_OWN = 120
_FORMS = {
    "de": ("Was muss ich über {} wissen?", "Wie ist das mit {}?", "Wo finde ich etwas zu {}?"),
    "en": ("What do I need to know about {}?", "How does {} work?", "Where can I find out about {}?"),
}


def calibration_of(generation: Generation, embedder: Embedder, cache: EmbeddingCache) -> Calibration:
    own = list(_own_questions(generation))
    foreign = off_topic()
    vectors = cache.queries(embedder, [*own, *foreign])
    found = [
        rank(generation, question, vector, detect(question)).evidence
        for question, vector in zip((*own, *foreign), vectors, strict=True)
    ]
    return calibrate(found[: len(own)], found[len(own) :])


@cache
def off_topic() -> tuple[str, ...]:
    """Questions that no university's pages answer, German and English."""
    lines = _OFF_TOPIC.read_text(encoding="utf-8").splitlines()
    return tuple(line for line in map(str.strip, lines) if line and not line.startswith("#"))


def _own_questions(generation: Generation) -> Iterator[str]:
    """Questions about pages' titles and headings, spread over the index."""
    step = max(1, len(generation.rows.ids) // _MOST_OWN)
    rows = np.arange(0, len(generation.rows.ids), step)
    stored = generation.store.get([str(one) for one in generation.rows.ids[rows]])
    for number, row in enumerate(rows):
        page = generation.pages[int(generation.rows.page[row])]
        path = stored[str(generation.rows.ids[row])].heading_path
        forms = _FORMS[page.language if page.language in _FORMS else "de"]
        yield forms[number % len(forms)].format(path[-1] if path else page.title)
