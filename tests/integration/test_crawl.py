"""A crawl of a real site on loopback that has every trap: what is kept, what is said, and how politely it asks."""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from rag.crawl import process, report, store
from rag.crawl.report import CrawlStatus, ReportRow
from tests.trapsite import DOMAIN, WWW, Asked, TrapSite, options, trap_site

MONTHS = [f"/kalender/{2026 + (10 + n) // 12}/{(10 + n) % 12 + 1:02}" for n in range(25)]
PAGES = {
    *(f"http://{WWW}{path}" for path in MONTHS[:24]),
    *(f"http://bib.{DOMAIN}/{path}" for path in ("", "0.html", "1.html", "2.html", "3.html")),
    *(
        f"http://{WWW}/{path}"
        for path in (
            "", "a.html", "aus-noindex.html", "de/seite.html", "en/page.html", "doch-utf8.html", "header-luegt.html",
            "meta-latin.html", "info.pdf", "intern/offen.html", "kanon", "kanon-kaputt.html", "nofollow.html",
            "nur-sitemap.html", "schleife/", "schleife/schleife/", "sitzung.html", "wackelig.html", "ziel.html",
        )
    ),
}  # fmt: skip
# Every address that is not kept, and why: outcome, reason, status.
LEFT_OUT = {
    f"http://{WWW}/robots.txt": ("read", "", 200),
    f"http://bib.{DOMAIN}/robots.txt": ("read", "", 200),
    f"http://{DOMAIN}/robots.txt": ("missing", "404: no rules", 404),
    f"http://langsam.{DOMAIN}/robots.txt": ("missing", "404: no rules", 404),
    f"http://tot.{DOMAIN}/robots.txt": ("error", "All connection attempts failed", 0),
    f"http://zu.{DOMAIN}/robots.txt": ("robots", "robots.txt answered 503", 503),
    f"http://{WWW}/sitemap.xml": ("read", "", 200),
    f"http://{WWW}/sitemap-1.xml.gz": ("read", "", 200),
    f"http://{WWW}/a.html?print=1": ("trap", "print view", 0),
    f"http://{WWW}/doppelt.html": ("duplicate", f"the same as http://{WWW}/a.html", 200),
    f"http://{WWW}/kanon?sicht=2": ("duplicate", f"names http://{WWW}/kanon as canonical", 200),
    f"http://{WWW}/intern/geheim.html": ("robots", "disallowed by robots.txt", 0),
    f"http://{WWW}/suche?action=los": ("robots", "disallowed by robots.txt", 0),
    f"http://{WWW}/noindex.html": ("noindex", "asks not to be indexed", 200),
    f"http://{WWW}/weiter": ("redirect", f"to http://{WWW}/ziel.html", 301),
    **{f"http://{WWW}/kette/{n}": ("redirect", f"to http://{WWW}/kette/{n + 1}", 302) for n in range(1, 6)},
    f"http://{WWW}/kette/6": ("error", "more than 5 redirects in a row", 302),
    f"http://{WWW}/kreis": ("error", "301: redirects to itself", 301),
    f"http://{WWW}/zum-nachbarn": ("redirect", f"to http://{DOMAIN}.boese.example/weiter", 302),
    f"http://{WWW}/nach-innen/1": ("redirect", "to http://10.0.0.1/", 302),
    f"http://{WWW}/nach-innen/2": ("redirect", "to http://127.0.0.1/geheim", 302),
    f"http://{WWW}/nach-innen/3": ("redirect", "to http://169.254.169.254/latest/meta-data", 307),
    "http://10.0.0.1/": ("private", "10.0.0.1 is a private address", 0),
    "http://127.0.0.1/geheim": ("private", "127.0.0.1 is a private address", 0),
    "http://169.254.169.254/latest/meta-data": ("private", "169.254.169.254 is a private address", 0),
    "http://[::ffff:169.254.169.254]/latest/": ("private", "::ffff:169.254.169.254 is a private address", 0),
    f"http://{DOMAIN}.boese.example/": ("scope", f"not under {DOMAIN}", 0),
    f"http://{DOMAIN}.boese.example/weiter": ("scope", f"not under {DOMAIN}", 0),
    f"http://asta-{DOMAIN}/": ("scope", f"not under {DOMAIN}", 0),
    "http://fremd.example/": ("scope", f"not under {DOMAIN}", 0),
    "http://fremd.example/untergeschoben.html": ("scope", f"not under {DOMAIN}", 0),
    f"http://{WWW}{MONTHS[24]}": ("trap", "more than 24 addresses that differ by a date", 0),
    f"http://{WWW}/schleife/schleife/schleife/": ("trap", "'schleife' comes 3 times in the path", 0),
    f"http://{WWW}/{'lang' * 600}": ("trap", "longer than 2000 characters", 0),
    f"http://{WWW}/gross.html": ("too large", "300,000 bytes announced, 200,000 allowed", 200),
    f"http://{WWW}/endlos.html": ("too large", "more than 200,000 bytes", 200),
    f"http://{WWW}/bild.JPG": ("type", "ends in .jpg", 0),
    f"http://{WWW}/daten": ("type", "application/json", 200),
    f"http://{WWW}/falsch.pdf": ("type", "application/pdf, but not a PDF", 200),
    f"http://{WWW}/fehlt.html": ("missing", "404 Not Found", 404),
    f"http://{WWW}/gibt-es-nicht": ("missing", "404 Not Found", 404),
    f"http://{WWW}/kaputt.html": ("error", "500 Internal Server Error", 500),
    f"http://{DOMAIN}/": ("redirect", f"to http://{WWW}/", 301),
    f"http://zu.{DOMAIN}/": ("robots", "robots.txt answered 503", 0),
    f"http://langsam.{DOMAIN}/traege.html": ("error", "no answer within 2 s", 0),
    f"http://tot.{DOMAIN}/": ("error", "All connection attempts failed", 0),
}


@pytest.fixture(scope="module")
def crawled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, TrapSite, CrawlStatus]]:
    """The trap site, crawled once."""
    folder = tmp_path_factory.mktemp("crawl") / "falle"
    with trap_site() as site:
        yield folder, site, process.crawl(folder, options(site))


def of(log: list[Asked], host: str) -> list[Asked]:
    return sorted((one for one in log if one.host == host), key=lambda one: one.began)


def test_exactly_the_right_pages_are_kept(crawled: tuple[Path, TrapSite, CrawlStatus]) -> None:
    folder, _, done = crawled
    assert {page.url for page in store.kept(folder)} == PAGES
    assert (done.state, done.ended_by, done.pages, done.waiting) == ("done", "nothing left", len(PAGES), 0)


def test_the_report_says_of_every_address_what_happened_and_why(crawled: tuple[Path, TrapSite, CrawlStatus]) -> None:
    folder, _, done = crawled
    told = {row.url: (row.outcome, row.reason, row.status) for row in report.rows(folder)}
    kept_anyway = f"its canonical address http://{WWW}/gibt-es-nicht is not kept"
    assert told == {
        **LEFT_OUT,
        **{url: ("kept", kept_anyway if url.endswith("/kanon-kaputt.html") else "", 200) for url in PAGES},
    }
    assert done.counts == Counter(outcome for outcome, _, _ in told.values())


def test_the_report_is_paged_filtered_and_written_as_csv(crawled: tuple[Path, TrapSite, CrawlStatus]) -> None:
    folder, _, _ = crawled
    rows = report.rows(folder, outcome="kept")
    assert report.rows(folder, outcome="kept", limit=2, offset=1) == rows[1:3]
    assert report.count(folder, outcome="kept") == len(rows) == len(PAGES)
    assert {row.host for row in report.rows(folder, host=f"bib.{DOMAIN}")} == {f"bib.{DOMAIN}"}
    assert [row.url for row in report.rows(folder, text="announced")] == [f"http://{WWW}/gross.html"]
    found = next(row for row in rows if row.url.endswith("/ziel.html"))
    assert found.found_on == f"http://{WWW}/weiter" and found.bytes > 100 and found.content_type == "text/html"
    assert report.as_csv([found]).splitlines()[0].startswith("url,host,kind,outcome,reason,status,bytes,ms")
    assert isinstance(found, ReportRow) and report.as_csv([found]).splitlines()[1].startswith(f"{found.url},{WWW},page")


def test_a_kept_page_comes_with_its_addresses_twins_and_charset(crawled: tuple[Path, TrapSite, CrawlStatus]) -> None:
    pages = {page.url: page for page in store.kept(crawled[0])}
    assert pages[f"http://{WWW}/"].urls == (f"http://{WWW}/", f"http://{DOMAIN}/")
    assert pages[f"http://{WWW}/a.html"].urls == (f"http://{WWW}/a.html", f"http://{WWW}/doppelt.html")
    assert pages[f"http://{WWW}/kanon"].urls == (f"http://{WWW}/kanon", f"http://{WWW}/kanon?sicht=2")
    assert pages[f"http://{WWW}/ziel.html"].urls == (f"http://{WWW}/ziel.html", f"http://{WWW}/weiter")
    assert pages[f"http://{WWW}/de/seite.html"].twins == {"en": f"http://{WWW}/en/page.html"}
    texts = {url: page.body.decode(page.charset) for url, page in pages.items() if page.content_type == "text/html"}
    assert "Öffnungszeiten" in texts[f"http://{WWW}/header-luegt.html"]
    assert "Gebühr 5 €" in texts[f"http://{WWW}/meta-latin.html"]
    assert "Prüfungsamt" in texts[f"http://{WWW}/doch-utf8.html"]
    pdf = pages[f"http://{WWW}/info.pdf"]
    assert (pdf.content_type, pdf.charset, pdf.body[:5]) == ("application/pdf", "", b"%PDF-")
    assert pdf.etag and pdf.last_modified and pdf.fetched_at


def test_nobody_outside_is_asked(crawled: tuple[Path, TrapSite, CrawlStatus]) -> None:
    _, site, _ = crawled
    assert {one.host for one in site.log} == {DOMAIN, WWW, *(f"{name}.{DOMAIN}" for name in ("bib", "zu", "langsam"))}
    assert not [path for path in site.asked(WWW) if "geheim" in path or "nie.html" in path]


def test_a_body_without_end_is_not_read(crawled: tuple[Path, TrapSite, CrawlStatus]) -> None:
    _, site, done = crawled
    assert done.bytes < 1_000_000
    assert next(one.sent for one in site.log if one.path == "/endlos.html") < 20_000_000


def test_a_host_is_asked_one_request_at_a_time_with_a_pause(crawled: tuple[Path, TrapSite, CrawlStatus]) -> None:
    _, site, _ = crawled
    for host, delay_s in ((WWW, 0.02), (f"bib.{DOMAIN}", 0.3)):
        asked = of(site.log, host)
        assert len(asked) > 5
        pauses = [after.began - before.ended for before, after in pairwise(asked)]
        # The server notes the end of an answer a moment after the client has it.
        assert min(pauses) >= delay_s - 0.01, f"{host}: {min(pauses)}"


def test_a_host_in_trouble_is_left_alone_as_long_as_it_says(crawled: tuple[Path, TrapSite, CrawlStatus]) -> None:
    _, site, _ = crawled
    first, second = (one for one in of(site.log, WWW) if one.path == "/wackelig.html")
    assert (first.status, second.status) == (503, 200)
    between = [one for one in site.log if one.host == WWW and first.ended < one.began < first.ended + 0.99]
    assert second.began - first.ended >= 1 and between == []


def test_what_fails_for_the_moment_is_tried_three_times_and_the_rest_once(
    crawled: tuple[Path, TrapSite, CrawlStatus],
) -> None:
    _, site, _ = crawled
    times = Counter(site.asked(WWW))
    assert times["/kaputt.html"] == 3 and times["/wackelig.html"] == 2
    assert {path for path, number in times.items() if number > 1} == {"/kaputt.html", "/wackelig.html"}
    assert site.asked(f"zu.{DOMAIN}") == ["/robots.txt"] * 3


def test_a_slow_host_does_not_hold_up_the_others(crawled: tuple[Path, TrapSite, CrawlStatus]) -> None:
    _, site, _ = crawled
    slow = of(site.log, f"langsam.{DOMAIN}")[1]
    meanwhile = [one for one in of(site.log, WWW) if slow.began < one.began < slow.ended]
    assert slow.ended - slow.began > 1.5 and len(meanwhile) > 5


def test_the_crawler_says_who_it_is(crawled: tuple[Path, TrapSite, CrawlStatus]) -> None:
    _, site, _ = crawled
    assert {one.user_agent for one in site.log} == {"scalable-engine-crawler/1.0 (+mailto:web@falle.example)"}
