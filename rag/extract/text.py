"""Text of elements as people read it: a line where a browser would break, single spaces, addresses spelled out."""

import re

from bs4 import Tag
from bs4.element import NavigableString

BREAKING = frozenset(
    re.findall(
        r"\w+",
        """address article aside blockquote body caption dd details div dl dt fieldset figcaption figure footer h1
        h2 h3 h4 h5 h6 header hr html legend li main menu ol p pre section summary table tbody td tfoot
        th thead tr ul""",
    )
)
_INVISIBLE = dict.fromkeys(map(ord, "\u00ad\u200b\u200c\u200d\ufeff\u2060"))
_SPACE = re.compile(r"[^\S\n]+")
_AT = re.compile(r"(?<=[\w.+-])\s*[\[({<]\s*(?:at|ät)\s*[\])}>]\s*(?=[\w.-])", re.IGNORECASE)
_DOT = re.compile(r"(?<=\w)\s*[\[({]\s*(?:dot|punkt)\s*[\])}]\s*(?=\w)", re.IGNORECASE)


def clean(text: str) -> str:
    """Single spaces, no empty lines, no invisible characters; "name (at) site.de" becomes an address again."""
    text = _SPACE.sub(" ", text.translate(_INVISIBLE))
    text = "\n".join(line for line in map(str.strip, text.split("\n")) if line)
    return _DOT.sub(".", _AT.sub("@", text)) if "(" in text or "[" in text or "{" in text else text


def inline(element: Tag) -> str:
    """An element's text with lines where its block elements and breaks are."""
    return clean("".join(_pieces(element)))


def one_line(element: Tag) -> str:
    return " ".join(inline(element).split())


def linked(anchor: Tag) -> str:
    """A link's text, with the address or number behind it where the text does not show it."""
    text = "".join(_children(anchor))
    target = str(anchor.get("href", ""))
    scheme, _, rest = target.partition(":")
    told = rest.split("?")[0].strip()
    if scheme == "mailto" and "@" in told and "@" not in clean(text):
        return f"{text} ({told})"
    if scheme == "tel" and not any(letter.isdigit() for letter in text):
        return f"{text} ({told})"
    return text


def _pieces(node: Tag | NavigableString) -> list[str]:
    if isinstance(node, Tag):
        if node.name == "br":
            return ["\n"]
        if node.name == "img":
            return []
        if node.name == "a":
            return [linked(node)]
        inner = _children(node)
        if node.name == "dt":
            return ["\n", "".join(inner).strip().rstrip(":"), ": "]
        if node.name == "dd":
            return [*inner, "\n"]
        return ["\n", *inner, "\n"] if node.name in BREAKING else inner
    return [str(node).replace("\n", " ")] if type(node) is NavigableString else []


def _children(element: Tag) -> list[str]:
    return [piece for child in element.children for piece in _pieces(child)]  # type: ignore[arg-type]
