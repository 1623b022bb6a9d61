"""Crawls again, with caps, paused, killed, over https, and from the command line."""

import json
import os
import signal
import ssl
import subprocess
import threading
from collections import Counter
from pathlib import Path

import pytest

from engine.errors import ConfigurationError, Conflict, CrawlError
from engine.settings import Settings
from rag.__main__ import main
from rag.crawl import process, report, store
from rag.crawl.lock import locked
from rag.crawl.options import CrawlOptions
from tests.processes import require
from tests.serving import until
from tests.trapsite import TrapSite, many, options, trap_site
from tests.university.pages import pages
from tests.university.serving import START, serving


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
