"""HTML to Page."""

from collections.abc import Iterator
from urllib.parse import urljoin, urlsplit

from bs4 import BeautifulSoup, Tag

from rag.extract.about import breadcrumbs_of, date_of, title_of
from rag.extract.blocks import blocks_of
from rag.extract.content import content_of
from rag.extract.language import page_language
from rag.extract.page import Link, Page
from rag.extract.text import one_line


def extract_html(html: str, url: str) -> Page:
    """The content of a page that was fetched from `url`. A page without any has no blocks; nothing is raised."""
    soup = BeautifulSoup(html, "lxml")
    title, date = title_of(soup), date_of(soup)
    declared = str(soup.html.get("lang", "")) if soup.html else ""
    crumbs = breadcrumbs_of(soup, title)
    content = content_of(html, soup)
    links = tuple(_links(content, url))
    blocks = blocks_of(content)
    text = "\n".join(block.text for block in blocks)
    return Page(
        url=url,
        title=title or next((block.text for block in blocks if block.kind == "heading"), ""),
        language=page_language(declared, text),
        blocks=tuple(blocks),
        date=date,
        breadcrumbs=crumbs,
        links=links,
        urls=(url,),
    )


def _links(content: Tag, url: str) -> Iterator[Link]:
    seen = set()
    for anchor in content.find_all("a", href=True):
        target = _absolute(url, str(anchor["href"]))
        text = one_line(anchor)
        if target and text and target not in seen:
            seen.add(target)
            yield Link(text, target)


def _absolute(url: str, target: str) -> str:
    try:
        absolute = urljoin(url, target)
        return absolute if urlsplit(absolute).scheme in ("http", "https") else ""
    except ValueError:
        return ""
