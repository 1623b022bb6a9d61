"""What an answer means for its address, and which addresses it leads to. Pure."""

import hashlib
from dataclasses import dataclass, replace
from http import HTTPStatus
from urllib.parse import urlsplit

from rag.crawl.charset import charset_of
from rag.crawl.fetch import HTML, Kind, Reply
from rag.crawl.links import canonical
from rag.crawl.page import NOINDEX, Page, read_page, rules_of
from rag.crawl.scope import Scope
from rag.crawl.sitemap import read_sitemap
from rag.crawl.visit import Visit, Waiting

REDIRECTS = (301, 302, 303, 307, 308)
MOST_HOPS = 5
TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
PRESSURE = (429, 503)
SITEMAP_DEPTH = 2
MOST_SITEMAPS = 50
# Behind what is one link away from a seed: a sitemap does not tell what matters.
SITEMAP_PAGES_DEPTH = 2
ASKS_NOT_TO = "asks not to be indexed"


@dataclass(frozen=True)
class Link:
    """An address that a visit leads to: `depth` links away from a seed, after `hops` redirects in a row."""

    url: str
    depth: int
    hops: int = 0
    kind: Kind = "page"


@dataclass(frozen=True)
class Judged:
    visit: Visit
    links: tuple[Link, ...] = ()


def judge(reply: Reply, row: Waiting, stored: bytes, scope: Scope, at: str) -> Judged:
    """Judges an answer that is not to be tried again.

    `stored` is the body that a 304 refers to, `at` the time of the answer, ISO 8601. Whether another address is kept
    with the same body is not looked at: see `copy_of`.
    """
    told = Visit("error", status=reply.status, bytes=reply.bytes, ms=reply.ms, content_type=reply.content_type)
    if reply.status in REDIRECTS:
        return _redirect(reply, row, told)
    if reply.status == 304 and stored:
        return _read(reply, row, stored, scope, at, told)
    if reply.status != 200:
        return Judged(_without_page(reply.status, told))
    if reply.refused:
        return Judged(replace(told, outcome=reply.refused, reason=reply.reason))
    if not reply.body.strip():
        return Judged(replace(told, reason="an empty answer", kept=None))
    return _read(reply, row, reply.body, scope, at, told)


def copy_of(judged: Judged, other: str) -> Judged:
    """The same answer when another address is kept with this very body."""
    visit = judged.visit
    told = Visit("duplicate", f"the same as {other}", visit.status, visit.bytes, visit.ms, leads_to=other)
    return Judged(told, judged.links)


def _redirect(reply: Reply, row: Waiting, told: Visit) -> Judged:
    target = canonical(reply.headers.get("location", ""), row.url) if reply.headers.get("location") else None
    if not target or target == row.url:
        where = "to itself" if target else "to nowhere"
        return Judged(replace(told, reason=f"{reply.status}: redirects {where}", kept=None))
    if row.hops >= MOST_HOPS:
        return Judged(replace(told, reason=f"more than {MOST_HOPS} redirects in a row", kept=None))
    # A moved page is kept where it moved to; one that is elsewhere only for now may come back.
    gone_for_now = reply.status not in (301, 308) and row.kept
    visit = replace(
        told, outcome="redirect", reason=f"to {target}", leads_to=target, kept=None if gone_for_now else False,
        missing=gone_for_now,
    )  # fmt: skip
    return Judged(visit, (Link(target, row.depth, row.hops + 1, row.kind),))


def _without_page(status: int, told: Visit) -> Visit:
    words = f"{status} {HTTPStatus(status).phrase}" if status in set(HTTPStatus) else str(status)
    gone = 400 <= status < 500 and status not in TRANSIENT
    return replace(told, outcome="missing" if status in (404, 410) else "error", reason=words, kept=None, missing=gone)


def _read(reply: Reply, row: Waiting, body: bytes, scope: Scope, at: str, told: Visit) -> Judged:
    visit = _with_body(reply, row, body, at, told)
    if row.kind == "sitemap":
        return Judged(
            replace(visit, outcome="read" if visit.outcome == "kept" else visit.outcome, kept=False), _listed(row, body)
        )
    robots = reply.headers.get("x-robots-tag", "")
    if visit.content_type != HTML[0]:
        noindex = bool(rules_of(robots) & NOINDEX)
        return Judged(replace(told, outcome="noindex", reason=ASKS_NOT_TO) if noindex else visit)
    page = read_page(row.url, body.decode(visit.charset, errors="replace"), robots)
    links = tuple(Link(url, row.depth + (2 if urlsplit(url).query else 1)) for url in page.links)
    if page.noindex:
        return Judged(replace(told, outcome="noindex", reason=ASKS_NOT_TO), links)
    visit = replace(visit, twins=page.twins)
    elsewhere = _canonical(page, row.url, scope)
    if not elsewhere:
        return Judged(visit, links)
    reason = f"names {elsewhere} as canonical"
    visit = replace(visit, outcome="duplicate", reason=reason, leads_to=elsewhere, kept=False)
    return Judged(visit, (*links, Link(elsewhere, row.depth)))


def _with_body(reply: Reply, row: Waiting, body: bytes, at: str, told: Visit) -> Visit:
    """The visit of an address that is kept with this body, new or not modified."""
    if reply.status == 304:
        return replace(
            told,
            outcome="not modified",
            kept=True,
            body=row.body,
            content_type=row.content_type,
            charset=row.charset,
            fetched_at=row.fetched_at,
            etag=reply.headers.get("etag", row.etag),
            last_modified=reply.headers.get("last-modified", row.last_modified),
        )
    digest = hashlib.sha256(body).hexdigest()
    is_html = reply.content_type == HTML[0]
    return replace(
        told,
        outcome="kept",
        reason="unchanged" if row.body == digest else "",
        kept=True,
        body=digest,
        content_type=reply.content_type,
        charset=charset_of(body, reply.headers.get("content-type", "")) if is_html else "",
        fetched_at=at,
        etag=reply.headers.get("etag", ""),
        last_modified=reply.headers.get("last-modified", ""),
    )


def _listed(row: Waiting, body: bytes) -> tuple[Link, ...]:
    """What a sitemap leads to: pages, and further sitemaps to a depth of SITEMAP_DEPTH."""
    found = read_sitemap(body)
    pages = tuple(Link(url, SITEMAP_PAGES_DEPTH) for url in found.pages)
    if row.depth >= SITEMAP_DEPTH:
        return pages
    return (*pages, *(Link(url, row.depth + 1, kind="sitemap") for url in found.sitemaps[:MOST_SITEMAPS]))


def _canonical(page: Page, url: str, scope: Scope) -> str:
    """The address in scope that a page names instead of its own; empty when it names none that can be believed.

    A deep page that names the front page is a template's mistake.
    """
    named = page.canonical
    if not named or named == url or not scope.holds(named):
        return ""
    to_front, from_deep = urlsplit(named), urlsplit(url)
    mistaken = to_front.path == "/" and not to_front.query and from_deep.path.count("/") > 1
    return "" if mistaken else named
