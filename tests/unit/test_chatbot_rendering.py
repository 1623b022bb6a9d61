"""What a browser is given: safe whatever a page or a model says, and all of the turn's states in words."""

import html
import re
from datetime import date
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.chatbot import markup, rendering
from apps.chatbot.texts import _TEXTS, of_browser
from apps.chatbot.view import View, after
from rag.answer.states import Answer, Citation, Done, Failed, Flag, Refused, Retrieved, Searching, Step, Writing
from tests.answering import BASE, passage

EVIL = (
    '<script>alert(1)</script><img src=x onerror="alert(2)"> [press](javascript:alert(3)) [go](https://evil.example/)'
)


class Elements(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def links(text: str) -> list[str]:
    return [str(given["href"]) for tag, given in Elements(text).tags if tag == "a" and "href" in given]


def is_harmless(text: str) -> bool:
    tags = Elements(text).tags
    names = {tag for tag, _ in tags}
    attributes = {name for _, given in tags for name in given}
    return not names & {"script", "img", "iframe", "style", "form", "input"} and not any(
        name.startswith("on") or name == "style" for name in attributes
    )


def drawn(view: View, screen: Any = "en") -> str:
    text = rendering.message(view, screen)
    assert "\n" not in text and is_harmless(text)
    return text


def test_a_script_or_link_in_answer_or_passage_is_inert() -> None:
    source = passage(EVIL, title=EVIL, heading_path=(EVIL,), url=f"{BASE}/fees")
    answer = Answer(f"{EVIL} The fee [1].", "en", (Citation(1, source, ((0, 6),)),), unsupported=(EVIL,), searched=EVIL)
    text = drawn(after(View("en"), Done(answer)))
    assert set(links(text)) == {"#source-1", f"{BASE}/fees"}
    assert "alert(1)" in html.unescape(text)


def test_a_link_to_a_cited_page_stays_and_any_other_is_text() -> None:
    source = passage("x", url=f"{BASE}/fees", twins={"de": f"{BASE}/de/gebuehren"})
    answer = Answer(f"See [fees]({BASE}/fees) or [this](https://evil.example) [1].", "en", (Citation(1, source),))
    found = links(drawn(after(View("en"), Done(answer))))
    assert "https://evil.example" not in found and found.count(f"{BASE}/fees") == 2 and f"{BASE}/de/gebuehren" in found


def test_a_page_with_an_address_of_another_kind_is_no_link() -> None:
    source = passage("x", url="javascript:alert(1)")
    assert links(drawn(after(View("en"), Done(Answer("It is so [1].", "en", (Citation(1, source),)))))) == ["#source-1"]


@given(st.text(max_size=200))
def test_whatever_a_model_writes_is_harmless(text: str) -> None:
    assert is_harmless(markup.markdown(text)) and links(markup.markdown(text)) == []


@given(st.text(alphabet='<>"/=abhrefscriptonclick: \n&', max_size=120))
def test_whatever_a_browser_kept_is_harmless(text: str) -> None:
    assert is_harmless(markup.ours(text))


def test_what_we_draw_comes_back_from_a_browser_as_it_was() -> None:
    source = passage("The fee is 72.50 euros.", title="Fees", twins={"de": f"{BASE}/de"})
    text = drawn(after(View("en"), Done(Answer("The fee [1].", "en", (Citation(1, source, ((4, 7),)),)))))
    again = markup.ours(text)
    assert re.sub(r' rel="[^"]*"', "", again) == re.sub(r' rel="[^"]*"', "", text)


def test_a_card_tells_title_path_date_and_marks_the_words_used() -> None:
    source = passage("The fee is 72.50 euros.", title="Fees", heading_path=("Studies", "Money"), date=date(2026, 3, 4))
    text = drawn(after(View("en"), Done(Answer("The fee [1].", "en", (Citation(1, source, ((4, 7),)),)))))
    for part in ("Fees", "Studies › Money", "as of 4 March 2026", "<mark>fee</mark>", "Open the page"):
        assert part in text
    assert 'class="cite cite-1"' in text and 'class="card card-1"' in text


def test_the_german_page_is_called_binding_where_it_is_newer() -> None:
    twin = {"twins": {"de": f"{BASE}/de"}, "date": date(2026, 1, 1)}
    for day, binding in ((date(2026, 2, 1), True), (date(2025, 2, 1), False)):
        source = passage("x", twin_dates={"de": day}, **twin)
        text = drawn(after(View("en"), Done(Answer("So [1].", "en", (Citation(1, source),)))))
        assert ("is the binding one" in text) is binding and "German version" in text


def test_unsupported_sentences_flags_and_a_cut_answer_are_pointed_out() -> None:
    flag = Flag("deadline", 1, "15 July 2024", date(2024, 7, 15))
    answer = Answer(
        "Nobody said **this**. It is so [1].", "en", (Citation(1, passage("x")),), ("Nobody said **this**.",)
    )
    text = drawn(after(View("en"), Done(Answer(**{**vars(answer), "flags": (flag,), "cut": True}))))
    assert '<span class="unsupported"' in text and "Nobody said <strong>this</strong>.</span>" in text
    assert "a deadline that has passed: 15 July 2024" in text and "cut at its greatest length" in text


def test_a_refusal_names_office_and_pages_in_the_askers_language() -> None:
    office = passage("Raum B 101\nTel. 0841 555", title="Studienbüro", kind="contact", url=f"{BASE}/buero")
    near = passage("x", title="Gebühren", url=f"{BASE}/geld", language="de")
    text = drawn(after(View("en"), Refused("Wie koche ich Eier?", (near,), office, "de")))
    assert "raten möchte ich nicht" in text and "Raum B 101<br>Tel. 0841 555" in text
    assert links(text) == [f"{BASE}/buero", f"{BASE}/geld"]


def test_each_state_of_a_turn_is_told_as_it_comes() -> None:
    view = View("en")
    assert "Searching" in drawn(view)
    view = after(view, Searching("fee master", "terms"))
    assert "Searched for: <q>fee master</q>" in drawn(view)
    view = after(view, Retrieved((passage("x", title="Fees"),)))
    assert "Places found: 1." in drawn(view)
    view = after(view, Step({"step": "judged", "finding": {"law": "exact", "violated": True, "reason": "no cents"}}))
    assert "“exact”: violated. no cents" in drawn(view) and '<details class="steps" open>' in drawn(view)
    view = after(view, Writing("The fee [1]", "en"))
    assert 'aria-label="[1] Fees"' in drawn(view) and "busy" in drawn(view)
    view = after(view, Failed("The connection broke.", so_far="The fee"))
    assert view.ended and "The fee" in drawn(view) and 'role="alert"' in drawn(view)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"step": "verdict", "accepted": True}, "keeps all the rules"),
        ({"step": "verdict", "accepted": False}, "does not keep all the rules"),
        ({"step": "verdict", "accepted": None, "bypassed": "peak"}, "without the tribunal"),
        ({"step": "judged", "finding": {"law": "x", "violated": None}}, "no judgement"),
        ({"step": "note", "index": 2, "chunks": 7}, "Part 3 of 7 read"),
        ({"step": "something new"}, ""),
    ],
)
def test_a_workflows_events_are_told_in_words(data: dict[str, Any], words: str) -> None:
    assert words in drawn(after(View("en"), Step(data)))


def test_every_text_is_there_in_both_languages_with_the_same_gaps() -> None:
    for name, (german, english) in _TEXTS.items():
        assert german and english, name
        assert set(re.findall(r"{(\w+)}", german)) == set(re.findall(r"{(\w+)}", english)), name


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("de-DE,de;q=0.9,en;q=0.8", "de"),
        ("en-US", "en"),
        ("fr,de;q=0.5,en;q=0.4", "de"),
        ("fr", "en"),
        ("", "en"),
        ("de;q=x,en", "en"),
    ],
)
def test_the_screens_language_is_the_browsers(header: str, language: str) -> None:
    assert of_browser(header) == language
