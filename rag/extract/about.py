"""What a page says about itself: title, date of the last change, breadcrumbs."""

import re
from datetime import date as Date

from bs4 import BeautifulSoup, Tag

from rag.dates import first_date, stated_change
from rag.extract.text import one_line

_MODIFIED = (
    "article:modified_time",
    "og:updated_time",
    "dcterms.modified",
    "dc.date.modified",
    "last-modified",
    "revised",
)
_PUBLISHED = ("article:published_time", "dcterms.date", "dc.date", "dcterms.created", "date")
_TIMES = (
    "time[itemprop=dateModified], time[itemprop=datePublished], "
    "[class*=news] time, [class*=date] time, time[class*=date]"
)
_CRUMBS = "[class*=breadcrumb], [aria-label*=readcrumb], [itemtype*=BreadcrumbList], [aria-label*=Brotkr], #breadcrumb"
_HOME = {"startseite", "home", "homepage", "start", "home page"}
_SITE = re.compile(r"\s+[|–—·»-]\s+|\s*::\s*")


def title_of(soup: BeautifulSoup) -> str:
    """The first heading, else what social networks show, else the window's title without the site's name."""
    heading = soup.select_one("main h1, [role=main] h1, h1")
    if heading and (text := one_line(heading)):
        return text
    shared = soup.select_one('meta[property="og:title"]')
    if shared and (text := str(shared.get("content", "")).strip()):
        return text
    window = soup.title.get_text(" ", strip=True) if soup.title else ""
    return _SITE.split(window)[0].strip()


def date_of(soup: BeautifulSoup) -> Date | None:
    """When the page was last changed: as people read it on the page, else as its meta elements tell."""
    return (
        stated_change(soup.get_text(" ", strip=True))
        or _meta(soup, _MODIFIED)
        or _time(soup)
        or _meta(soup, _PUBLISHED)
    )


def breadcrumbs_of(soup: BeautifulSoup, title: str) -> tuple[str, ...]:
    """The way from the start page, both ends left out."""
    crumbs = soup.select_one(_CRUMBS)
    if crumbs is None:
        return ()
    items = crumbs.find_all("li") or crumbs.find_all("a")
    texts = [one_line(item).strip(" ›»>/|") for item in items]
    return tuple(text for text in texts if text and text.lower() not in _HOME and text != title)


def _meta(soup: BeautifulSoup, names: tuple[str, ...]) -> Date | None:
    told = {
        str(meta.get("name") or meta.get("property") or meta.get("http-equiv") or "").lower(): str(
            meta.get("content", "")
        )
        for meta in soup.find_all("meta")
    }
    return next((date for name in names if name in told and (date := first_date(told[name]))), None)


def _time(soup: BeautifulSoup) -> Date | None:
    time = soup.select_one(_TIMES)
    return first_date(f"{time.get('datetime', '')} {one_line(time)}") if isinstance(time, Tag) else None
