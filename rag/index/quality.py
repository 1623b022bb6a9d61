"""What a build found out about a site: what is empty, untitled, undated, doubled, and where it comes from."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

from rag.extract.page import Page
from rag.index.reading import Read

_SHOWN = 10


@dataclass(frozen=True)
class Quality:
    """`hosts`, `languages` and `kinds` count; the others are addresses."""

    pages: int
    hosts: dict[str, int]
    languages: dict[str, int]
    kinds: dict[str, int]
    characters_median: int
    empty: tuple[str, ...]
    duplicates: tuple[str, ...]
    gone: tuple[str, ...]
    untitled: tuple[str, ...]
    undated: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def quality_of(read: Read) -> Quality:
    blocks = Counter(block.kind for page in read.pages for block in page.blocks)
    kinds = {"pdf": sum(page.is_pdf for page in read.pages), "contact": blocks["contact"], "table": blocks["table"]}
    lengths = sorted(len(page.text) for page in read.pages)
    return Quality(
        pages=len(read.pages),
        hosts=_counted([urlsplit(page.url).hostname or "" for page in read.pages]),
        languages=_counted([page.language for page in read.pages]),
        kinds=kinds,
        characters_median=lengths[len(lengths) // 2] if lengths else 0,
        empty=read.empty,
        duplicates=read.duplicates,
        gone=read.gone,
        untitled=_urls([page for page in read.pages if not page.title.strip()]),
        undated=_urls([page for page in read.pages if page.date is None]),
    )


def lines_of(quality: Quality) -> list[str]:
    """The report for people."""
    lines = [
        f"pages       {quality.pages}, half of them longer than {quality.characters_median} characters",
        f"hosts       {_told(quality.hosts)}",
        f"languages   {_told(quality.languages)}",
        f"kinds       {_told(quality.kinds)}",
    ]
    for name in ("empty", "untitled", "undated", "duplicates", "gone"):
        urls: tuple[str, ...] = getattr(quality, name)
        lines.append(f"{name:<11} {len(urls)}")
        if name != "undated":
            lines += [f"            {url}" for url in urls[:_SHOWN]]
    return lines


def _counted(names: Sequence[str]) -> dict[str, int]:
    return dict(Counter(names).most_common())


def _told(counts: dict[str, int]) -> str:
    shown = [f"{name} {count}" for name, count in list(counts.items())[:_SHOWN]]
    more = len(counts) - len(shown)
    return ", ".join([*shown, *([f"and {more} more"] if more > 0 else [])]) or "none"


def _urls(pages: Sequence[Page]) -> tuple[str, ...]:
    return tuple(page.url for page in pages)
