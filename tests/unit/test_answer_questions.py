"""Open questions: what was refused or disliked, alike ones together."""

from typing import Any

from rag.answer.questions import cluster


def row(kind: str, question: str, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "question": question, "language": "de", "at": "2026-11-20T10:00:00Z", **more}


FEEDBACK = [
    row("refused", "Wo kann ich mein Fahrrad parken?"),
    row("refused", "Kann ich mein Fahrrad irgendwo parken?", at="2026-11-21T10:00:00Z"),
    row("dislike", "Fahrrad parken wo", reason="Falsch"),
    row("dislike", "Wann ist die Bibliothek offen?", reason="Veraltet"),
    row("like", "Wann ist die Mensa offen?"),
    row("refused", "  "),
]


def test_questions_about_one_thing_come_together_and_what_was_liked_is_not_open() -> None:
    parking, library = cluster(FEEDBACK)
    assert (parking.refused, parking.disliked, parking.count) == (2, 1, 3)
    assert parking.reasons == (("Falsch", 1),) and parking.last_at == "2026-11-21T10:00:00Z"
    assert library.question == "Wann ist die Bibliothek offen?" and len(parking.examples) == 2


def test_vectors_bring_languages_together() -> None:
    rows = [
        row("refused", "Wo parke ich?"),
        row("refused", "Where can I park?", language="en"),
        row("refused", "Mensa?"),
    ]
    where = {"Wo parke ich?": (1.0, 0.0), "Where can I park?": (0.99, 0.14), "Mensa?": (0.0, 1.0)}
    found = cluster(rows, lambda texts: [where[text] for text in texts])
    assert [(one.count, one.languages) for one in found] == [(2, ("de", "en")), (1, ("de",))]


def test_nothing_said_is_no_question() -> None:
    assert cluster([]) == []
