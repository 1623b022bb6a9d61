"""`python -m tests.university.build` writes tests/data/university-qa from the content; a test keeps it current."""

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from bs4 import BeautifulSoup

from tests.university import markup
from tests.university.pages import Page, Question, pages, questions, unanswerable

FOLDER = Path(__file__).parent.parent / "data" / "university-qa"


@cache
def plain(page: Page) -> str:
    """The page's words, line by line; a table's row is one line."""
    if page.is_pdf:
        return "\n".join(line.lstrip("# ") for line in page.text.splitlines() if line)
    soup = BeautifulSoup(markup.to_html(page), "lxml")
    for row in soup.find_all("tr"):
        cells = [" ".join(cell.get_text(" ").split()) for cell in row.find_all(["th", "td"])]
        row.replace_with(" | ".join(cells) + "\n")
    for script in soup.find_all("script"):
        script.decompose()
    blocks = ("p", "h2", "h3", "h4", "li", "summary", "button", "time")
    for block in soup.find_all(blocks):
        block.append("\n")
    lines = (" ".join(line.split()) for line in soup.get_text("").splitlines())
    return "\n".join(line for line in lines if line)


def corpus() -> list[dict[str, Any]]:
    return [
        {
            "_id": page.id,
            "title": page.title,
            "text": plain(page),
            "metadata": {
                "language": page.language,
                "date": str(page.date),
                "url": page.url,
                "twin": next((url for other, url in page.twins.items() if other != page.language), ""),
            },
        }
        for page in pages()
    ]


def queries() -> list[dict[str, Any]]:
    asked = [_query(question) for question in questions() if not question.first]
    return [*asked, *_unanswerable()]


def _query(question: Question) -> dict[str, Any]:
    across = all(page.language != question.language for page in question.pages)
    about = {"language": question.language, "split": question.split, "kind": "answerable", "across": across}
    return {"_id": question.id, "text": question.text, "metadata": {**about, "answer": question.answer}}


def _unanswerable() -> list[dict[str, Any]]:
    counts: dict[str, int] = {}
    found = []
    for language, kind, text in unanswerable():
        name = f"{kind}-{language}"
        number = counts[name] = counts.get(name, 0) + 1
        about = {"language": language, "split": "test" if number % 2 else "calibration", "kind": kind}
        found.append({"_id": f"{name}-{number}", "text": text, "metadata": {**about, "across": False, "answer": ""}})
    return found


def qrels() -> list[tuple[str, str, int]]:
    """The pages in the question's language; where there is none, the only one."""
    return [(one.id, page.id, 1) for one in questions() if not one.first for page in one.pages]


def followups() -> list[dict[str, Any]]:
    return [
        {
            "_id": one.id,
            "first": one.first,
            "followup": one.text,
            "page": one.pages[0].id,
            "metadata": {"language": one.language, "split": one.split, "answer": one.answer},
        }
        for one in questions()
        if one.first
    ]


@cache
def texts() -> dict[str, str]:
    """Every file of the folder but its README."""
    rows = "".join(f"{query}\t{page}\t{score}\n" for query, page, score in qrels())
    return {
        "corpus.jsonl": _lines(corpus()),
        "queries.jsonl": _lines(queries()),
        "followups.jsonl": _lines(followups()),
        "qrels.tsv": "query-id\tcorpus-id\tscore\n" + rows,
    }


def _lines(rows: Iterable[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in texts().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        print(f"{FOLDER / name}: {text.count(chr(10))} lines")
