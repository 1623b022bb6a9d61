"""What an HTML page tells a crawler: links, its canonical address, its twins, and what may be done with it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from bs4 import BeautifulSoup, Tag
from bs4.filter import SoupStrainer

from rag.crawl.links import canonical
from rag.crawl.robots import PRODUCT

# XHTML's first line, which makes BeautifulSoup take the page for XML.
XML_DECLARATION = re.compile(r"^\s*<\?xml[^>]{0,200}\?>")
MOST_LINKS = 5000
NOINDEX, NOFOLLOW = {"noindex", "none"}, {"nofollow", "none"}
TAGS = SoupStrainer(["base", "a", "area", "frame", "iframe", "link", "meta"])


@dataclass(frozen=True)
class Page:
    """`links` are canonical addresses in the page's order; `canonical` is empty where the page names none.

    `twins` are the same page in other languages (hreflang to address, `x-default` left out).
    """

    links: tuple[str, ...] = ()
    canonical: str = ""
    twins: dict[str, str] = field(default_factory=dict)
    noindex: bool = False
    nofollow: bool = False


def read_page(url: str, text: str, robots_header: str = "") -> Page:
    """Reads a page's head and links; `robots_header` is its X-Robots-Tag."""
    soup = BeautifulSoup(XML_DECLARATION.sub("", text), "lxml", parse_only=TAGS)
    base = _base(soup, url)
    rules = _rules(soup, robots_header)
    nofollow = bool(rules & NOFOLLOW)
    twins = _twins(soup, base)
    links = islice(_links(soup, base), MOST_LINKS)
    found = [] if nofollow else [*links, *_refreshed(soup, base), *twins.values()]
    return Page(
        links=tuple(dict.fromkeys(link for link in found if link != url)),
        canonical=next(_hrefs(soup, "canonical", base), ""),
        twins={language: twin for language, twin in twins.items() if twin != url},
        noindex=bool(rules & NOINDEX),
        nofollow=nofollow,
    )


def _base(soup: BeautifulSoup, url: str) -> str:
    tag = soup.find("base", href=True)
    return (canonical(_value(tag, "href"), url) if isinstance(tag, Tag) else None) or url


def _links(soup: BeautifulSoup, base: str) -> Iterator[str]:
    for tag in soup.find_all(["a", "area", "frame", "iframe"]):
        target = _value(tag, "src" if tag.name in ("frame", "iframe") else "href")
        if target and not target.startswith("#") and "nofollow" not in _value(tag, "rel").lower().split():
            link = canonical(target, base)
            if link:
                yield link


def _refreshed(soup: BeautifulSoup, base: str) -> Iterator[str]:
    """Where `<meta http-equiv="refresh" content="0; url=…">` leads."""
    for tag in soup.find_all("meta"):
        if _value(tag, "http-equiv").lower() == "refresh":
            _, marker, target = _value(tag, "content").partition("=")
            link = canonical(target.strip("'\" "), base) if marker else None
            if link:
                yield link


def _hrefs(soup: BeautifulSoup, rel: str, base: str) -> Iterator[str]:
    for tag in soup.find_all("link"):
        if rel in _value(tag, "rel").lower().split():
            link = canonical(_value(tag, "href"), base) if _value(tag, "href") else None
            if link:
                yield link


def _twins(soup: BeautifulSoup, base: str) -> dict[str, str]:
    found = {}
    for tag in soup.find_all("link"):
        language = _value(tag, "hreflang").lower()
        if "alternate" in _value(tag, "rel").lower().split() and language not in ("", "x-default"):
            link = canonical(_value(tag, "href"), base)
            if link:
                found[language] = link
    return found


def _rules(soup: BeautifulSoup, header: str) -> set[str]:
    """The words of the header and of all robots meta tags that are meant for us or for everybody."""
    tags = [tag for tag in soup.find_all("meta") if _value(tag, "name").lower() in ("robots", PRODUCT)]
    return rules_of(header) | {word.strip().lower() for tag in tags for word in _value(tag, "content").split(",")}


def rules_of(header: str) -> set[str]:
    """The words of an X-Robots-Tag (`noindex, otherbot: nofollow`) that are meant for us or for everybody."""
    found = set()
    for part in header.lower().split(","):
        agent, marker, rule = part.rpartition(":")
        if not marker or agent.strip() == PRODUCT:
            found.add(rule.strip())
    return found


def _value(tag: Tag, name: str) -> str:
    value = tag.get(name) or ""
    return " ".join(value) if isinstance(value, list) else value
