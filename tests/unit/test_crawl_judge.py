"""What an answer means for its address, and what the frontier keeps of it."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from rag.crawl import store
from rag.crawl.discovery import Discovery
from rag.crawl.fetch import Reply
from rag.crawl.frontier import Frontier
from rag.crawl.judge import Judged, Link, copy_of, judge
from rag.crawl.options import CrawlOptions, options_of
from rag.crawl.scope import scope_of
from rag.crawl.visit import Visit, Waiting

URL = "https://www.thi.de/studium/fristen.html"
AT = "2026-11-28T12:00:00+00:00"
SCOPE = scope_of(["https://www.thi.de/"])
BODY = b"<html><a href='/a'>A</a><a href='/liste?seite=2'>B</a></html>"
DIGEST = hashlib.sha256(BODY).hexdigest()
NEW = Waiting(1, URL, "www.thi.de", "page", 1, 0, 0, False, "", "", "", "", "", "", 0)
KNOWN = replace(
    NEW, kept=True, body=DIGEST, content_type="text/html", charset="utf-8", etag='"1"', last_modified="Mon",
    fetched_at="2026-01-01T00:00:00+00:00",
)  # fmt: skip


def page(body: bytes = BODY, **headers: str) -> Reply:
    return Reply(URL, 200, {"content-type": "text/html", **headers}, "text/html", body, len(body), 5)


def judged(reply: Reply, row: Waiting = NEW, stored: bytes = b"") -> Judged:
    return judge(reply, row, stored, SCOPE, AT)


def test_a_page_is_kept_with_what_it_leads_to() -> None:
    found = judged(page(etag='"2"'))
    assert found.visit == Visit(
        "kept", status=200, bytes=len(BODY), ms=5, kept=True, body=DIGEST, content_type="text/html", charset="utf-8",
        etag='"2"', fetched_at=AT,
    )  # fmt: skip
    # A view of a list waits longer than a page.
    assert found.links == (Link("https://www.thi.de/a", 2), Link("https://www.thi.de/liste?seite=2", 3))


def test_a_page_that_was_not_modified_keeps_its_copy_and_still_leads_on() -> None:
    found = judged(Reply(URL, 304), KNOWN, BODY)
    assert (found.visit.outcome, found.visit.kept, found.visit.body) == ("not modified", True, DIGEST)
    assert (found.visit.etag, found.visit.fetched_at) == ('"1"', KNOWN.fetched_at)
    assert len(found.links) == 2


def test_the_same_body_again_is_said_to_be_unchanged() -> None:
    assert (judged(page(), KNOWN).visit.outcome, judged(page(), KNOWN).visit.reason) == ("kept", "unchanged")


@pytest.mark.parametrize(
    ("status", "location", "outcome", "reason"),
    [
        (301, "/neu", "redirect", "to https://www.thi.de/neu"),
        (308, "https://thi.de.example/", "redirect", "to https://thi.de.example/"),
        (302, "", "error", "302: redirects to nowhere"),
        (302, "mailto:a@thi.de", "error", "302: redirects to nowhere"),
        (302, "fristen.html#x", "error", "302: redirects to itself"),
        (302, f"{URL}?PHPSESSID=1", "error", "302: redirects to itself"),
    ],
)
def test_a_redirect_leads_to_an_address_of_its_own(status: int, location: str, outcome: str, reason: str) -> None:
    found = judged(Reply(URL, status, {"location": location} if location else {}))
    assert (found.visit.outcome, found.visit.reason) == (outcome, reason)
    assert [link.hops for link in found.links] == ([1] if outcome == "redirect" else [])


def test_redirects_end() -> None:
    assert judged(Reply(URL, 301, {"location": "/neu"}), replace(NEW, hops=5)).visit.outcome == "error"


@pytest.mark.parametrize(
    ("status", "kept", "missing"),
    [(301, False, False), (302, None, True), (404, None, True), (410, None, True), (403, None, True)],
)
def test_a_kept_page_that_is_elsewhere_or_gone_is_given_time(status: int, kept: bool | None, missing: bool) -> None:
    visit = judged(Reply(URL, status, {"location": "/neu"}), KNOWN).visit
    assert (visit.kept, visit.missing) == (kept, missing)


def test_a_server_in_trouble_says_nothing_about_its_pages() -> None:
    for reply in (Reply(URL, 500), Reply(URL, 999), page(b" \n")):
        visit = judged(reply, KNOWN).visit
        assert (visit.outcome, visit.kept, visit.missing) == ("error", None, False)


@pytest.mark.parametrize(
    ("canonical", "outcome"),
    [
        ("https://www.thi.de/studium/fristen", "duplicate"),
        (URL, "kept"),
        (f"{URL}?utm_source=x", "kept"),
        ("https://thi.de.example/fristen", "kept"),
        ("/", "kept"),  # a template's mistake
        ("javascript:x", "kept"),
    ],
)
def test_a_canonical_address_is_believed_where_it_can_be(canonical: str, outcome: str) -> None:
    found = judged(page(f'<link rel="canonical" href="{canonical}">Fristen'.encode()))
    assert found.visit.outcome == outcome
    if outcome == "duplicate":
        assert found.visit.leads_to == canonical and found.visit.body and not found.visit.kept
        assert found.links == (Link(canonical, 1),)


def test_a_page_that_does_not_want_to_be_indexed_is_not_kept_but_leads_on() -> None:
    found = judged(page(BODY, **{"x-robots-tag": "noindex"}), KNOWN)
    assert (found.visit.outcome, found.visit.kept, len(found.links)) == ("noindex", False, 2)
    pdf = Reply(URL, 200, {"x-robots-tag": "none"}, "application/pdf", b"%PDF-")
    assert judged(pdf).visit.outcome == "noindex"


def test_a_copy_leads_to_what_is_kept() -> None:
    copy = copy_of(judged(page()), "https://www.thi.de/b")
    assert (copy.visit.outcome, copy.visit.leads_to, copy.visit.kept) == ("duplicate", "https://www.thi.de/b", False)
    assert len(copy.links) == 2


def test_a_sitemap_leads_to_pages_and_to_sitemaps_up_to_a_depth() -> None:
    index = b"<sitemapindex><sitemap><loc>https://thi.de/s.xml</loc></sitemap></sitemapindex>"
    reply = Reply(URL, 200, {}, "application/xml", index)
    assert judged(reply, replace(NEW, kind="sitemap", depth=0)).links == (
        Link("https://thi.de/s.xml", 1, kind="sitemap"),
    )
    assert judged(reply, replace(NEW, kind="sitemap", depth=2)).links == ()


OPTIONS = CrawlOptions(
    seeds=("https://www.thi.de/",), contact="web@thi.de", resolve=("thi.de:443:127.0.0.1",)
).checked()


def begun(folder: Path) -> tuple[Frontier, Discovery]:
    frontier = Frontier(folder)
    frontier.begin(OPTIONS.as_json())
    return frontier, Discovery(frontier, OPTIONS)


def test_options_survive_being_kept() -> None:
    assert options_of(OPTIONS.as_json()) == OPTIONS


def test_a_page_and_what_it_leads_to_are_written_together_or_not_at_all(tmp_path: Path) -> None:
    # given an address whose turn it is
    frontier, discovery = begun(tmp_path)
    with frontier.transaction():
        discovery.meet(Link(URL, 0), "")
    row = frontier.next_of("www.thi.de", 0)
    assert row
    # when the process fails between the page and its links
    with pytest.raises(ZeroDivisionError), frontier.transaction():
        frontier.finish(row, Visit("kept", kept=True, body=store.write_body(tmp_path, BODY)))
        discovery.meet(Link("https://www.thi.de/a", 1), URL)
        raise ZeroDivisionError
    frontier.close()
    # then the next one finds the address waiting, and knows of no link
    frontier, _ = begun(tmp_path)
    assert frontier.crawl == 1 and frontier.asked() == [URL] and frontier.pages_kept() == 0
    frontier.close()


def test_shallow_pages_come_first_and_postponed_ones_when_it_is_time(tmp_path: Path) -> None:
    frontier, discovery = begun(tmp_path)
    for path, depth in (("tief", 3), ("flach", 1), ("auch-flach", 1)):
        with frontier.transaction():
            discovery.meet(Link(f"https://www.thi.de/{path}", depth), "")
    first = frontier.next_of("www.thi.de", 100)
    assert first and first.url.endswith("/flach")
    frontier.postpone(first, 200, "answered 503")
    order = [row.url.rpartition("/")[2] for moment in (100, 200) if (row := frontier.next_of("www.thi.de", moment))]
    assert order == ["auch-flach", "flach"]
    assert frontier.waiting_hosts() == {"www.thi.de": 0}
    frontier.close()


def test_an_address_is_met_once_in_a_crawl(tmp_path: Path) -> None:
    frontier, discovery = begun(tmp_path)
    with frontier.transaction():
        discovery.meet(Link(URL, 1), "https://www.thi.de/a")
        discovery.meet(Link(URL, 0), "https://www.thi.de/b")
    row = frontier.row(URL)
    assert row and row.depth == 1
    frontier.close()


def test_a_private_host_is_refused_before_anything_else(tmp_path: Path) -> None:
    frontier, discovery = begun(tmp_path)
    with frontier.transaction():
        for url in ("http://localhost/", "http://192.168.0.1/bild.jpg", "https://thi.de.example/bild.jpg"):
            discovery.meet(Link(url, 1), URL)
    assert frontier.waiting_hosts() == {}
    frontier.close()
    with store.connect_to_read(tmp_path) as database:
        assert [row["outcome"] for row in database.execute("SELECT outcome FROM pages ORDER BY id")] == [
            "private", "private", "scope",
        ]  # fmt: skip
    database.close()


def test_bodies_are_stored_once_and_removed_when_nothing_refers_to_them(tmp_path: Path) -> None:
    first, second = store.write_body(tmp_path, b"a"), store.write_body(tmp_path, b"b")
    assert store.write_body(tmp_path, b"a") == first and len(list(tmp_path.glob("bodies/*/*"))) == 2
    store.remove_bodies_except(tmp_path, {second})
    assert not store.has_body(tmp_path, first) and store.read_body(tmp_path, second) == b"b"
