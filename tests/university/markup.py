"""HTML of the content files: Markdown, and blocks that TYPO3 sites have beside it (accordions, boxes, contact cards).

- `:::open TITLE … :::` is an accordion as <details>,
- `:::panel TITLE … :::` one as a button and a panel that CSS hides,
- `:::box TITLE … :::` a highlighted box,
- `:::contact KEY` a contact card of contacts.toml,
- `:::teaser SLUG` a teaser that leads to another page,
- `:::raw … :::` HTML as it stands.
"""

import html
import re
import tomllib
from functools import cache
from typing import Any

from markdown_it import MarkdownIt

from tests.university.pages import CONTENT, Page, find, pages

BLOCK = re.compile(r"(?ms)^:::(open|panel|box|raw) ?(.*?)\n(.*?)\n:::$|^:::(contact|teaser) ([\w-]+)$")
LABELS = {
    "de": {"room": "Raum", "phone": "Telefon", "mail": "E-Mail", "hours": "Sprechzeiten", "more": "Weiterlesen"},
    "en": {"room": "Room", "phone": "Phone", "mail": "E-mail", "hours": "Office hours", "more": "Read more"},
}
markdown = MarkdownIt("commonmark", {"html": False}).enable("table")


@cache
def contacts() -> dict[str, dict[str, Any]]:
    return tomllib.loads((CONTENT / "contacts.toml").read_text(encoding="utf-8"))


def to_html(page: Page) -> str:
    """The page's text below its title."""
    out, at = [], 0
    for number, match in enumerate(BLOCK.finditer(page.text)):
        out.append(_markdown(page.text[at : match.start()], page.language))
        out.append(_block(match, page, number))
        at = match.end()
    return "\n".join([*out, _markdown(page.text[at:], page.language)])


def teaser(page: Page) -> str:
    title, words = html.escape(page.title), html.escape(summary(page))
    day = page.date.strftime("%d.%m.%Y") if page.language == "de" else f"{page.date:%d %B %Y}"
    more = LABELS[page.language]["more"]
    return (
        f'<article class="teaser"><h3><a href="{page.url}">{title}</a></h3><time datetime="{page.date}">{day}</time>'
        f'<p>{words}</p><a class="more" href="{page.url}" aria-label="{more}: {title}">{more}</a></article>'
    )


def summary(page: Page) -> str:
    """The beginning of a page's first paragraph."""
    paragraph = next((part for part in page.text.split("\n\n") if part and part[0] not in ":#|*-"), page.title)
    plain = re.sub(r"\[(.+?)\]\(.+?\)|\*\*", r"\1", paragraph.replace("\n", " "))
    return plain if len(plain) < 160 else plain[:150].rpartition(" ")[0] + " …"


def _markdown(text: str, language: str) -> str:
    def link(match: re.Match[str]) -> str:
        return f"]({find(match[1], language).url})"

    return str(markdown.render(re.sub(r"\]\(page:([\w-]+)\)", link, text))) if text.strip() else ""


def _block(match: re.Match[str], page: Page, number: int) -> str:
    kind, title, body, single, key = match.groups()
    if single == "contact":
        return contact_card(key, page.language)
    if single == "teaser":
        return teaser(find(key, page.language))
    if kind == "raw":
        return str(body)
    inner, title = _markdown(body, page.language), html.escape(title)
    if kind == "open":
        return f'<details class="accordion"><summary>{title}</summary>\n{inner}</details>'
    if kind == "panel":
        panel = f"c{len(page.slug)}{number}-panel"
        return (
            '<div class="accordion-item"><h3>'
            f'<button type="button" aria-expanded="false" aria-controls="{panel}">{title}</button>'
            f'</h3><div id="{panel}" class="accordion-panel collapse" hidden>\n{inner}</div></div>'
        )
    return f'<div class="frame frame-info" role="note"><h3>{title}</h3>\n{inner}</div>'


def contact_card(key: str, language: str) -> str:
    card, labels = contacts()[key], LABELS[language]

    def of(field: str) -> str:
        return html.escape(card.get(f"{field}_{language}", card.get(field, "")))

    rows = {
        "room": f'<span class="location">{of("room")}</span>',
        "phone": f'<a class="tel" href="tel:{of("phone").replace(" ", "")}">{of("phone")}</a>',
        "mail": f'<a class="email" href="mailto:{of("mail")}">{of("mail")}</a>',
        "hours": f'<span class="hours">{of("hours")}</span>',
    }
    lines = "".join(f"<li><strong>{labels[field]}:</strong> {row}</li>" for field, row in rows.items() if of(field))
    return (
        f'<div class="vcard contact-card"><p class="fn">{of("name")}</p><p class="role">{of("role")}</p>'
        f"<ul>{lines}</ul></div>"
    )


def news(language: str) -> list[Page]:
    """The news of a language, newest first."""
    found = [page for page in pages() if page.is_news and page.language == language]
    return sorted(found, key=lambda page: page.date, reverse=True)
