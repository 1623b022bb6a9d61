"""The made-up university: its question set is current and sound, and its site serves every page."""

import http.client
import io
import re
from collections import Counter
from collections.abc import Iterator
from itertools import product

import pypdf
import pytest
from bs4 import BeautifulSoup

from tests.university import build, markup, planted
from tests.university.pages import DOMAIN, find, pages, questions, unanswerable
from tests.university.serving import University, find_answer, serving
from tests.university.site import answers, hosts

ANSWERABLE = [question for question in questions() if not question.first]
FOLLOWUPS = [question for question in questions() if question.first]


@pytest.fixture(scope="module")
def university() -> Iterator[University]:
    with serving() as running:
        yield running


def get(university: University, page_id: str, **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
    host, _, path = page_id.partition("/")
    connection = http.client.HTTPConnection("127.0.0.1", university.port, timeout=5)
    connection.request("GET", f"/{path}", headers={"Host": f"{host}.{DOMAIN}", **headers})
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body


@pytest.mark.parametrize("name", build.texts())
def test_the_question_set_on_disk_is_what_the_content_makes(name: str) -> None:
    on_disk = (build.FOLDER / name).read_text(encoding="utf-8")
    assert on_disk == build.texts()[name], "stale: python -m tests.university.build"


def test_there_are_pages_and_questions_enough_in_both_languages() -> None:
    assert min(Counter(page.language for page in pages()).values()) >= 80
    assert min(Counter(question.language for question in ANSWERABLE).values()) >= 240
    assert min(Counter(question.language for question in FOLLOWUPS).values()) >= 20
    assert Counter((language, kind) for language, kind, _ in unanswerable()) == dict.fromkeys(
        product(("de", "en"), ("near", "far")), 20
    )


def test_no_question_is_asked_twice() -> None:
    asked = [question.text for question in ANSWERABLE] + [text for *_, text in unanswerable()]
    assert [text for text, count in Counter(asked).items() if count > 1] == []


def test_every_number_of_an_answer_stands_on_its_page() -> None:
    texts = {page.id: f"{page.title}\n{build.plain(page)}" for page in pages()}

    def numbers(text: str) -> set[str]:
        return set(re.findall(r"\d+", text))

    wrong = [
        (question.id, question.answer)
        for question in questions()
        if (page := find(question.slug, question.language)).language == question.language
        and not numbers(question.answer) <= numbers(texts[page.id])
    ]
    assert wrong == []


def test_the_halves_share_no_page_and_each_holds_two_fifths_of_every_kind() -> None:
    halves: dict[str, set[str]] = {"calibration": set(), "test": set()}
    for question in ANSWERABLE:
        halves[question.split].add(question.slug)
    assert halves["calibration"] & halves["test"] == set()
    kinds = Counter((one.language, one.pages[0].language, bool(one.first)) for one in questions())
    for kind, count in kinds.items():
        in_test = [one for one in questions() if (one.language, one.pages[0].language, bool(one.first)) == kind]
        assert 0.4 < sum(one.split == "test" for one in in_test) / count < 0.6, kind


def test_every_link_of_the_site_that_stays_on_it_leads_somewhere() -> None:
    dead = set()
    for page_id, answer in answers().items():
        if answer.content_type.startswith("text/html"):
            links = re.findall(rf'href="http://(\w+)\.{re.escape(DOMAIN)}(/[^"]*)"', answer.body.decode())
            dead |= {(page_id, host + path) for host, path in links if host + path not in answers()}
    assert dead == set()


def test_all_hosts_are_served_at_one_port_told_apart_by_name(university: University) -> None:
    titles = {host: get(university, f"{host}/")[1] for host in hosts()}
    assert len(hosts()) == 7 and len(set(titles.values())) == 7
    assert get(university, "nowhere/")[0].status == 404
    assert all(one.endswith(f":80:127.0.0.1:{university.port}") for one in university.resolve)


def test_every_page_is_in_a_sitemap_and_is_served_with_its_words(university: University) -> None:
    listed = set()
    for host in hosts():
        listed |= set(re.findall("<loc>(.+?)</loc>", get(university, f"{host}/sitemap.xml")[1].decode()))
    assert listed == {page.url for page in pages()}
    for page in pages():
        response, body = get(university, page.id)
        assert response.status == 200
        assert page.is_pdf or markup.to_html(page) in re.split("<!--TYPO3SEARCH_(?:begin|end)-->", body.decode())[1]


def test_a_browser_on_this_machine_can_follow_the_links_from_host_to_host() -> None:
    shown = find_answer("bib.localhost:8080", "/en").body.decode()
    assert f"<h1>{find('library-home', 'en').title}" in shown
    assert "http://it.localhost:8080/en" in shown and f"//it.{DOMAIN}" not in shown


def test_an_unchanged_page_is_not_sent_again(university: University) -> None:
    first, _ = get(university, "bib/oeffnungszeiten")
    again, body = get(university, "bib/oeffnungszeiten", **{"If-None-Match": first.headers["ETag"]})
    assert (again.status, body) == (304, b"")


def test_poster_addresses_redirect_and_robots_forbids_the_staff_pages(university: University) -> None:
    response, _ = get(university, "www/wlan")
    assert (response.status, response.headers["Location"]) == (301, find("eduroam", "de").url)
    assert b"Disallow: /intern/" in get(university, "it/robots.txt")[1]


def test_the_news_are_listed_over_several_pages(university: University) -> None:
    second = BeautifulSoup(get(university, "www/aktuelles/seite-2")[1], "lxml")
    assert second.select_one('meta[name="robots"][content^="noindex"]')
    assert len(second.select("article.teaser")) == 4 and len(second.select("ul.pagination a")) >= 2


def test_the_documents_are_real_pdfs_with_their_umlauts(university: University) -> None:
    documents = [page for page in pages() if page.is_pdf]
    assert len(documents) >= 3
    for page in documents:
        _, body = get(university, page.id)
        read = "\n".join(sheet.extract_text() for sheet in pypdf.PdfReader(io.BytesIO(body)).pages)
        assert read.split() == f"{page.title} {build.plain(page)}".split()


def test_the_planted_orders_are_served_and_the_hidden_ones_are_in_no_plain_text() -> None:
    shown = [page for page in pages() if page.slug in planted.PAGES]
    source = "\n".join(answers()[page.id].body.decode() for page in shown)
    read = "\n".join(build.plain(page) for page in shown)
    assert all(order in read for order in planted.ORDERS)
    assert all(address in source for address in planted.FOREIGN) and "<script" in source
    assert not any(hidden in read for hidden in planted.HIDDEN[:4])
