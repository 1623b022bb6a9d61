"""What a crawler reads in pages, sitemaps, robots.txt and headers."""

import gzip
import time
from email.utils import formatdate

import pytest

from rag.crawl.charset import charset_of
from rag.crawl.fetch import Reply
from rag.crawl.page import read_page
from rag.crawl.robots import robots_of, user_agent
from rag.crawl.sitemap import read_sitemap

URL = "https://www.thi.de/studium/"
TEXT = "Prüfungsgebühr: 5 €"


@pytest.mark.parametrize(
    ("body", "header"),
    [
        (TEXT.encode(), "text/html; charset=utf-8"),
        (TEXT.encode(), "text/html; charset=iso-8859-1"),
        (TEXT.encode(), "text/html"),
        (b"\xef\xbb\xbf" + TEXT.encode(), "text/html; charset=windows-1252"),
        (TEXT.encode("utf-16"), "text/html"),
        (TEXT.encode("cp1252"), "text/html; charset=utf-8"),
        (TEXT.encode("cp1252"), "text/html; charset=iso-8859-1"),
        (TEXT.encode("cp1252"), 'text/html; charset="Windows-1252"'),
        (TEXT.encode("cp1252"), "text/html; charset=unheard-of"),
        (b'<meta charset="iso-8859-15">' + TEXT.encode("iso-8859-15"), "text/html"),
        (b"<meta http-equiv='Content-Type' content='text/html; charset=iso-8859-1'>" + TEXT.encode("cp1252"), ""),
    ],
)
def test_a_page_is_read_right_whatever_it_says_of_its_charset(body: bytes, header: str) -> None:
    assert TEXT in body.decode(charset_of(body, header), errors="replace")


def test_a_page_tells_where_it_leads() -> None:
    page = read_page(
        URL,
        """<base href="/neu/"><a href="a.html">A</a> <a href="a.html#x">A</a> <a href=''>leer</a>
        <a href="#oben">oben</a>
        <a rel="nofollow noopener" href="login">Anmelden</a> <area href="/karte"> <iframe src="/rahmen"></iframe>
        <!-- <a href="/kommentar">nicht</a> --> <a href="mailto:a@b.de">Mail</a>
        <meta http-equiv="Refresh" content="0; URL='/weiter'">""",
    )
    assert page.links == tuple(f"https://www.thi.de/{one}" for one in ("neu/a.html", "karte", "rahmen", "weiter"))


def test_an_xhtml_page_is_read_like_any_other() -> None:
    page = read_page(URL, "<?xml version='1.0' encoding='utf-8'?>\n<html><a href='/a'>A</a></html>")
    assert page.links == ("https://www.thi.de/a",)


def test_a_page_tells_its_canonical_address_and_its_twins() -> None:
    page = read_page(
        URL,
        """<link rel="canonical" href="/studium"> <link rel="alternate" hreflang="de" href="/studium/">
        <link rel="alternate" hreflang="EN" href="/en/studies/"> <link rel="alternate" hreflang="x-default" href="/">
        <link rel="stylesheet" href="/a.css">""",
    )
    assert page.canonical == "https://www.thi.de/studium"
    assert page.twins == {"en": "https://www.thi.de/en/studies/"}
    assert page.links == ("https://www.thi.de/en/studies/",)


@pytest.mark.parametrize(
    ("meta", "header", "noindex", "nofollow"),
    [
        ("", "", False, False),
        ('<meta name="ROBOTS" content="NoIndex, follow">', "", True, False),
        ('<meta name="robots" content="none">', "", True, True),
        ('<meta name="scalable-engine-crawler" content="nofollow">', "", False, True),
        ('<meta name="otherbot" content="noindex">', "", False, False),
        ("", "noindex", True, False),
        ("", "otherbot: noindex", False, False),
        ("", "scalable-engine-crawler: noindex, nofollow", True, True),
    ],
)
def test_a_page_says_what_may_be_done_with_it(meta: str, header: str, noindex: bool, nofollow: bool) -> None:
    page = read_page(URL, f"{meta}<a href='/a'>a</a>", header)
    assert (page.noindex, page.nofollow, bool(page.links)) == (noindex, nofollow, not nofollow)


def test_a_sitemap_lists_pages_or_sitemaps() -> None:
    urls = b"""<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>
    <urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"><url><loc> https://thi.de/a?utm_source=s </loc></url>
    <url><loc>https://thi.de/a</loc><lastmod>2026-11-01</lastmod></url><url><loc>&e;</loc></url></urlset>"""
    index = b"<sitemapindex><sitemap><loc>https://thi.de/s1.xml</loc></sitemap></sitemapindex>"
    assert read_sitemap(urls).pages == read_sitemap(gzip.compress(urls)).pages == ("https://thi.de/a",)
    assert read_sitemap(index).sitemaps == ("https://thi.de/s1.xml",)


@pytest.mark.parametrize("body", [b"", b"<html>404</html>", b"\x1f\x8bnot gzip", b"<urlset><url>", b"kein Text"])
def test_what_is_no_sitemap_lists_nothing(body: bytes) -> None:
    assert read_sitemap(body).pages == ()


def test_a_sitemap_may_be_lines_of_text() -> None:
    assert read_sitemap(b"https://thi.de/a\nhttps://thi.de/b\n").pages == ("https://thi.de/a", "https://thi.de/b")


RULES = b"""User-agent: *
Disallow: /intern/
Allow: /intern/offen
Disallow: /*.php$
Crawl-delay: 2.5

User-agent: scalable-engine-crawler
Disallow: /nur-fuer-andere
Crawl-delay: 9999
"""


def test_rules_for_our_product_outweigh_those_for_all() -> None:
    robots = robots_of(200, RULES)
    assert robots.refusal("https://thi.de/nur-fuer-andere/x") and not robots.refusal("https://thi.de/intern/x")
    assert robots.crawl_delay_s == 30


@pytest.mark.parametrize(("path", "allowed"), [("/intern/a", False), ("/intern/offen.html", True), ("/a.php", False)])
def test_the_longest_rule_counts_and_wildcards_are_understood(path: str, allowed: bool) -> None:
    robots = robots_of(200, RULES.partition(b"\n\n")[0])
    assert bool(robots.refusal(f"https://thi.de{path}")) is not allowed
    assert robots.crawl_delay_s == 2.5


@pytest.mark.parametrize(("asked", "delay_s"), [(b"0.5", 0.5), (b"-5", 0), (b"nan", 0), (b"soon", 0)])
def test_a_crawl_delay_that_is_none_asks_for_nothing(asked: bytes, delay_s: float) -> None:
    assert robots_of(200, b"User-agent: *\nCrawl-delay: " + asked).crawl_delay_s == delay_s


@pytest.mark.parametrize(
    ("status", "allowed", "again"),
    [
        (404, True, False),
        (403, True, False),
        (410, True, False),
        (500, False, True),
        (503, False, True),
        (429, False, True),
    ],
)
def test_no_rules_allow_everything_and_a_host_in_trouble_allows_nothing(
    status: int, allowed: bool, again: bool
) -> None:
    robots = robots_of(status, b"")
    assert (not robots.refusal("https://thi.de/"), robots.again) == (allowed, again)


def test_the_user_agent_says_whom_to_write_to() -> None:
    assert user_agent("web@thi.de") == "scalable-engine-crawler/1.0 (+mailto:web@thi.de)"
    assert user_agent("https://thi.de/bot") == "scalable-engine-crawler/1.0 (+https://thi.de/bot)"


@pytest.mark.parametrize(
    ("value", "least", "most"), [("7", 7, 7), ("99999", 120, 120), ("", 0, 0), ("bald", 0, 0), ("-3", 0, 0)]
)
def test_retry_after_in_seconds_is_bounded(value: str, least: float, most: float) -> None:
    assert least <= Reply(URL, 503, {"retry-after": value}).retry_after_s <= most


def test_retry_after_may_be_a_date() -> None:
    later = formatdate(time.time() + 60, usegmt=True)
    assert 50 < Reply(URL, 503, {"retry-after": later}).retry_after_s <= 60
