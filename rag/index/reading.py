"""From what a crawl kept to the pages of an index."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date as Date
from email.utils import parsedate_to_datetime

from rag.crawl.store import Kept
from rag.extract.duplicates import merge_duplicates
from rag.extract.html import extract_html
from rag.extract.page import Page
from rag.extract.pdf import extract_pdf

# A page that so many crawls in a row found gone is left out.
GONE_TIMES = 2


@dataclass(frozen=True)
class Read:
    """`pages` go into the index; `empty` had no text, `duplicates` are addresses whose text another page holds,
    `gone` are addresses that were missing twice.
    """

    pages: tuple[Page, ...]
    empty: tuple[str, ...]
    duplicates: tuple[str, ...]
    gone: tuple[str, ...]


def read(kept: Iterable[Kept]) -> Read:
    """Extracts, merges near duplicates, drops what is empty or gone."""
    extracted: list[Page] = []
    gone: list[str] = []
    for one in kept:
        if one.missing_times >= GONE_TIMES:
            gone.append(one.url)
        else:
            extracted.append(page_of(one))
    full = [page for page in extracted if page.blocks and page.text.strip()]
    pages = merge_duplicates(full)
    held = {page.url for page in pages}
    return Read(
        pages=tuple(sorted(pages, key=lambda page: page.url)),
        empty=tuple(page.url for page in extracted if not page.blocks or not page.text.strip()),
        duplicates=tuple(page.url for page in full if page.url not in held),
        gone=tuple(gone),
    )


def page_of(kept: Kept) -> Page:
    """One body as a page, with what the crawl knows about it."""
    if kept.content_type == "application/pdf":
        page = extract_pdf(kept.body, kept.url)
        page = replace(page, date=page.date or _http_date(kept.last_modified))
    else:
        page = extract_html(_decoded(kept), kept.url)
    twins = {language[:2].lower(): url for language, url in kept.twins.items() if language != "x-default"}
    return replace(page, urls=kept.urls or (kept.url,), twins=twins)


def _decoded(kept: Kept) -> str:
    try:
        return kept.body.decode(kept.charset or "utf-8", errors="replace")
    except LookupError:
        return kept.body.decode("utf-8", errors="replace")


def _http_date(text: str) -> Date | None:
    try:
        return parsedate_to_datetime(text).date()
    except ValueError:
        return None
