"""Every answer of the made-up university's web site, by host and path: pages, lists of news, sitemaps, robots.txt."""

import datetime
import html
from dataclasses import dataclass
from functools import cache

import jinja2
from markupsafe import Markup

from tests.university import markup
from tests.university.pages import CONTENT, Page, find, pages, url_of
from tests.university.pdf import pdf
from tests.university.words import DATED, MENU, SECTIONS, SITES, WORDS

NEWS_A_LIST = 4
NEWS_LISTS = {"de": "www/aktuelles", "en": "www/en/news"}
# Short addresses that are printed on posters.
REDIRECTS = {"www/rueckmeldung": "re-registration", "www/wlan": "eduroam", "bib/oeffnungszeiten-alt": "library-hours"}
FORBIDDEN = ("/intern/", "/suche", "/*?print=")
STAFF_ONLY = b"<html><title>Intern</title><body>Dienstplan</body></html>"

template = jinja2.Environment(
    loader=jinja2.FileSystemLoader(CONTENT.parent),
    trim_blocks=True,
    undefined=jinja2.StrictUndefined,
    autoescape=jinja2.select_autoescape(["html", "j2"]),
).get_template("page.html.j2")


@dataclass(frozen=True)
class Answer:
    """What the server says to a GET."""

    body: bytes
    content_type: str = "text/html; charset=utf-8"
    date: datetime.date = datetime.date(2026, 11, 20)
    status: int = 200
    location: str = ""


@cache
def answers() -> dict[str, Answer]:
    """All of the site, by host and path without a slash between them doubled: `www/en/studies`."""
    found = {page.id: _answer(page) for page in pages()}
    for language in NEWS_LISTS:
        found |= _news_lists(language)
    for old, slug in REDIRECTS.items():
        found[old] = Answer(b"", status=301, location=find(slug, "de").url)
    for host in hosts():
        found[f"{host}/robots.txt"] = Answer(_robots(host).encode(), "text/plain")
        found[f"{host}/sitemap.xml"] = Answer(_sitemap(host).encode(), "application/xml")
        found[f"{host}/intern/dienstplan"] = Answer(STAFF_ONLY)
    return found


def hosts() -> list[str]:
    return sorted({page.host for page in pages()})


def _answer(page: Page) -> Answer:
    if page.is_pdf:
        return Answer(pdf(page.title, page.text, str(page.date)), "application/pdf", page.date)
    shown = html_page(
        page_id=page.id,
        language=page.language,
        title=page.title,
        content=markup.to_html(page),
        date=page.date,
        twins=page.twins if len(page.twins) > 1 else {},
        description=markup.summary(page),
        related=[(other.title, other.url) for other in (find(slug, page.language) for slug in page.related)],
    )
    return Answer(shown.encode(), date=page.date)


def html_page(
    page_id: str,
    language: str,
    title: str,
    content: str,
    date: datetime.date | None = None,
    twins: dict[str, str] | None = None,
    description: str = "",
    related: list[tuple[str, str]] | None = None,
    robots: str = "",
) -> str:
    host = page_id.partition("/")[0]
    trail = _trail(page_id, language)
    return template.render(
        language=language,
        title=title,
        site=SITES[host][language],
        description=description,
        date=date,
        day=date and (f"{date:%d.%m.%Y}" if language == "de" else f"{date.day} {date:%B %Y}"),
        dated="time" if "/news/" in page_id or "/aktuelles/" in page_id else DATED.get(host, "visible"),
        robots=robots,
        url=url_of(page_id),
        twins=twins or {},
        words=WORDS[language],
        home=trail[0][1],
        menu=[(name, url_of(address)) for name, address in MENU[language]],
        trail=trail,
        related=related or [],
        imprint=[(name, url_of(f"www/{path}")) for name, path in WORDS[language]["imprint"]],
        content=Markup(content),
    )


def _trail(page_id: str, language: str) -> list[tuple[str, str]]:
    """From the host's front page down the sections that the address runs through."""
    host, *steps = page_id.split("/")
    front = f"{host}/en" if language == "en" else f"{host}/"
    trail = [(SITES[host][language], url_of(front))]
    for depth in range(1, len(steps)):
        section = "/".join([host, *steps[:depth]])
        if section in SECTIONS:
            trail.append((SECTIONS[section], url_of(section)))
    return trail


def _news_lists(language: str) -> dict[str, Answer]:
    news, first = markup.news(language), NEWS_LISTS[language]
    lists = [news[at : at + NEWS_A_LIST] for at in range(0, len(news), NEWS_A_LIST)]
    word = "seite" if language == "de" else "page"
    addresses = [first if number == 0 else f"{first}/{word}-{number + 1}" for number in range(len(lists))]
    numbers = "".join(f'<li><a href="{url_of(to)}">{number}</a></li>' for number, to in enumerate(addresses, 1))
    found = {}
    for address, shown in zip(addresses, lists, strict=True):
        content = "".join(map(markup.teaser, shown)) + f'<ul class="pagination">{numbers}</ul>'
        title = WORDS[language]["news"]
        found[address] = Answer(html_page(address, language, title, content, robots="noindex,follow").encode())
    return found


def _robots(host: str) -> str:
    rules = "".join(f"Disallow: {path}\n" for path in FORBIDDEN)
    return f"User-agent: *\n{rules}\nSitemap: {url_of(f'{host}/sitemap.xml')}\n"


def _sitemap(host: str) -> str:
    entries = "".join(
        f"<url><loc>{html.escape(page.url)}</loc><lastmod>{page.date}</lastmod></url>\n"
        for page in pages()
        if page.host == host
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n{entries}</urlset>\n'
    )
