"""What is kept of a page: its content, its rows and cards, and what it says about itself."""

from datetime import date

import pytest

from rag.dates import find_dates, stated_change
from rag.extract.duplicates import merge_duplicates
from rag.extract.html import extract_html
from rag.extract.language import detect, page_language
from rag.extract.page import Block, Page
from rag.extract.pdf import extract_pdf
from rag.extract.text import clean
from rag.index.chunk import chunks_of
from tests.university.pdf import pdf

URL = "https://www.hs.example/studium/rueckmeldung/"
TYPO3 = """<!DOCTYPE html><html lang="de"><head><title>Rückmeldung | Hochschule</title>
<meta name="date" content="2025-01-02"></head><body>
<div id="cookie-banner">Wir verwenden Cookies</div><header>Logo und Suche</header>
<nav class="breadcrumb"><ol><li><a href="/">Startseite</a></li><li><a href="/s">Studium</a></li>
<li>Rückmeldung</li></ol></nav>
<main><div class="stage">Werbung für den Tag der offenen Tür</div>
<!--TYPO3SEARCH_begin--><h1>Rückmeldung</h1>
<p>Wer weiter&shy;studiert, muss sich<br>zurückmelden. <a href="../formular.pdf">Formular</a></p>
<ul><li>Punkt eins<ul><li>darunter</li></ul></li><li>Punkt zwei</li></ul>
<script>alert("nie")</script><!-- ein Kommentar -->
<h2>Fristen</h2>
<table><thead><tr><th>Semester</th><th>Beginn</th><th>Ende</th></tr></thead><tbody>
<tr><td>Winter</td><td>1. Juni</td><td>15. Juli</td></tr>
<tr><td rowspan="2">Sommer</td><td>2. Januar</td><td>20. Januar</td></tr>
<tr><td colspan="2">Nachfrist bis 31. Januar</td></tr></tbody></table>
<table><tr><th>Montag</th><td>8-12 Uhr</td></tr><tr><th>Dienstag</th><td>geschlossen</td></tr></table>
<h2>Häufige Fragen</h2>
<details><summary>Was kostet es?</summary><p>85 Euro.</p></details>
<details><summary>Und wer zu spät kommt?</summary>Zahlt 25 Euro mehr.</details>
<h3><button aria-controls="p1" aria-expanded="false">Wohin überweise ich?</button></h3>
<div id="p1" hidden><p>An die Staatsoberkasse.</p></div>
<p>Nach dem Panel.</p>
<div class="contact-list"><div class="vcard"><h3 class="fn">Dr. Anna Muster</h3><p>Raum: A 101</p>
<dl><dt>Telefon</dt><dd>+49 841 12345</dd><dt>E-Mail</dt><dd><a href="mailto:anna@hs.example">schreiben</a></dd></dl>
</div><div class="vcard"><p>Bob Beispiel</p><p>bob(at)hs.example</p></div></div>
<!--TYPO3SEARCH_end--></main>
<footer>Impressum. Stand: 12.03.2026</footer></body></html>"""


@pytest.fixture(scope="module")
def page() -> Page:
    return extract_html(TYPO3, URL)


def test_only_what_lies_between_the_search_markers_is_content(page: Page) -> None:
    for noise in ("Cookies", "Logo", "Werbung", "nie", "Kommentar", "Impressum", "Startseite"):
        assert noise not in page.text


def test_a_page_tells_its_title_language_date_and_place(page: Page) -> None:
    assert (page.title, page.language, page.date) == ("Rückmeldung", "de", date(2026, 3, 12))
    assert page.breadcrumbs == ("Studium",)
    assert page.links[0].url == "https://www.hs.example/studium/formular.pdf"


def test_soft_hyphens_go_and_breaks_stay(page: Page) -> None:
    assert "Wer weiterstudiert, muss sich\nzurückmelden." in page.text


def test_nested_lists_keep_their_order(page: Page) -> None:
    assert "- Punkt eins\n  - darunter\n- Punkt zwei" in page.text


def test_each_row_of_a_table_can_be_read_alone(page: Page) -> None:
    tables = [block.text for block in page.blocks if block.kind == "table"]
    assert tables[0].split("\n") == [
        "Semester: Winter: Beginn: 1. Juni; Ende: 15. Juli",
        "Semester: Sommer: Beginn: 2. Januar; Ende: 20. Januar",
        "Semester: Sommer: Beginn: Nachfrist bis 31. Januar; Ende: Nachfrist bis 31. Januar",
    ]
    assert tables[1] == "Montag: 8-12 Uhr\nDienstag: geschlossen"


def test_accordions_are_read_although_they_are_shut(page: Page) -> None:
    blocks = list(page.blocks)
    for title, text in (("Was kostet es?", "85 Euro."), ("Wohin überweise ich?", "An die Staatsoberkasse.")):
        place = next(place for place, block in enumerate(blocks) if block.text == title)
        assert blocks[place].kind == "heading"
        assert blocks[place + 1].text == text


def test_contact_cards_are_blocks_with_their_address_spelled_out(page: Page) -> None:
    cards = [block.text for block in page.blocks if block.kind == "contact"]
    assert cards == [
        "Dr. Anna Muster\nRaum: A 101\nTelefon: +49 841 12345\nE-Mail: schreiben (anna@hs.example)",
        "Bob Beispiel\nbob@hs.example",
    ]


def test_nothing_is_kept_twice(page: Page) -> None:
    for fact in ("Punkt zwei", "85 Euro", "+49 841 12345", "15. Juli", "bob@hs.example"):
        assert page.text.count(fact) == 1


def test_without_markers_main_is_the_content_and_without_main_what_is_no_navigation() -> None:
    text = "<p>Die Mensa ist täglich bis 14 Uhr geöffnet.</p>"
    for body in (
        f"<nav>Menü</nav><main>{text}</main>",
        f"<nav>Menü</nav><div id=content>{text}</div>",
        f"<nav>Menü</nav>{text}",
    ):
        page = extract_html(f"<html><title>Mensa - HS</title><body>{body}<footer>Fuß</footer>", URL)
        assert page.text == "Die Mensa ist täglich bis 14 Uhr geöffnet."
        assert page.title == "Mensa"


def test_markers_around_a_teaser_alone_are_not_believed() -> None:
    body = (
        "<!--TYPO3SEARCH_begin--><p>Teaser</p><!--TYPO3SEARCH_end--><main>" + "<p>Der lange Inhalt der Seite.</p>" * 9
    )
    assert "Der lange Inhalt" in extract_html(f"<html><body>{body}</main>", URL).text


@pytest.mark.parametrize("html", ["", "<html>", "kein HTML", "<table><tr><td colspan=99999999>x", "<ul><li>" * 50])
def test_broken_html_raises_nothing(html: str) -> None:
    extract_html(html, URL)


def test_a_wrong_declaration_of_the_language_is_seen_through() -> None:
    english = "The library is open from Monday to Friday, and students may borrow ten books. " * 6
    assert page_language("de", english) == "en"
    assert page_language("en-GB", "Short.") == "en"
    assert page_language("fr", "Die Mensa ist täglich geöffnet.") == "de"


@pytest.mark.parametrize(
    ("question", "language"),
    [
        ("Wann ist die Rückmeldung?", "de"),
        ("How much is the fee", "en"),
        ("wo finde ich die mensa", "de"),
        ("library opening hours", "en"),
    ],
)
def test_short_questions_are_told_apart(question: str, language: str) -> None:
    assert detect(question) == language


def test_dates_are_found_in_all_usual_forms() -> None:
    text = "15. Juli 2026, 31.12.2026, 2026-01-02, 3rd June 2025, March 5, 2024, am 31.02.2026"
    assert [one.isoformat() for one in find_dates(text)] == [
        "2026-07-15",
        "2026-12-31",
        "2026-01-02",
        "2025-06-03",
        "2024-03-05",
    ]


def test_only_a_date_that_tells_of_a_change_dates_a_page() -> None:
    assert stated_change("Die Frist endet am 15.07.2026.") is None
    assert stated_change("Last updated: 12 March 2026") == date(2026, 3, 12)
    assert stated_change("Zuletzt geändert am 1. April 2025") == date(2025, 4, 1)


def test_addresses_that_are_hidden_from_robots_are_spelled_out() -> None:
    assert clean("anna.muster (at) hs [dot] example") == "anna.muster@hs.example"
    assert clean("call me (at noon)") == "call me (at noon)"


def _page(url: str, text: str, language: str = "de") -> Page:
    return Page(url, "Titel", language, (Block("text", text),), urls=(url,))


def test_near_duplicates_are_one_page_with_all_addresses() -> None:
    text = " ".join(f"Wort{number}" for number in range(80))
    near = text + " und noch ein kurzer Zusatz"
    merged = merge_duplicates([_page("https://a.example/lang/", near), _page("https://a.example/", text)])
    assert [(page.url, page.urls) for page in merged] == [
        ("https://a.example/", ("https://a.example/", "https://a.example/lang/"))
    ]


def test_pages_that_differ_in_a_number_only_are_two() -> None:
    text = "Die Bewerbung für den Studiengang endet im Sommer nach der Frist am " + "Wort " * 60
    merged = merge_duplicates(
        [_page("https://a.example/", text + "15. Juli"), _page("https://b.example/", text + "31. Juli")]
    )
    assert len(merged) == 2


def test_a_pdf_is_read_page_by_page_with_its_sections_and_what_it_says_about_itself() -> None:
    sections = [
        f"# § {number} Abschnitt {number}\n\n" + f"Über die Prüfung {number} entscheidet der Ausschuss (§ 3). " * 20
        for number in range(1, 9)
    ]
    body = pdf("Prüfungsordnung für alle Studiengänge", "\n\n".join(sections), "2025-03-14")
    page = extract_pdf(body, "https://a.example/ordnung.pdf")
    assert (page.title, page.language, page.date) == ("Prüfungsordnung für alle Studiengänge", "de", date(2025, 3, 14))
    assert page.is_pdf and page.urls == ("https://a.example/ordnung.pdf",)
    headings = [block.text for block in page.blocks if block.kind == "heading"]
    assert headings == [f"§ {number} Abschnitt {number}" for number in range(1, 9)]
    for number in range(1, 9):
        assert page.text.count(f"Über die Prüfung {number} entscheidet der Ausschuss (§ 3).") == 20
    chunks = chunks_of(page, lambda text: len(text) // 3)
    assert {chunk.heading_path[-1] for chunk in chunks if chunk.heading_path} == set(headings)


def test_what_is_no_pdf_has_no_blocks() -> None:
    page = extract_pdf(b"%PDF-1.4 broken", "https://a.example/ordnung.pdf")
    assert (page.blocks, page.title, page.is_pdf) == ((), "ordnung.pdf", True)
