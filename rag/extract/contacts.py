"""Contact cards: who it is, where, by which number and address, and when."""

import re

from bs4 import Tag

from rag.extract.text import inline

_CLASSES = re.compile(
    r"vcard|h-?card|contact|kontakt|ansprechpartner|ansprechperson|person|employee|mitarbeiter|address", re.I
)
_NUMBER = re.compile(r"\+49[\d\s()/–-]{5,}|\b0\d{2,5}[\s/()–-]+\d[\d\s/–-]{2,}|(?:Tel|Phone|Fon)\w*\.?:?\s*[\d+(]")
_ADDRESS = re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]+")
_MOST_CHARACTERS = 900


def cards_in(content: Tag) -> list[Tag]:
    """The innermost elements that are marked as a person or an office and hold a number or an address to write to."""
    marked = [element for element in content.find_all(_is_marked) if _reaches_somebody(element)]
    inside = {id(parent) for element in marked for parent in element.parents}
    return [element for element in marked if id(element) not in inside]


def card_text(card: Tag) -> str:
    """A card's lines; a label on a line of its own ("Room:") is joined with what follows."""
    lines: list[str] = []
    for line in inline(card).split("\n"):
        if lines and lines[-1].endswith(":") and len(lines[-1]) < 40:
            lines[-1] = f"{lines[-1]} {line}"
        elif line not in lines:
            lines.append(line)
    return "\n".join(lines)


def _is_marked(element: Tag) -> bool:
    if element.name in ("a", "span", "strong", "em", "body", "main", "html", "h1", "h2", "h3", "h4", "h5"):
        return False
    marks = [*element.get_attribute_list("class"), str(element.get("itemtype", ""))]
    return element.name == "address" or any(_CLASSES.search(mark or "") for mark in marks)


def _reaches_somebody(element: Tag) -> bool:
    text = inline(element)
    return len(text) <= _MOST_CHARACTERS and bool(_NUMBER.search(text) or _ADDRESS.search(text))
