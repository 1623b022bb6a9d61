"""BEIR-style folders: corpus.jsonl, queries.jsonl, and qrels.tsv or qrels/SPLIT.tsv."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date as Date
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, Field, ValidationError

from engine.errors import ConfigurationError
from engine.tables import problem
from rag.dates import first_date
from rag.extract.language import LANGUAGES, detect
from rag.extract.page import Block, Page

Row = TypeVar("Row", bound=BaseModel)

UNANSWERABLE = ("near", "far", "unanswerable", "off-topic", "none")


@dataclass(frozen=True)
class Query:
    """`kind` is "answerable", or how far an unanswerable question is off: "near", "far" or "unanswerable"."""

    id: str
    text: str
    language: str
    split: str
    kind: str


@dataclass(frozen=True)
class Dataset:
    """`relevant` has the judged pages of each query with a score above 0; `address` the real URL of a document."""

    name: str
    pages: tuple[Page, ...]
    queries: tuple[Query, ...]
    relevant: Mapping[str, Mapping[str, int]]
    address: Mapping[str, str]

    @property
    def splits(self) -> set[str]:
        return {query.split for query in self.queries if query.split}

    def chosen(self, split: str) -> "Dataset":
        """Only the queries of one split; "all" is all of them."""
        if split == "all":
            return self
        if split not in self.splits:
            raise ConfigurationError(f"{self.name} has no split {split!r}; it has {', '.join(sorted(self.splits))}")
        queries = tuple(query for query in self.queries if query.split == split)
        return Dataset(self.name, self.pages, queries, self.relevant, self.address)


class _Document(BaseModel):
    id: str = Field(alias="_id")
    title: str | None = ""
    text: str | None = ""
    metadata: dict[str, Any] | None = None


class _Query(BaseModel):
    id: str = Field(alias="_id")
    text: str
    metadata: dict[str, Any] | None = None


def load(folder: Path) -> Dataset:
    """Raises ConfigurationError when a file is missing or a line is not what it must be."""
    documents = [_check(_Document, line, where) for line, where in _lines(folder / "corpus.jsonl")]
    asked = [_check(_Query, line, where) for line, where in _lines(folder / "queries.jsonl")]
    judged, only_these = _judgements(folder)
    queries = [query for one in asked if (query := _query(one, judged, only_these))]
    if not documents or not queries:
        raise ConfigurationError(f"{folder} holds {len(documents)} documents and {len(queries)} judged queries")
    return Dataset(
        name=folder.name,
        pages=tuple(_with_twins(documents)),
        queries=tuple(queries),
        relevant={one: {page: score for page, score in of.items() if score > 0} for one, of in judged.items()},
        address={one.id: str((one.metadata or {}).get("url") or one.id) for one in documents},
    )


def _judgements(folder: Path) -> tuple[dict[str, dict[str, int]], bool]:
    """Scores by query and document; and whether queries without any are left out, as they belong to other splits."""
    file = folder / "qrels.tsv"
    several = [] if file.is_file() else sorted((folder / "qrels").glob("*.tsv"))
    if several:
        file = next((one for one in several if one.stem == "test"), several[0])
    if not file.is_file():
        raise ConfigurationError(f"{folder} has neither qrels.tsv nor qrels/test.tsv")
    judged: dict[str, dict[str, int]] = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        parts = line.split("\t") if "\t" in line else line.split()
        if len(parts) == 4:  # TREC's form has a column that means nothing
            parts.pop(1)
        if not line.strip() or (number == 1 and not _is_number(parts[-1])):
            continue
        if len(parts) != 3 or not _is_number(parts[2]):
            raise ConfigurationError(f"{file} line {number} must be query, document, score: {line[:100]!r}")
        judged.setdefault(parts[0], {})[parts[1]] = int(float(parts[2]))
    return judged, bool(several)


def _query(one: _Query, judged: Mapping[str, Mapping[str, int]], only_judged: bool) -> Query | None:
    told = one.metadata or {}
    kind = str(told.get("kind", "")).lower()
    if told.get("answerable") is False and kind not in UNANSWERABLE:
        kind = "unanswerable"
    answered = any(score > 0 for score in judged.get(one.id, {}).values())
    if kind not in UNANSWERABLE and not answered:
        if only_judged:
            return None
        kind = "unanswerable"
    language = str(told.get("language", ""))[:2].lower()
    return Query(
        id=one.id,
        text=one.text,
        language=language if language in LANGUAGES else detect(one.text),
        split=str(told.get("split", "")),
        kind=kind if kind in UNANSWERABLE else "answerable",
    )


def _page(one: _Document) -> Page:
    told, text = one.metadata or {}, one.text or ""
    language = str(told.get("language", ""))[:2].lower()
    return Page(
        url=one.id,
        title=one.title or "",
        language=language if language in LANGUAGES else detect(f"{one.title}\n{text}"[:2000]),
        blocks=tuple(_blocks(text)) or (Block("text", one.title or one.id),),
        date=_date(told.get("date")),
        urls=(one.id,),
    )


def _with_twins(documents: list[_Document]) -> Iterator[Page]:
    """The documents as pages; `metadata.twin`, an address or an id, is the same page in the other language."""
    by_address = {name: one.id for one in documents for name in (one.id, str((one.metadata or {}).get("url")))}
    pages = {one.id: _page(one) for one in documents}
    for one in documents:
        twin = pages.get(by_address.get(str((one.metadata or {}).get("twin")), ""))
        page = pages[one.id]
        yield replace(page, twins={twin.language: twin.url}) if twin and twin.language != page.language else page


def _blocks(text: str) -> Iterator[Block]:
    """Paragraphs; lines that begin like Markdown's headings are headings."""
    for line in text.split("\n"):
        mark, _, rest = line.strip().partition(" ")
        if mark and set(mark) == {"#"} and rest:
            yield Block("heading", rest.strip(), len(mark))
        elif line.strip():
            yield Block("text", line.strip())


def _date(told: object) -> Date | None:
    return first_date(str(told)) if told else None


def _lines(file: Path) -> Iterator[tuple[str, str]]:
    try:
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield line, f"{file} line {number}"
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror or error}") from error


def _check(kind: "type[Row]", line: str, where: str) -> "Row":
    try:
        return kind.model_validate(json.loads(line))
    except ValidationError as error:
        raise ConfigurationError(f"{where}: {problem(error.errors()[0])}") from error
    except ValueError as error:
        raise ConfigurationError(f"{where} is no JSON: {error}") from error


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
