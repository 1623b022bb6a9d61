"""Where on a page its content lies: between TYPO3's search markers, in `main`, in a known container, or in the body."""

import re

from bs4 import BeautifulSoup, Comment, Tag

# The markers that editors of TYPO3 sites set for the site's own search.
_MARKED = re.compile(r"<!--\s*TYPO3SEARCH_begin\s*-->(.*?)(?:<!--\s*TYPO3SEARCH_end\s*-->|$)", re.DOTALL)
_CONTAINERS = (
    "main",
    "[role=main]",
    "article",
    "#content",
    "#main-content",
    "#main",
    "#inhalt",
    ".main-content",
    ".page-content",
    ".entry-content",
    ".content",
)
_NEVER = (
    "script, style, noscript, template, iframe, svg, canvas, object, form, input, select, nav, footer, dialog, "
    "[role=navigation], [role=search], [role=banner], [role=contentinfo], [role=dialog], [role=alertdialog], "
    "body > header, header#header, .breadcrumb, .breadcrumbs, .skip-link, .skiplink, .skip-links, .sr-only, "
    ".visually-hidden, .pagination, .pager, .share, .social-share, .print-link, .print, .no-print, .language-switch, "
    "[class*=cookie], [id*=cookie], [class*=consent], [id*=consent], .frame-type-menu, .csc-menu, .back-to-top"
)
# A container that holds less than this share of the body's text is a teaser, not the content.
_LEAST_SHARE = 0.2


def content_of(html: str, soup: BeautifulSoup) -> Tag:
    """The element whose text is the page's content. Changes `soup`: what is never content is removed."""
    marked = _marked(html)
    for tree in (marked, soup):
        if tree:
            _strip(tree)
    body = soup.body or soup
    whole = _size(body)
    if marked and _size(marked) >= _LEAST_SHARE * whole:
        return marked
    for selector in _CONTAINERS:
        found = max(body.select(selector), key=_size, default=None)
        if found is not None and _size(found) >= _LEAST_SHARE * whole:
            return found
    return body


def _marked(html: str) -> BeautifulSoup | None:
    parts = _MARKED.findall(html)
    return BeautifulSoup("\n".join(parts), "lxml") if parts else None


def _strip(tree: Tag) -> None:
    for node in tree.find_all(string=lambda text: isinstance(text, Comment)):
        node.extract()
    for element in tree.select(_NEVER):
        if not element.decomposed and element.name not in ("main", "body", "html") and not element.find("main"):
            element.decompose()
    panels = {name for button in tree.select("[aria-controls]") for name in str(button["aria-controls"]).split()}
    for element in tree.select("[hidden], [aria-hidden=true], [style*=display]"):
        if not element.decomposed and _is_hidden(element) and not _is_panel(element, panels):
            element.decompose()


def _is_hidden(element: Tag) -> bool:
    style = str(element.get("style", "")).replace(" ", "").lower()
    return element.has_attr("hidden") or element.get("aria-hidden") == "true" or "display:none" in style


def _is_panel(element: Tag, panels: set[str]) -> bool:
    """A part of an accordion or of tabs: hidden until somebody opens it, but content."""
    named = element.get("id") in panels or element.get("role") in ("tabpanel", "region")
    classes = " ".join(filter(None, element.get_attribute_list("class"))).lower()
    return named or any(word in classes for word in ("accordion", "collapse", "panel", "tab"))


def _size(element: Tag) -> int:
    return len(element.get_text(" ", strip=True))
