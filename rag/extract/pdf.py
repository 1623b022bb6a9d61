"""PDF to Page."""

import io
import logging
import re
from collections import Counter
from datetime import date as Date
from datetime import datetime

from pypdf import PdfReader

from rag.dates import stated_change
from rag.extract.language import detect
from rag.extract.page import Block, Page
from rag.extract.text import clean

MOST_PAGES = 300
# A line that stands on this share of the pages is a running head or foot.
_RUNNING_SHARE = 0.6
# A shorter line may end a paragraph.
_FULL_LINE = 60
_HYPHEN = re.compile(r"(?<=[a-zäöüß])-\n(?=[a-zäöüß])")
_NUMBERED = re.compile(r"^(?:Seite|Page)?\s*\d+(?:\s*(?:/|von|of)\s*\d+)?$", re.IGNORECASE)
_HEADING = re.compile(r"^(?:§\s*\d+\w?\b|(?:\d+\.)+\d*\s|\d+\s+[A-ZÄÖÜ]|Anlage\b|Artikel\s+\d).{0,90}$")

logging.getLogger("pypdf").setLevel(logging.CRITICAL)


def extract_pdf(body: bytes, url: str) -> Page:
    """The text of a PDF, page by page; one that cannot be read, is locked or holds only pictures has no blocks."""
    try:
        reader = PdfReader(io.BytesIO(body))
        pages = [clean(page.extract_text()) for page in reader.pages[:MOST_PAGES]]
        told = reader.metadata
        title, changed = (told.title or "", told.modification_date or told.creation_date) if told else ("", None)
    except Exception:  # pypdf lets through whatever a broken file makes Python raise
        pages, title, changed = [], "", None
    lines = _without_running_lines([page.split("\n") for page in pages])
    blocks = tuple(_blocks(_over_pages(lines)))
    text = "\n".join(block.text for block in blocks)
    return Page(
        url=url,
        title=_title(title, blocks) or url.rsplit("/", 1)[-1],
        language=detect(text[:4000]),
        blocks=blocks,
        date=stated_change(text) or _date(changed),
        urls=(url,),
        is_pdf=True,
    )


def _without_running_lines(pages: list[list[str]]) -> list[list[str]]:
    if len(pages) < 3:
        return [[line for line in page if not _NUMBERED.match(line)] for page in pages]
    seen = Counter(line for page in pages for line in {*page[:2], *page[-2:]})
    running = {line for line, count in seen.items() if count >= _RUNNING_SHARE * len(pages)}
    return [[line for line in page if line not in running and not _NUMBERED.match(line)] for page in pages]


def _over_pages(pages: list[list[str]]) -> list[str]:
    """The lines of all pages. A page begins a new paragraph, unless the last one ends in the middle of a sentence."""
    lines = [""]
    for page in pages:
        open_ = lines[-1] and not lines[-1].endswith((".", ":", "!", "?"))
        goes_on = open_ and page and (page[0][:1].islower() or len(lines[-1]) >= _FULL_LINE)
        lines += page if goes_on else ["", *page]
    return lines


def _blocks(lines: list[str]) -> list[Block]:
    blocks: list[Block] = []
    paragraph: list[str] = []
    for line in [*lines, ""]:
        heading = bool(_HEADING.match(line)) and not line.endswith((".", ",", ";"))
        if paragraph and (heading or not line or _ends(paragraph[-1], line)):
            blocks.append(Block("text", _HYPHEN.sub("", "\n".join(paragraph)).replace("\n", " ")))
            paragraph = []
        if heading:
            blocks.append(Block("heading", line, 2))
        elif line:
            paragraph.append(line)
    return blocks


def _ends(last: str, following: str) -> bool:
    """Whether a paragraph ends here: a short last line with a full stop, or an item of a list comes."""
    return (len(last) < _FULL_LINE and last.endswith((".", ":", "!", "?"))) or following[:2] in ("• ", "- ", "– ")


def _title(told: str, blocks: tuple[Block, ...]) -> str:
    told = " ".join(told.split())
    if told and not told.lower().endswith((".doc", ".docx", ".indd", ".pdf")) and "microsoft word" not in told.lower():
        return told[:200]
    return next((block.text[:120] for block in blocks), "")


def _date(moment: datetime | None) -> Date | None:
    return moment.date() if moment else None
