"""Where texts are cut, and that nothing is lost by it."""

import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.workflows import chunks
from engine.workflows.chunks import Strength, cut, overlap_start, sentences
from engine.workflows.split import Chunk, split


async def by_words(text: str) -> int:
    """A plain tokenizer: a token a word, long words more."""
    return sum(1 + len(word) // 8 for word in text.split())


async def by_bytes(text: str) -> int:
    return len(text.encode(errors="replace"))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Am 15. Juli beginnt es. Dann nicht.", ["Am 15. Juli beginnt es. ", "Dann nicht."]),
        ("Das gilt z. B. für Studierende, d. h. für alle. Ende.", None),
        ("Prof. Dr. Meier hält die Vorlesung. Sie ist gut.", ["Prof. Dr. Meier hält die Vorlesung. ", "Sie ist gut."]),
        ("Siehe § 5 Abs. 2 Nr. 3 der Ordnung. Und weiter.", ["Siehe § 5 Abs. 2 Nr. 3 der Ordnung. ", "Und weiter."]),
        ("Im 3. Semester sind ca. 20 Plätze frei. Gut.", ["Im 3. Semester sind ca. 20 Plätze frei. ", "Gut."]),
        ("Das war 2024. Danach kam mehr.", ["Das war 2024. ", "Danach kam mehr."]),
        ("Es kostet 3.50 Euro. Billig!", ["Es kostet 3.50 Euro. ", "Billig!"]),
        ("Im XIX. Jahrhundert war das so. Heute nicht.", ["Im XIX. Jahrhundert war das so. ", "Heute nicht."]),
        ("J. R. R. Tolkien wrote it. He did.", ["J. R. R. Tolkien wrote it. ", "He did."]),
        ("See e.g. Fig. 3 for that. Mr. Smith did. Really?", None),
        ("„Kommst du?“ Er nickte.", ["„Kommst du?“ ", "Er nickte."]),
        ('He said "stop." She did.', ['He said "stop." ', "She did."]),
        ("Wait... what? Yes! No.", ["Wait... what? ", "Yes! ", "No."]),
        ("これは文です。次の文です。", ["これは文です。", "次の文です。"]),
        ("- one\n- two\n- three", ["- one\n", "- two\n", "- three"]),
        ("A line\nthat goes on. Next.", ["A line\nthat goes on. ", "Next."]),
        ("Title\n\nText here", ["Title\n\n", "Text here"]),
        ("no end at all", ["no end at all"]),
        ("", []),
    ],
)
def test_sentences_are_those_of_people(text: str, wanted: list[str] | None) -> None:
    found = sentences(text)
    assert "".join(found) == text
    if wanted is not None:
        assert found == wanted
    else:
        assert all(one.rstrip()[-1] in ".?" and one.rstrip()[-4:] not in ("z. B", "d. h") for one in found)
        assert not any(one.strip() in ("See e.g.", "Mr.", "Das gilt z.", "B.") for one in found)


@pytest.mark.parametrize(
    ("text", "most", "end", "strength"),
    [
        ("One. Two here.\n\nThree is it. Four and", 30, 16, Strength.PARAGRAPH),
        ("aaa bbb.\n\n# Head\nText. More text", 18, 10, Strength.HEADING),
        ("P.\n\nLong sentence one. Then", 26, 23, Strength.SENTENCE),
        ("first sentence. second goes on and on and on", 30, None, None),
        ("Short one. Then a very long sentence that goes on", 40, 11, Strength.SENTENCE),
        ("words without any end at all", 15, 14, Strength.WORD),
        ("x" * 50, 20, 20, Strength.CHARACTER),
        ("all of it", 9, 9, Strength.HEADING),
    ],
)
def test_the_best_place_is_taken(text: str, most: int, end: int | None, strength: Strength | None) -> None:
    found = cut(text, 0, most)
    assert 0 < found[0] <= most
    if end is not None:
        assert found == (end, strength)


def test_an_overlap_begins_with_a_sentence_and_not_before_the_chunk() -> None:
    text = "One is here. Two is here. Three is here. Four"
    start = text.index("Four")
    assert text[overlap_start(text, start, 20, 0) : start] == "Three is here. "
    assert overlap_start(text, start, 1000, 13) == 13
    assert overlap_start(text, start, 0, 0) == start and overlap_start(text, 0, 50, 0) == 0


PIECES = [*"abcdeÄß", " ", ". ", ".", "! ", "\n", "\n\n", "# ", "- ", "z. B. ", "15. ", "Juli ", "。", "🙂", "Der "]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=400).map("".join) | st.text(max_size=200)


def check(text: str, found: list[Chunk], limit: int) -> None:
    assert "".join(text[chunk.start : chunk.end] for chunk in found) == text
    assert all(chunk.text == text[chunk.start - chunk.overlap : chunk.end] for chunk in found)
    assert all(one.end == two.start and one.start <= two.start - two.overlap for one, two in pairwise(found))
    assert all(chunk.tokens <= limit or chunk.end == chunk.start + 1 for chunk in found)


@settings(max_examples=300, deadline=None)
@given(TEXTS, st.integers(4, 60), st.integers(0, 12))
async def test_nothing_of_the_input_is_lost(text: str, limit: int, overlap: int) -> None:
    for count in (by_words, by_bytes):
        check(text, await split(text, count, limit, overlap), limit)


TALK = ["der", "Hund", "bellt", "z. B.", "am 15. Juli", "Prof. Dr. Li", "usw.", "laut"]
WORDS = st.lists(st.sampled_from(TALK), min_size=1, max_size=30)
PLAIN = st.tuples(WORDS, st.sampled_from([". ", "! ", "? ", ".\n\n", ".\n\n# Titel\n\n"])).map(
    lambda pair: "Es " + " ".join(pair[0]) + " an" + pair[1]
)


@settings(max_examples=200, deadline=None)
@given(st.lists(PLAIN, min_size=1, max_size=60), st.integers(8, 60), st.integers(0, 10))
async def test_each_sentence_reaches_a_chunk_whole_if_it_fits_and_word_for_word_if_not(
    written: list[str], limit: int, overlap: int
) -> None:
    text = "".join(written)
    found = await split(text, by_words, limit, overlap)
    check(text, found, limit)
    for sentence in sentences(text):
        if await by_words(sentence) <= limit:
            assert any(sentence.strip() in chunk.text for chunk in found), sentence
    assert [word for chunk in found for word in text[chunk.start : chunk.end].split()] == text.split()


async def test_few_counts_are_enough() -> None:
    text = "\n\n".join(f"Absatz {n}. " + "Dies ist ein Satz mit einigen Wörtern. " * 12 for n in range(400))
    asked: list[int] = []

    async def count(piece: str) -> int:
        asked.append(len(piece))
        return await by_words(piece)

    found = await split(text, count, 1000, 50)
    check(text, found, 1000)
    assert len(found) > 30 and len(asked) <= 2 * len(found)
    assert sum(chunk.tokens for chunk in found[1:-1]) / (len(found) - 2) > 600


async def test_a_sentence_longer_than_a_chunk_is_cut_at_words() -> None:
    text = "Kurz. " + "wort " * 500 + "ende. Danach."
    found = await split(text, by_words, 100, 10)
    check(text, found, 100)
    assert all(text[chunk.end - 1].isspace() for chunk in found[:-1])


@pytest.mark.parametrize(
    "piece", [". ", ".", "a", "a ", "\n", "\n ", "! \n\n", "(", '."', "1. ", "# ", "🙂", "。", "\n- "]
)
async def test_texts_that_are_all_the_same_take_no_long_time(piece: str) -> None:
    text = piece * (200_000 // len(piece))
    began = time.monotonic()
    found = await split(text, by_bytes, 4000, 100)
    assert "".join(text[chunk.start : chunk.end] for chunk in found) == text
    assert time.monotonic() - began < 3


async def test_ten_million_characters_are_cut_in_seconds() -> None:
    text = "Dies ist ein Satz mit einigen Wörtern darin. " * 222_223

    async def count(piece: str) -> int:
        return len(piece) // 4

    began = time.monotonic()
    found = await split(text, count, 3000, 64)
    assert found[-1].end == len(text) and time.monotonic() - began < 20


def test_an_end_that_is_missed_is_better_than_a_sentence_that_is_cut() -> None:
    assert chunks.sentence_end("Er kam usw. Dann ging er. Ende", 0, 3, 40) == len("Er kam usw. Dann ging er. ")
