"""The content of the made-up university: one file per page, German and English and its questions in it.

A file is four parts divided by lines of `+++`: addresses and date (TOML), the German text, the English text (Markdown;
either may be empty), and questions. A question is `de: words => answer`, a follow-up `de+: first >> second => answer`;
both are answered by the page that they stand on, and by another where the answer ends in ` @SLUG`.
"""

import datetime
import tomllib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

CONTENT = Path(__file__).parent / "content"
DOMAIN = "auental.example"
LANGUAGES = ("de", "en")
# Chosen by counts alone: with it the halves hold nearly as many questions of each language and kind.
SPLIT_SEED = 679


@dataclass(frozen=True)
class Page:
    """One page in one language. `id` is host and path, `slug` names the page in all its languages."""

    slug: str
    language: str
    id: str
    title: str
    text: str
    date: datetime.date
    twins: dict[str, str] = field(hash=False)
    related: tuple[str, ...]

    @property
    def host(self) -> str:
        return self.id.partition("/")[0]

    @property
    def path(self) -> str:
        return "/" + self.id.partition("/")[2]

    @property
    def url(self) -> str:
        return url_of(self.id)

    @property
    def is_pdf(self) -> bool:
        return self.id.endswith(".pdf")

    @property
    def is_news(self) -> bool:
        return self.slug.startswith("news-")


@dataclass(frozen=True)
class Question:
    """`first` is the question before, where this follows up on one; `also` another page that answers; or empty."""

    id: str
    slug: str
    language: str
    text: str
    answer: str
    also: str = ""
    first: str = ""

    @property
    def split(self) -> str:
        return split_of(self.slug)

    @property
    def pages(self) -> list[Page]:
        """The pages that answer, the chief one first: in the question's language where they exist in it."""
        return [find(slug, self.language) for slug in (self.slug, self.also) if slug]


def url_of(page_id: str) -> str:
    host, _, path = page_id.partition("/")
    return f"http://{host}.{DOMAIN}/{path}"


def split_of(slug: str) -> str:
    """All questions of a page, in both languages, stand in the same half."""
    return "test" if zlib.crc32(f"{SPLIT_SEED}{slug}".encode()) % 2 else "calibration"


@cache
def pages() -> tuple[Page, ...]:
    return tuple(sorted((page for file in files() for page in _pages_of(file)), key=lambda page: page.id))


@cache
def questions() -> tuple[Question, ...]:
    return tuple(question for file in files() for question in _questions_of(file))


@cache
def unanswerable() -> tuple[tuple[str, str, str], ...]:
    """Language, kind (`near`: asked of a university, yet on no page; `far`: off-topic), question."""
    lines = (CONTENT / "unanswerable.txt").read_text(encoding="utf-8").splitlines()
    found = []
    for line in lines:
        if line and not line.startswith("#"):
            head, _, text = line.partition(": ")
            language, kind = head.split()
            found.append((language, kind, text))
    return tuple(found)


def find(slug: str, language: str) -> Page:
    """The page in the language, else in the other."""
    versions = _by_slug().get(slug)
    assert versions, f"no page is called {slug}"
    return versions.get(language) or next(iter(versions.values()))


@cache
def _by_slug() -> dict[str, dict[str, Page]]:
    found: dict[str, dict[str, Page]] = {}
    for page in pages():
        found.setdefault(page.slug, {})[page.language] = page
    return found


def files() -> list[Path]:
    return sorted(CONTENT.glob("*/*.md"))


def _parts(file: Path) -> list[str]:
    parts = [part.strip("\n") for part in file.read_text(encoding="utf-8").split("+++\n")]
    assert len(parts) == 5 and not parts[0], f"{file}: four parts, each begun by a line of +++"
    return parts[1:]


def _pages_of(file: Path) -> Iterator[Page]:
    head, *texts, _ = _parts(file)
    about = tomllib.loads(head)
    for language, text in zip(LANGUAGES, texts, strict=True):
        if text:
            title, _, rest = text.partition("\n")
            yield Page(
                slug=file.stem,
                language=language,
                id=about[language],
                title=title.removeprefix("# "),
                text=rest.strip("\n"),
                date=about.get(f"date_{language}", about["date"]),
                twins={other: url_of(about[other]) for other in LANGUAGES if other in about},
                related=tuple(about.get("related", ())),
            )


def _questions_of(file: Path) -> Iterator[Question]:
    counts: dict[str, int] = {}
    for line in filter(None, _parts(file)[3].splitlines()):
        head, _, rest = line.partition(": ")
        asked, arrow, told = rest.partition(" => ")
        answer, _, also = told.partition(" @")
        assert arrow, f"{file}: no answer in {line!r}"
        first, follows, second = asked.partition(" >> ")
        assert bool(follows) == head.endswith("+"), f"{file}: {line!r}"
        number = counts[head] = counts.get(head, 0) + 1
        kind = "f" if follows else ""
        yield Question(
            id=f"{file.stem}-{head.rstrip('+')}-{kind}{number}",
            slug=file.stem,
            language=head.rstrip("+"),
            text=second if follows else asked,
            answer=answer,
            also=also,
            first=first if follows else "",
        )
