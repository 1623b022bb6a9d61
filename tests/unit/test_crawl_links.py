"""One form for all spellings of an address; scope; and addresses without end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ConfigurationError
from rag.crawl.links import canonical
from rag.crawl.scope import scope_of
from rag.crawl.traps import DATES_OF_A_KIND, VARIANTS_OF_A_PATH, Traps, file_type_refusal

BASE = "https://www.thi.de/studium/bewerbung/"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("HTTPS://WWW.THI.DE:443", "https://www.thi.de/"),
        ("http://www.thi.de:80/a", "http://www.thi.de/a"),
        ("http://www.thi.de.:8080/a", "http://www.thi.de:8080/a"),
        ("fristen.html#wintersemester", "https://www.thi.de/studium/bewerbung/fristen.html"),
        ("../gebuehren", "https://www.thi.de/studium/gebuehren"),
        ("https://www.thi.de/a/./b/../../c/", "https://www.thi.de/c/"),
        ("https://www.thi.de/../../a", "https://www.thi.de/a"),
        ("//bib.thi.de/x", "https://bib.thi.de/x"),
        (" /a\n\tb ", "https://www.thi.de/ab"),
        ("/pr%c3%bcfung/%7Ename", "https://www.thi.de/pr%C3%BCfung/~name"),
        ("/prüfung amt", "https://www.thi.de/pr%C3%BCfung%20amt"),
        ("/100%", "https://www.thi.de/100%25"),
        ("https://bücher.example/", "https://xn--bcher-kva.example/"),
        ("/a?utm_source=x&id=3&fbclid=y&gclid=z", "https://www.thi.de/a?id=3"),
        ("/a?utm_source=x", "https://www.thi.de/a"),
        ("/a?PHPSESSID=1&b=", "https://www.thi.de/a?b="),
        ("/a;jsessionid=1A2B.node1?x=1", "https://www.thi.de/a?x=1"),
        ("/a?tx_news[page]=2&cHash=9f", "https://www.thi.de/a?tx_news%5Bpage%5D=2&cHash=9f"),
        ("/a?b=2&a=1", "https://www.thi.de/a?b=2&a=1"),
        ("http://[2001:DB8::1]/", "http://[2001:db8::1]/"),
        ("?", BASE),
        ("mailto:studienberatung@thi.de", None),
        ("javascript:alert(1)", None),
        ("tel:+4984193480", None),
        ("ftp://thi.de/a", None),
        ("https://thi.de@evil.example/", None),
        ("https://name:word@thi.de/", None),
        ("http://[kaputt/", None),
        ("http://thi.de:99999/", None),
        ("http://", None),
        ("http://a b.example/", None),
        (f"http://{'a' * 64}.thi.de/", None),
        ("http://a..thi.de/", None),
    ],
)
def test_an_address_has_one_form(written: str, expected: str | None) -> None:
    assert canonical(written, BASE) == expected


@given(st.text(max_size=60))
def test_the_one_form_of_an_address_is_its_own_form(text: str) -> None:
    once = canonical(text, BASE)
    assert once is None or canonical(once) == once


@pytest.mark.parametrize(
    ("url", "inside"),
    [
        ("https://thi.de/", True),
        ("https://bib.thi.de/a", True),
        ("https://a.b.thi.de/", True),
        ("https://asta-thi.de/", False),
        ("https://thi.de.example/", False),
        ("https://example/thi.de", False),
        ("https://www.thi.de:8443/", False),
        ("http://www.thi.de/", True),
    ],
)
def test_scope_is_a_domain_and_what_lies_under_it(url: str, inside: bool) -> None:
    assert scope_of(["https://www.thi.de/"]).holds(url) is inside


def test_the_port_of_a_seed_is_in_scope() -> None:
    assert scope_of(["http://www.thi.de:8080/"]).holds("http://bib.thi.de:8080/")


def test_domains_may_be_named_instead_of_taken_from_the_seeds() -> None:
    scope = scope_of(["https://www.haw.example/"], ["*.haw.example", "Bücher.example"])
    assert scope.domains == ("haw.example", "xn--bcher-kva.example")


def test_a_whole_top_level_domain_is_no_scope() -> None:
    with pytest.raises(ConfigurationError, match="no domain"):
        scope_of(["https://www.thi.de/"], ["de"])


def taken(*urls: str) -> list[str]:
    """The addresses among them that are taken up, one after the other."""
    traps, found = Traps(), []
    for url in urls:
        if not traps.refusal(url):
            traps.count(url)
            found.append(url)
    return found


def test_a_calendar_ends() -> None:
    days = [f"https://thi.de/termine/{year}/{month:02}" for year in range(2020, 2030) for month in range(1, 13)]
    assert taken(*days) == days[:DATES_OF_A_KIND]


def test_a_calendar_by_parameters_ends() -> None:
    months = [f"https://thi.de/termine?id=7&monat={n % 12 + 1}&jahr={2020 + n // 12}" for n in range(60)]
    assert len(taken(*months)) == DATES_OF_A_KIND


def test_dated_news_are_no_calendar() -> None:
    news = [f"https://thi.de/news/2026/11/titel-{'abcdefgh'[n % 8]}{'xyzuvw'[n // 8]}" for n in range(48)]
    assert taken(*news) == news


def test_views_of_one_path_end_and_pages_by_id_do_not() -> None:
    views = [f"https://thi.de/liste?sort={n}" for n in range(80)]
    pages = [f"https://thi.de/index.php?id={n}" for n in range(80)]
    assert len(taken(*views)) == VARIANTS_OF_A_PATH
    assert taken(*pages) == pages


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/a/b/a/b/a/b", "'a' comes 3 times in the path"),
        ("/" + "/".join(map(str, range(16))), "deeper than"),
        ("/?q=" + "x" * 2000, "longer than"),
        ("/seite?print=1", "print view"),
        ("/seite?type=98", "print view"),
        ("/print/seite", "print view"),
        ("/druckansicht.html", "print view"),
        ("/service/drucken", ""),
        ("/drucker/", ""),
        ("/a/b/a", ""),
    ],
)
def test_paths_into_themselves_and_print_views_are_traps(path: str, reason: str) -> None:
    refusal = Traps().refusal(f"https://thi.de{path}")
    assert reason in refusal and bool(reason) is bool(refusal)


@pytest.mark.parametrize(
    ("path", "refused"), [("/a.JPG", True), ("/a.zip?x=1", True), ("/a.pdf", False), ("/a", False)]
)
def test_files_that_no_index_reads_are_not_asked_for(path: str, refused: bool) -> None:
    assert bool(file_type_refusal(f"https://thi.de{path}")) is refused
