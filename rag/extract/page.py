"""Page and Block: what is left of a body when everything that is no content has gone."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date as Date
from typing import Literal

BlockKind = Literal["heading", "text", "list", "table", "contact"]


@dataclass(frozen=True)
class Block:
    """One heading, paragraph, list, table (a row a line) or contact card.

    A heading has a level, 1 to 6 in HTML and more in accordions; an empty one ends the section of its level.
    """

    kind: BlockKind
    text: str
    level: int = 0


@dataclass(frozen=True)
class Link:
    text: str
    url: str


@dataclass(frozen=True)
class Page:
    """A page's content and what it says about itself. `language` is "de" or "en"."""

    url: str
    title: str
    language: str
    blocks: tuple[Block, ...]
    date: Date | None = None
    breadcrumbs: tuple[str, ...] = ()
    links: tuple[Link, ...] = ()
    urls: tuple[str, ...] = ()
    twins: Mapping[str, str] = field(default_factory=dict)
    is_pdf: bool = False

    @property
    def text(self) -> str:
        return "\n".join(block.text for block in self.blocks if block.text)
