"""The robots.txt of each host: asked for before anything else, and again when the host is in trouble."""

from pathlib import Path

from engine.errors import AddressRefused, FetchFailed
from rag.crawl import store
from rag.crawl.fetch import Fetcher, Reply
from rag.crawl.frontier import Frontier, now
from rag.crawl.judge import MOST_HOPS, REDIRECTS
from rag.crawl.links import canonical, host_of, origin_of
from rag.crawl.robots import Robots, robots_of
from rag.crawl.scope import Scope
from rag.crawl.turnstile import Turnstile
from rag.crawl.visit import Visit, Waiting


class Rules:
    """What each origin allows. Every robots.txt is a row of the report."""

    def __init__(self, folder: Path, frontier: Frontier, fetcher: Fetcher, turnstile: Turnstile, scope: Scope) -> None:
        self._folder, self._frontier, self._fetcher = folder, frontier, fetcher
        self._turnstile, self._scope = turnstile, scope
        self._known: dict[str, Robots] = {}
        self._attempts: dict[str, int] = {}

    def known(self, url: str) -> Robots | None:
        """The rules for an address, if they have been read."""
        return self._known.get(origin_of(url))

    async def read(self, url: str, attempts: int) -> Robots | None:
        """Reads the rules for an address; None when the host is in trouble and is to be asked again."""
        origin = origin_of(url)
        robots = await self._read(f"{origin}/robots.txt")
        self._attempts[origin] = self._attempts.get(origin, 0) + 1
        if robots.again and self._attempts[origin] < attempts:
            return None
        self._known[origin] = robots
        self._turnstile.slow_down(host_of(url), robots.crawl_delay_s)
        return robots

    def attempts(self, url: str) -> int:
        return self._attempts.get(origin_of(url), 0)

    async def _read(self, url: str) -> Robots:
        with self._frontier.transaction():
            self._frontier.add(url, "", 0, kind="robots")
        row = self._frontier.row(url)
        assert row, f"{url} was added just now"
        try:
            reply = await self._follow(row)
        except (FetchFailed, AddressRefused) as error:
            private = isinstance(error, AddressRefused)
            again = isinstance(error, FetchFailed) and error.again
            robots = Robots(blocked=str(error), again=again, outcome="private" if private else "error")
            self._note(row, Visit(robots.outcome, str(error), kept=None))
            return robots
        if reply.status in REDIRECTS:
            robots = Robots(blocked="robots.txt redirects out of scope, or for ever")
        else:
            body = store.read_body(self._folder, row.body) if reply.status == 304 else reply.body
            robots = robots_of(200 if reply.status == 304 else reply.status, body)
        self._note(row, self._visit(row, reply, robots))
        return robots

    async def _follow(self, row: Waiting) -> Reply:
        """The answer for a robots.txt after at most MOST_HOPS redirects in scope (RFC 9309, 2.3.1.2)."""
        url, known = row.url, store.has_body(self._folder, row.body)
        for _ in range(MOST_HOPS + 1):
            async with self._turnstile.turn(host_of(url)):
                etag, last_modified = (row.etag, row.last_modified) if known else ("", "")
                reply = await self._fetcher.get(url, "robots", etag, last_modified)
            target = canonical(reply.headers.get("location", ""), url) if reply.status in REDIRECTS else None
            if not target or not self._scope.holds(target):
                break
            url = target
        return reply

    def _visit(self, row: Waiting, reply: Reply, robots: Robots) -> Visit:
        if reply.status not in (200, 304):
            outcome = robots.outcome if robots.blocked else "missing"
            return Visit(outcome, robots.blocked or f"{reply.status}: no rules", reply.status, reply.bytes, reply.ms)
        unchanged = reply.status == 304
        return Visit(
            "not modified" if unchanged else "read",
            status=reply.status,
            bytes=reply.bytes,
            ms=reply.ms,
            body=row.body if unchanged else store.write_body(self._folder, reply.body),
            etag=reply.headers.get("etag", row.etag if unchanged else ""),
            last_modified=reply.headers.get("last-modified", row.last_modified if unchanged else ""),
            content_type="text/plain",
            fetched_at=row.fetched_at if unchanged else now(),
        )

    def _note(self, row: Waiting, visit: Visit) -> None:
        with self._frontier.transaction():
            self._frontier.finish(row, visit)
