"""Crawls of a real site on loopback that has every trap: what is kept, what is said, and how politely it is asked."""

import json
import os
import signal
import ssl
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from engine.errors import ConfigurationError, Conflict, CrawlError
from engine.settings import Settings
from rag.__main__ import main
from rag.crawl import process, report, store
from rag.crawl.lock import locked
from rag.crawl.options import CrawlOptions
from rag.crawl.report import CrawlStatus, ReportRow
from tests.processes import require
from tests.serving import until
from tests.trapsite import DOMAIN, WWW, Asked, TrapSite, trap_site
from tests.university.pages import pages
from tests.university.serving import START, serving

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


def options(site: TrapSite, **changes: object) -> CrawlOptions:
    quick = CrawlOptions(
        seeds=(f"http://{WWW}/",), contact="web@falle.example", delay_s=0.02, timeout_s=2, backoff_s=0.05,
        html_bytes=200_000, resolve=tuple(site.resolve),
    )  # fmt: skip
    return replace(quick, **changes)  # type: ignore[arg-type]


def many(site: TrapSite, **changes: object) -> CrawlOptions:
    """Seven hosts with ten pages each, which link to one another."""
    return options(site, seeds=("http://h1.viele.example/",), domains=("viele.example",), delay_s=0, **changes)


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


def test_a_second_crawl_of_an_unchanged_site_downloads_next_to_nothing(tmp_path: Path) -> None:
    with trap_site() as site:
        # given a crawl of one host
        wanted = many(site, max_hosts=1)
        first = process.crawl(tmp_path, wanted)
        site.log.clear()
        # when it is crawled again
        second = process.crawl(tmp_path, wanted)
    # then the same pages are kept without a byte of any
    assert first.pages == second.pages == 10 and first.bytes > 1000
    pages = [one for one in site.log if one.path != "/robots.txt" and one.path != "/sitemap.xml"]
    assert {one.status for one in pages} == {304} and len(pages) == 10
    assert second.counts["not modified"] == 10
    assert sum(row.bytes for row in report.rows(tmp_path, outcome="not modified")) == 0


def test_a_page_that_is_gone_is_counted_and_forgotten_only_later(tmp_path: Path) -> None:
    with trap_site() as site:
        wanted = many(site, max_hosts=1)
        process.crawl(tmp_path, wanted)
        site.gone.add("/seite-3.html")
        counted = []
        for _ in range(3):
            process.crawl(tmp_path, wanted)
            counted += [[page.missing_times for page in store.kept(tmp_path) if page.url.endswith("/seite-3.html")]]
    assert counted == [[1], [2], []]


def test_a_site_that_is_down_for_a_day_loses_no_page(tmp_path: Path) -> None:
    with trap_site() as site:
        wanted = many(site, max_hosts=1, attempts=1)
        process.crawl(tmp_path, wanted)
    down = process.crawl(tmp_path, wanted)
    assert down.counts["error"] == 11 and {page.missing_times for page in store.kept(tmp_path)} == {0}
    assert down.pages == 10


def test_a_page_that_nothing_leads_to_any_longer_is_still_asked_for(tmp_path: Path) -> None:
    with trap_site() as site:
        process.crawl(tmp_path, many(site, max_hosts=1, sitemaps=("http://h1.viele.example/liste.xml",)))
        site.log.clear()
        site.gone.add("/")
        process.crawl(tmp_path, many(site, max_hosts=1))
        assert "/seite-9.html" in site.asked("h1.viele.example")
    assert sum(page.missing_times == 0 for page in store.kept(tmp_path)) == 9


@pytest.mark.parametrize(
    ("caps", "ended_by", "pages", "hosts"),
    [
        ({"max_pages": 12}, "pages", 12, 7),
        ({"max_hosts": 3}, "hosts", 30, 3),
        ({"pages_per_host": 2}, "pages per host", 14, 7),
        ({"max_requests": 9}, "requests", None, None),
        ({}, "nothing left", 70, 7),
    ],
)
def test_a_crawl_keeps_to_its_caps_and_says_which_ended_it(
    tmp_path: Path, caps: dict[str, int], ended_by: str, pages: int | None, hosts: int | None
) -> None:
    with trap_site() as site:
        done = process.crawl(tmp_path, many(site, **caps))
        asked = {one.host for one in site.log}
    assert done.ended_by == ended_by
    if pages is None:
        assert done.requests == pytest.approx(9, abs=8)  # requests under way are not cut short
        return
    assert (done.pages, len(list(store.kept(tmp_path)))) == (pages, pages)
    assert len(asked) == hosts
    per_host = Counter(row.host for row in report.rows(tmp_path, outcome="kept"))
    # Hosts take turns, so none is far ahead; the first is a little, as the others are found on its first page.
    assert max(per_host.values()) - min(per_host.values()) <= 2


def certificate(folder: Path, host: str) -> Path:
    """A certificate for a host, signed by itself; `key.pem` is beside it."""
    path = folder / "certificate.pem"
    subject = ["-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host}"]
    made = [
        require("openssl"),
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        folder / "key.pem",
        "-out",
        path,
    ]
    subprocess.run([*made, *subject], check=True, capture_output=True, timeout=30)
    return path


def test_https_is_checked_against_the_name_although_the_address_is_pinned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a site whose certificate is for one of its two names
    path = certificate(tmp_path, "www.sicher.example")
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    named: list[str] = []
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(path, tmp_path / "key.pem")
    tls.sni_callback = lambda _socket, name, _context: named.append(name)
    with trap_site(tls) as site:
        # when both are crawled
        seeds, resolve = ("https://www.sicher.example/",), (f"*.sicher.example:443:127.0.0.1:{site.port}",)
        process.crawl(tmp_path / "sicher", options(site, seeds=seeds, resolve=resolve))
    # then one is kept, and the other refused for its name
    told = {row.url: row for row in report.rows(tmp_path / "sicher") if row.kind == "page"}
    assert told["https://www.sicher.example/"].outcome == "kept"
    refused = told["https://falsch.sicher.example/"]
    assert refused.outcome == "error" and "certificate is not valid for 'falsch.sicher.example'" in refused.reason
    # Trying again would not make the certificate a better one.
    assert set(named) == {"www.sicher.example", "falsch.sicher.example"} and named.count("falsch.sicher.example") == 1


def test_the_made_up_university_is_crawled_whole(tmp_path: Path) -> None:
    with serving() as university:
        wanted = CrawlOptions(
            (START,), contact="web@falle.example", delay_s=0, max_pages=1000, resolve=university.resolve
        )
        done = process.crawl(tmp_path, wanted)
    assert {page.url for page in store.kept(tmp_path)} == {page.url for page in pages()}
    assert done.ended_by == "nothing left" and done.hosts == 7
    assert not [target for target in university.asked if "/intern/" in target]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("ENGINE_HOME", str(tmp_path))
    monkeypatch.delenv("ENGINE_LOCAL", raising=False)
    monkeypatch.setenv("ENGINE_CONTACT", "web@falle.example")
    return Settings.from_env(os.environ)


def arguments(site: TrapSite, delay_s: float) -> list[str]:
    resolve = [word for one in site.resolve for word in ("--resolve", one)]
    return ["http://h1.viele.example/", "--domain", "viele.example", "--delay-s", str(delay_s), *resolve]


def test_after_kill_9_the_next_run_continues(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    folder = store.folder_of(settings, "viele")
    with trap_site() as site:
        # given a crawl in the background that is killed half-way
        pid = process.start(settings, "viele", [*arguments(site, 0.1), "--concurrency", "2"])
        assert report.status(folder).state == "running"
        until(lambda: len(site.log) > 20, 20, "some pages are asked for")
        os.kill(pid, signal.SIGKILL)
        until(lambda: report.status(folder).state == "interrupted", 20, "it is seen to be dead")
        assert 0 < report.status(folder).pages < 70
        # when it is run again, without being told what
        assert main(["crawl", "--name", "viele", "--delay-s", "0", "--json"]) == 0
        # then it goes on, and asks for no page again but those that were under way
        found = json.loads(capsys.readouterr().out)
        assert (found["crawl"], found["state"], found["pages"]) == (1, "done", 70)
        again = [path for path, times in Counter((one.host, one.path) for one in site.log).items() if times > 1]
        assert len([path for _, path in again if path not in ("/robots.txt", "/sitemap.xml")]) <= 2


def test_a_crawl_pauses_and_goes_on(settings: Settings) -> None:
    folder = store.folder_of(settings, "viele")
    with trap_site() as site:
        process.start(settings, "viele", arguments(site, 0.1))
        until(lambda: len(site.log) > 10, 20, "some pages are asked for")
        with pytest.raises(Conflict, match="crawls into"), locked(folder):
            pass
        assert main(["pause"]) == 0
        paused = report.status(folder)
        assert paused.state == "paused" and 0 < paused.pages < 70 and paused.waiting
        assert main(["crawl", "--delay-s", "0"]) == 0
    assert report.status(folder).pages == 70 and report.status(folder).crawl == 1
    with pytest.raises(CrawlError, match="no crawl runs"):
        process.pause(folder)


def test_ctrl_c_pauses_a_crawl(tmp_path: Path) -> None:
    with trap_site() as site:

        def press() -> None:
            until(lambda: len(site.log) > 10, 20, "some pages are asked for")
            os.kill(os.getpid(), signal.SIGINT)

        pressing = threading.Thread(target=press)
        pressing.start()
        assert process.crawl(tmp_path, many(site, concurrency=1)).state == "paused"
        pressing.join()
        assert process.crawl(tmp_path, many(site)).pages == 70


@pytest.mark.slow
def test_a_crawl_that_cannot_begin_says_why(settings: Settings) -> None:
    with pytest.raises(CrawlError, match=r"did not begin: rag: .*no domain"):
        process.start(settings, "x", ["https://www.thi.de/", "--domain", "de"])


def test_the_command_line_crawls_and_tells(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    with trap_site() as site:
        assert main(["crawl", *arguments(site, 0), "--max-pages", "12"]) == 0
    assert "viele.example: crawl 1 is done, ended by: pages" in capsys.readouterr().out
    assert main(["status", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["pages"] == 12 and len(told["by_host"]) == 7
    assert main(["status", "viele.example", "--urls", "--outcome", "kept"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert len(table) == 13 and table[0].startswith("url,host")
    assert (
        main(["crawl", "http://tot.falle.example/", "--resolve", "tot.falle.example:80:127.0.0.1:1", "--attempts", "1"])
        == 1
    )
    assert "no page was kept; http://tot.falle.example/: error, All connection" in capsys.readouterr().err
    assert main(["crawl", "ftp://thi.de/"]) == 2
    assert capsys.readouterr().err == "rag: 'ftp://thi.de/' is no http or https address\n"
    assert main(["status", "gibt-es-nicht"]) == 1
    assert "nothing was crawled" in capsys.readouterr().err


def test_a_crawl_without_an_address_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="needs an address"):
        process.crawl(tmp_path, CrawlOptions())
