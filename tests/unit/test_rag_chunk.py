"""Where pages are cut for the index, and that nothing is lost."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag.extract.page import Block, Page
from rag.index.chunk import MOST_TOKENS, TARGET_TOKENS, chunks_of
from rag.index.sentences import sentences


def by_words(text: str) -> int:
    return len(text.split())


def page(*blocks: Block, title: str = "Bewerbung", crumbs: tuple[str, ...] = ()) -> Page:
    return Page("https://a.example/", title, "de", blocks, breadcrumbs=crumbs)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Am 15. Juli endet es. Danach nicht.", ["Am 15. Juli endet es.", "Danach nicht."]),
        ("Das gilt z. B. für alle. Ende.", ["Das gilt z. B. für alle.", "Ende."]),
        ("Prof. Dr. Meier liest. Er ist da.", ["Prof. Dr. Meier liest.", "Er ist da."]),
        ("Siehe Nr. 5 und § 3 Abs. 2. Gut.", ["Siehe Nr. 5 und § 3 Abs. 2. Gut."]),
        ("Das war 2024. Jetzt ist mehr.", ["Das war 2024.", "Jetzt ist mehr."]),
        ("Eins\nZwei. Drei!", ["Eins", "Zwei.", "Drei!"]),
    ],
)
def test_sentences_end_where_they_do(text: str, wanted: list[str]) -> None:
    assert sentences(text) == wanted


def test_a_chunk_carries_the_headings_above_it() -> None:
    chunks = chunks_of(
        page(
            Block("heading", "Bewerbung", 1),
            Block("text", "wort " * 40),
            Block("heading", "Fristen", 2),
            Block("heading", "Master", 3),
            Block("text", "Bis 15. Juli " * 20),
            Block("heading", "Unterlagen", 2),
            Block("text", "Zeugnis " * 40),
            crumbs=("Studium",),
        ),
        by_words,
    )
    assert [chunk.heading_path for chunk in chunks] == [(), ("Fristen", "Master"), ("Unterlagen",)]
    assert chunks[1].context == "Studium > Bewerbung > Fristen > Master"
    assert chunks[1].embedded.startswith("Studium > Bewerbung > Fristen > Master\nBis 15. Juli")


def test_text_after_an_accordion_is_not_under_its_last_title() -> None:
    chunks = chunks_of(
        page(
            Block("heading", "Was kostet es?", 8),
            Block("text", "Geld " * 40),
            Block("heading", "", 8),
            Block("text", "Danach " * 40),
        ),
        by_words,
    )
    assert [chunk.heading_path for chunk in chunks] == [("Was kostet es?",), ()]


def test_contact_cards_and_larger_tables_stand_alone() -> None:
    rows = "\n".join(f"Gebühr {number}: Betrag: {number} Euro; fällig: sofort" for number in range(20))
    chunks = chunks_of(
        page(Block("text", "Die Gebühren:"), Block("table", rows), Block("contact", "Anna\nTelefon: 1")), by_words
    )
    assert [chunk.kind for chunk in chunks][-1] == "contact"
    assert chunks[0].kind == "table"
    assert chunks[0].text.startswith("Die Gebühren:\nGebühr 0")


def test_short_sections_are_read_together() -> None:
    chunks = chunks_of(
        page(
            Block("heading", "Montag", 2),
            Block("text", "8 bis 12 Uhr"),
            Block("heading", "Dienstag", 2),
            Block("text", "9 bis 13 Uhr"),
        ),
        by_words,
    )
    assert [chunk.text for chunk in chunks] == ["Montag\n8 bis 12 Uhr\nDienstag\n9 bis 13 Uhr"]


def test_ids_depend_on_address_and_content_alone() -> None:
    first = chunks_of(
        page(Block("text", "eins " * 99), Block("heading", "B", 2), Block("text", "zwei " * 99)), by_words
    )
    second = chunks_of(
        page(Block("text", "neu " * 99), Block("heading", "B", 2), Block("text", "zwei " * 99)), by_words
    )
    assert first[1].id == second[1].id
    assert first[0].id != second[0].id
    assert len({chunk.id for chunk in chunks_of(page(*[Block("text", "gleich " * 130)] * 4), by_words)}) == 4


WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=12)
TEXTS = st.lists(WORDS, min_size=1, max_size=400).map(" ".join)


@settings(max_examples=40, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=6))
def test_no_word_is_lost_and_no_chunk_is_too_long(texts: list[str]) -> None:
    chunks = chunks_of(page(*[Block("text", text) for text in texts]), by_words)
    assert " ".join(" ".join(texts).split()) == " ".join(" ".join(chunk.text for chunk in chunks).split())
    assert all(by_words(chunk.text) <= max(MOST_TOKENS, TARGET_TOKENS * 1.25) for chunk in chunks)
