"""The sources of an answer as cards that open, and an office as a card. Pure."""

import html
import re
from collections.abc import Sequence

from apps.chatbot.markup import dated, link
from apps.chatbot.texts import Texts
from rag.answer.states import Citation
from rag.retrieve.passage import Passage


def sources(citations: Sequence[Citation], say: Texts, name: str = "sources") -> str:
    if not citations:
        return ""
    cards = "".join(_card(one, say) for one in citations)
    return f'<div class="sources"><p class="head">{say(name)}</p>{cards}</div>'


def _card(citation: Citation, say: Texts) -> str:
    """A source that opens: title, place and date; inside the passage with the used words marked, and the link."""
    passage, number = citation.passage, citation.number
    where = " › ".join(html.escape(part) for part in passage.heading_path if part != passage.title)
    path = f'<span class="path">{where}</span>' if where else ""
    summary = (
        f'<summary><span class="number">{number}</span><span class="what"><span class="title">'
        f"{html.escape(passage.title)}</span>{path}</span>{dated(passage.date, say)}</summary>"
    )
    quoted = _marked(passage.text, citation.marks)
    links = link(passage.url, say("open_page")) + _twins(passage, say)
    return (
        f'<details class="card card-{number}">{summary}<blockquote lang="{html.escape(passage.language, quote=True)}">'
        f'{quoted}</blockquote><p class="links">{links}</p></details>'
    )


def _marked(text: str, marks: Sequence[tuple[int, int]]) -> str:
    parts, at = [], 0
    for begin, end in marks:
        parts += [html.escape(text[at:begin]), f"<mark>{html.escape(text[begin:end])}</mark>"]
        at = end
    parts.append(html.escape(text[at:]))
    return re.sub(r"\s*\n\s*", "<br>", "".join(parts).strip())


def _twins(passage: Passage, say: Texts) -> str:
    """The same page in the other language, and which one is binding: the German one where it is newer."""
    parts = []
    for language, url in passage.twins.items():
        if language != passage.language and language in ("de", "en"):
            parts.append(link(url, say("german_page" if language == "de" else "english_page")))
    newer = passage.twin_dates.get("de")
    if passage.language != "de" and newer and (passage.date is None or newer > passage.date):
        parts.append(f'<span class="binding">{html.escape(say("binding"))}</span>')
    return "".join(parts)


def addresses(passage: Passage) -> tuple[str, ...]:
    return (passage.url, *passage.urls, *passage.twins.values())


def office(card: Passage, say: Texts) -> str:
    lines = "<br>".join(html.escape(line.strip()) for line in card.text.splitlines() if line.strip())
    name = f"<strong>{html.escape(card.title)}</strong>"
    return f'<div class="office">{name}<p>{lines}</p>{link(card.url, say("open_page"))}</div>'
