"""The walk through a content element that makes blocks of it."""

from bs4 import Tag
from bs4.element import NavigableString

from rag.extract.contacts import card_text, cards_in
from rag.extract.page import Block
from rag.extract.tables import caption_of, is_layout, rows_of
from rag.extract.text import BREAKING, clean, inline, linked, one_line

_HEADINGS = {f"h{level}": level for level in range(1, 7)}
# Titles of accordions stand below every real heading.
_ACCORDION_LEVEL = 7


def blocks_of(content: Tag) -> list[Block]:
    """The content in reading order; nothing is kept twice."""
    walk = _Walk({id(card) for card in cards_in(content)})
    walk.children(content)
    walk.flush()
    return walk.blocks


class _Walk:
    def __init__(self, cards: set[int]) -> None:
        self.blocks: list[Block] = []
        self._cards = cards
        self._inline: list[str] = []
        self._depth = 0

    def children(self, element: Tag) -> None:
        for child in element.children:
            if isinstance(child, Tag):
                self._element(child)
            elif type(child) is NavigableString:
                self._inline.append(str(child).replace("\n", " "))

    def flush(self) -> None:
        """Ends the running paragraph."""
        text = clean("".join(self._inline))
        self._inline.clear()
        self._add("text", text)

    def _add(self, kind: str, text: str, level: int = 0) -> None:
        if text or kind == "heading":
            self.blocks.append(Block(kind, text, level))  # type: ignore[arg-type]

    def _element(self, element: Tag) -> None:
        name = element.name
        if id(element) in self._cards:
            self._whole("contact", card_text(element))
        elif name in _HEADINGS:
            self._whole("heading", one_line(element), _HEADINGS[name])
        elif name in ("ul", "ol", "menu") and not self._holds_blocks(element):
            self._whole("list", "\n".join(_items(element)))
        elif name == "dl" and not self._holds_blocks(element):
            self._whole("list", "\n".join(_definitions(element)))
        elif name == "table" and not is_layout(element) and not self._holds_cards(element):
            self._whole("table", "\n".join(filter(None, [caption_of(element), *rows_of(element)])))
        elif name == "details":
            self._accordion(element)
        elif name == "button" or (element.has_attr("aria-expanded") and element.has_attr("aria-controls")):
            self._button(element)
        elif name == "br":
            self._inline.append("\n")
        elif name == "a":
            self._link(element)
        elif name in BREAKING:
            self.flush()
            self.children(element)
            self.flush()
        else:
            self.children(element)

    def _whole(self, kind: str, text: str, level: int = 0) -> None:
        self.flush()
        if kind != "heading" or text:
            self._add(kind, text, level)

    def _link(self, anchor: Tag) -> None:
        if anchor.find(list(BREAKING)):
            self.children(anchor)
        else:
            self._inline.append(linked(anchor))

    def _accordion(self, details: Tag) -> None:
        summary = details.find("summary", recursive=False)
        self._depth += 1
        level = _ACCORDION_LEVEL + self._depth
        self._whole("heading", one_line(summary) if isinstance(summary, Tag) else "", level)
        for child in list(details.children):
            if isinstance(child, Tag) and child is not summary:
                self._element(child)
            elif type(child) is NavigableString:
                self._inline.append(str(child).replace("\n", " "))
        self.flush()
        self._add("heading", "", level)
        self._depth -= 1

    def _button(self, button: Tag) -> None:
        """A button that opens a panel is the panel's title; others do nothing on paper."""
        if button.has_attr("aria-controls") and len(text := one_line(button)) > 1:
            self._whole("heading", text, _ACCORDION_LEVEL)

    def _holds_cards(self, element: Tag) -> bool:
        return any(id(inner) in self._cards for inner in element.find_all(True))

    def _holds_blocks(self, element: Tag) -> bool:
        return bool(element.find([*_HEADINGS, "table", "details"])) or self._holds_cards(element)


def _items(element: Tag, indent: str = "") -> list[str]:
    lines: list[str] = []
    for item in element.find_all("li", recursive=False):
        inner = [one for one in item.find_all(["ul", "ol"]) if one.find_parent(["ul", "ol"]) is element]
        nested = [line for one in inner for line in _items(one, indent + "  ")]
        for one in inner:
            one.extract()
        text = one_line(item)
        lines += ([f"{indent}- {text}"] if text else []) + nested
    return lines


def _definitions(element: Tag) -> list[str]:
    lines: list[str] = []
    for part in element.find_all(["dt", "dd"]):
        text = inline(part).replace("\n", "; ")
        if part.name == "dt" or not lines:
            lines.append(f"{text.rstrip(':')}:")
        else:
            lines[-1] += f" {text}" if lines[-1].endswith(":") else f"; {text}"
    return [line.rstrip(":") if line.endswith(":") else line for line in lines]
