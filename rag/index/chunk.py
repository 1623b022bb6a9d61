"""Chunks: pieces of a page along its headings, short enough for the embedding model."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from rag.extract.page import Block, Page
from rag.index.sentences import sentences
from rag.retrieve.passage import Kind

# Chunks of about this size found more than longer ones, and say more than shorter ones.
TARGET_TOKENS = 140
# multilingual-e5 reads 512; its prefix and special tokens and our context in front need room.
MOST_TOKENS = 320
_MOST_CONTEXT_TOKENS = 80
# A section shorter than this is read together with the next one of the same parent.
_LEAST_TOKENS = 25

Count = Callable[[str], int]


@dataclass(frozen=True)
class Chunk:
    """`text` is what is shown and cited, `context` (title and headings) is put in front of it for embedding and search.

    `position` counts the chunks of a page, `section` its sections. `id` depends on nothing but address and content.
    """

    id: str
    url: str
    position: int
    section: int
    heading_path: tuple[str, ...]
    context: str
    text: str
    kind: Kind
    language: str

    @property
    def embedded(self) -> str:
        return f"{self.context}\n{self.text}" if self.context else self.text


@dataclass(frozen=True)
class _Section:
    path: tuple[str, ...]
    blocks: tuple[Block, ...]


def chunks_of(page: Page, count: Count, target_tokens: int = TARGET_TOKENS) -> list[Chunk]:
    """A page's chunks in reading order. `count` tells a text's tokens."""
    count = lru_cache(maxsize=None)(count)
    chunks: list[Chunk] = []
    seen: dict[str, int] = {}
    for number, section in enumerate(_joined(_sections(page), count)):
        context = _context(page, section.path, count)
        for kind, text in _pieces(section.blocks, count, target_tokens):
            again = seen[text + context] = seen.get(text + context, 0) + 1
            name = hashlib.sha256(f"{page.url}\0{context}\0{text}\0{again}".encode()).hexdigest()[:20]
            shown: Kind = "pdf" if page.is_pdf else kind
            chunks.append(Chunk(name, page.url, len(chunks), number, section.path, context, text, shown, page.language))
    return chunks


def _sections(page: Page) -> list[_Section]:
    """The blocks under one heading, each with the headings above it; the page's title is not one of them."""
    sections: list[_Section] = []
    path: list[tuple[int, str]] = []
    blocks: list[Block] = []

    def close() -> None:
        if blocks:
            headings = tuple(text for _, text in path if text and text != page.title)
            sections.append(_Section(headings, tuple(blocks)))
            blocks.clear()

    for block in page.blocks:
        if block.kind == "heading":
            close()
            path = [(level, text) for level, text in path if level < block.level]
            if block.text:
                path.append((block.level, block.text))
        else:
            blocks.append(block)
    close()
    return sections


def _joined(sections: list[_Section], count: Count) -> Iterator[_Section]:
    """Sections, the very short ones put together with their neighbour under the same parent heading."""
    waiting: _Section | None = None
    for section in sections:
        if waiting is not None and waiting.path[:-1] == section.path[:-1] and section.path:
            section = _Section(section.path[:-1], (*_headed(waiting), *_headed(section)))
            waiting = None
        elif waiting is not None:
            yield waiting
            waiting = None
        size = sum(count(block.text) for block in section.blocks)
        if size < _LEAST_TOKENS and section.path and all(block.kind == "text" for block in section.blocks):
            waiting = section
        else:
            yield section
    if waiting is not None:
        yield waiting


def _headed(section: _Section) -> tuple[Block, ...]:
    return (Block("text", section.path[-1]), *section.blocks) if section.path else section.blocks


def _context(page: Page, path: tuple[str, ...], count: Count) -> str:
    """Breadcrumbs, title and headings as one line; from the left, what does not fit goes."""
    parts = list(dict.fromkeys((*page.breadcrumbs, page.title, *path)))
    while len(parts) > 1 and count(" > ".join(parts)) > _MOST_CONTEXT_TOKENS:
        parts.pop(0)
    text = " > ".join(parts)
    return text if count(text) <= _MOST_CONTEXT_TOKENS else text[:200]


def _pieces(blocks: Iterable[Block], count: Count, target: int) -> Iterator[tuple[Kind, str]]:
    """Texts of about `target` tokens; contact cards and larger tables stand alone."""
    running: list[str] = []
    for block in blocks:
        if block.kind == "contact":
            yield from (("text", text) for text in _packed(running, count, target))
            running = []
            yield from (("contact", text) for text in _packed([block.text], count, MOST_TOKENS))
        elif block.kind == "table" and count(block.text) > target // 2:
            intro = running.pop() if running and running[-1].endswith(":") else ""
            yield from (("text", text) for text in _packed(running, count, target))
            running = []
            yield from (("table", text) for text in _packed([intro, block.text], count, target))
        else:
            running.append(block.text)
    yield from (("text", text) for text in _packed(running, count, target))


def _packed(texts: list[str], count: Count, target: int) -> Iterator[str]:
    """Whole blocks while they fit, then lines, then sentences, then words."""
    parts = [part for text in texts if text for part in _split(text, count, target)]
    lines: list[str] = []
    size = 0
    for part in parts:
        tokens = count(part)
        if lines and size + tokens > target * 1.25:
            yield "\n".join(lines)
            lines, size = [], 0
        lines.append(part)
        size += tokens
    if lines:
        yield "\n".join(lines)


def _split(text: str, count: Count, target: int) -> Iterator[str]:
    if count(text) <= target:
        yield text
        return
    running, size = "", 0
    for sentence, gap in _sentences_with_gaps(text):
        for part in _cut(sentence, count):
            tokens = count(part)
            if running and size + tokens > target:
                yield running.strip()
                running, size = "", 0
            running += part + gap
            size += tokens
    if running.strip():
        yield running.strip()


def _sentences_with_gaps(text: str) -> Iterator[tuple[str, str]]:
    """Each sentence with what must follow it: a line break where there was one."""
    for line in text.split("\n"):
        found = sentences(line)
        for sentence, _ in pairwise(found):
            yield sentence, " "
        if found:
            yield found[-1], "\n"


def _cut(sentence: str, count: Count) -> Iterator[str]:
    """A sentence that is longer than the model reads, in halves at a space, or anywhere where there is none."""
    if count(sentence) <= MOST_TOKENS or len(sentence) < 2:
        yield sentence
        return
    middle = len(sentence) // 2
    space = sentence.rfind(" ", 0, middle)
    cut = space if space > 0 else middle
    yield from _cut(sentence[:cut].strip(), count)
    yield from _cut(sentence[cut:].strip(), count)
