"""From ranked rows to passages: spread over pages, joined with what stands beside them, and with their source."""

from collections.abc import Sequence

import numpy as np

from rag.index.store import Stored
from rag.retrieve.generation import Generation
from rag.retrieve.passage import Passage
from rag.retrieve.rank import Ranked
from rag.retrieve.spread import spread

# A passage is joined with its neighbours in the same section up to this length.
_MOST_CHARACTERS = 1500
_POOL = 40


def passages(generation: Generation, ranked: Ranked, limit: int) -> tuple[Passage, ...]:
    """Up to `limit` passages, best first."""
    rows, scores = ranked.rows[:_POOL], ranked.scores[:_POOL]
    if not len(rows):
        return ()
    groups = [generation.pages[page].group for page in generation.rows.page[rows]]
    chosen = spread(scores, np.asarray(generation.vectors[rows], np.float32), groups, limit)
    picked = [int(rows[place]) for place in chosen]
    taken = set(picked)
    around = [_neighbours(generation, row, taken) for row in picked]
    ids = [str(generation.rows.ids[row]) for one in around for row in one]
    stored = generation.store.get(list(dict.fromkeys(ids)))
    found, used = [], set[int]()
    for place, row, near in zip(chosen, picked, around, strict=True):
        if row in used:
            continue
        joined = _fitting(generation, row, [one for one in near if one not in used], stored)
        used.update(joined)
        found.append(_passage(generation, row, joined, stored, float(scores[place])))
    return tuple(found)


def of_rows(generation: Generation, rows: Sequence[int], scores: Sequence[float]) -> list[Passage]:
    """Passages of single chunks as they are."""
    stored = generation.store.get([str(generation.rows.ids[row]) for row in rows])
    return [_passage(generation, row, [row], stored, score) for row, score in zip(rows, scores, strict=True)]


def _neighbours(generation: Generation, row: int, taken: set[int]) -> list[int]:
    """Rows of the same section beside a chunk: those right beside it, and further ones that were picked as well."""
    rows = generation.rows
    same = [
        other
        for other in range(max(0, row - 2), min(len(rows.ids), row + 3))
        if rows.page[other] == rows.page[row] and rows.section[other] == rows.section[row]
    ]
    return [other for other in same if abs(other - row) <= 1 or other in taken]


def _fitting(generation: Generation, row: int, near: list[int], stored: dict[str, Stored]) -> list[int]:
    """Of the neighbours those that fit, nearest first, without a gap."""
    joined = [row]
    size = len(_text(generation, row, stored))
    for step in (1, -1):
        other = row + step
        while other in near and size + len(_text(generation, other, stored)) <= _MOST_CHARACTERS:
            size += len(_text(generation, other, stored))
            joined.append(other)
            other += step
    return sorted(joined)


def _passage(
    generation: Generation, row: int, joined: Sequence[int], stored: dict[str, Stored], score: float
) -> Passage:
    chunk = stored[str(generation.rows.ids[row])]
    page = generation.pages[int(generation.rows.page[row])]
    dates = {language: twin.date for language, url in page.twins.items() if (twin := generation.page_of.get(url))}
    return Passage(
        id=chunk.id,
        url=page.url,
        title=page.title,
        text="\n".join(_text(generation, one, stored) for one in joined),
        heading_path=chunk.heading_path,
        language=page.language,
        date=page.date,
        score=round(score, 4),
        kind=chunk.kind,
        urls=page.urls,
        twins=page.twins,
        twin_dates={language: date for language, date in dates.items() if date},
    )


def _text(generation: Generation, row: int, stored: dict[str, Stored]) -> str:
    return stored[str(generation.rows.ids[row])].text
