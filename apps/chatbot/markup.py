"""A model's Markdown and a page's address as clean HTML. Pure."""

import html
import re
from collections.abc import Mapping
from datetime import date
from urllib.parse import urlsplit

import nh3
from markdown_it import MarkdownIt

from apps.chatbot.texts import Texts
from rag.answer.prompt import in_words

_MARKDOWN = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable(["table", "strikethrough"])
_MARKDOWN.disable(["reference", "image", "autolink", "html_inline", "html_block"])
_TAGS = {
    *("p", "br", "strong", "em", "s", "ul", "ol", "li", "code", "pre", "blockquote", "hr", "h3", "h4", "h5", "h6"),
    *("table", "thead", "tbody", "tr", "th", "td", "a", "sup", "span"),
}
_ATTRIBUTES = {"a": {"href", "class", "aria-label", "title"}, "sup": {"class"}, "span": {"class", "title"}}
_NO_LINK = re.compile(r"<a(?![^>]* href=)[^>]*>(.*?)</a>", re.S)
_CITED = re.compile(r" ?\[(\d{1,3})\]")
_OWN_TAGS = _TAGS | {"div", "details", "summary", "blockquote", "mark", "q"}
_OWN_ATTRIBUTES = {
    **_ATTRIBUTES,
    "*": {"class", "lang", "role"},
    "details": {"open"},
    "a": {*_ATTRIBUTES["a"], "target"},
}


def ours(text: str) -> str:
    """HTML of ours that has been out of our hands, in a browser's storage: whatever we never write is taken out."""
    return one_line(nh3.clean(text, tags=_OWN_TAGS, attributes=_OWN_ATTRIBUTES, link_rel="noopener noreferrer"))


def one_line(text: str) -> str:
    return text.replace("\r", "").replace("\n", "&#10;")


def markdown(text: str, links: frozenset[str] = frozenset(), sources: Mapping[int, str] | None = None) -> str:
    """A model's Markdown as clean HTML. Of its links those to `links` stay, the others become plain text.

    `sources` are the titles of the passages that `[n]` may lead to; other numbers are left as text.
    """
    made = _headings_lower(_MARKDOWN.render(text))
    made = _CITED.sub(lambda found: _cite(found, sources or {}), made)

    def kept(tag: str, name: str, value: str) -> str | None:
        return value if (tag, name) != ("a", "href") or value in links or value.startswith("#source-") else None

    clean = nh3.clean(made, tags=_TAGS, attributes=_ATTRIBUTES, attribute_filter=kept, link_rel="noopener noreferrer")
    return _NO_LINK.sub(r"\1", clean)


def _headings_lower(made: str) -> str:
    """A model's headings stand below those of the page."""
    return re.sub(r"<(/?)h[12]>", r"<\1h3>", made)


def _cite(found: re.Match[str], sources: Mapping[int, str]) -> str:
    number = int(found[1])
    if number not in sources:
        return found[0]
    label = html.escape(f"[{number}] {sources[number]}", quote=True)
    anchor = f'<a href="#source-{number}" aria-label="{label}" title="{label}">{number}</a>'
    return f'<sup class="cite cite-{number}">{anchor}</sup>'


def dated(day: date | None, say: Texts) -> str:
    words = say("as_of", date=in_words(day, say.language)) if day else say("no_date")
    return f' <span class="date">{html.escape(words)}</span>'


def link(url: str, words: str) -> str:
    """A link to a page of the index; an address of another kind is text."""
    if urlsplit(url).scheme not in ("http", "https"):
        return html.escape(words)
    address = html.escape(url, quote=True)
    return f'<a href="{address}" target="_blank" rel="noopener noreferrer">{html.escape(words)}</a>'
