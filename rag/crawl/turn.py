"""A host's turn: one request, and everything about it written down in one transaction."""

import asyncio
import time
from pathlib import Path

from engine.errors import AddressRefused, FetchFailed
from rag.crawl import store
from rag.crawl.discovery import Discovery
from rag.crawl.fetch import Fetcher, Reply
from rag.crawl.frontier import Frontier, now
from rag.crawl.judge import PRESSURE, TRANSIENT, Judged, Link, copy_of, judge
from rag.crawl.links import host_of, origin_of
from rag.crawl.options import CrawlOptions
from rag.crawl.robots import Robots
from rag.crawl.rules import Rules
from rag.crawl.turnstile import Turnstile
from rag.crawl.visit import Outcome, Visit, Waiting


class Turns:
    """Gives hosts their turns. One turn of a host at a time."""

    def __init__(
        self, folder: Path, options: CrawlOptions, frontier: Frontier, fetcher: Fetcher, discovery: Discovery
    ) -> None:
        self._folder, self._options = folder, options
        self._frontier, self._fetcher, self._discovery = frontier, fetcher, discovery
        self._scope = options.scope
        self._turnstile = Turnstile(options.delay_s)
        self._rules = Rules(folder, frontier, fetcher, self._turnstile, self._scope)

    def wait_s(self, host: str) -> float:
        """How long until a host may be asked again; 0 when it may be now."""
        return self._turnstile.wait_s(host)

    async def of(self, host: str) -> bool:
        """One request: the host's robots.txt if that is not known, else the next address that it allows.

        Says whether the host is there at all.
        """
        while row := self._frontier.next_of(host, time.time()):
            robots = self._rules.known(row.url)
            if robots is None:
                return await self._read_rules(row)
            # A sitemap that robots.txt names is meant to be read, wherever it lies.
            refusal = robots.blocked or ("" if row.kind == "sitemap" else robots.refusal(row.url))
            if not refusal:
                await self._ask(row)
                return True
            outcome: Outcome = robots.outcome if robots.blocked else "robots"
            # A host in trouble says nothing about its pages; rules do, and what they forbid is not kept any longer.
            trouble = robots.again or robots.outcome == "error"
            self._finish(row, Judged(Visit(outcome, refusal, kept=None if trouble else False, asked=False)))
            await asyncio.sleep(0)
        return True

    async def _read_rules(self, row: Waiting) -> bool:
        robots = await self._rules.read(row.url, self._options.attempts)
        if robots is None:
            self._turnstile.pause(row.host, self._backoff_s(self._rules.attempts(row.url) - 1))
            return True
        self._meet_sitemaps(robots, row)
        return robots.outcome == "robots"

    def _meet_sitemaps(self, robots: Robots, row: Waiting) -> None:
        rules = f"{origin_of(row.url)}/robots.txt"
        places = robots.sitemaps
        if not places and not robots.blocked and row.host in map(host_of, self._options.seeds):
            places = [f"{origin_of(row.url)}/sitemap.xml"]
        with self._frontier.transaction():
            for place in places:
                self._discovery.meet(Link(place, 0, kind="sitemap"), rules)

    async def _ask(self, row: Waiting) -> None:
        stored = store.read_body(self._folder, row.body) if store.has_body(self._folder, row.body) else b""
        validators = (row.etag, row.last_modified) if stored else ("", "")
        try:
            async with self._turnstile.turn(row.host):
                reply = await self._fetcher.get(row.url, row.kind, *validators)
        except AddressRefused as error:
            self._finish(row, Judged(Visit("private", str(error))))
        except FetchFailed as error:
            self._failed(row, error)
        else:
            if reply.status in TRANSIENT:
                self._in_trouble(row, reply)
            else:
                await self._answered(row, reply, stored)

    async def _answered(self, row: Waiting, reply: Reply, stored: bytes) -> None:
        judged = await asyncio.to_thread(self._judge, reply, row, stored)
        other = self._frontier.keeper_of(judged.visit.body, row.url) if judged.visit.kept else ""
        if other:
            judged = copy_of(judged, other)
        if judged.visit.body and reply.body:
            store.write_body(self._folder, reply.body)
        self._finish(row, judged)

    def _judge(self, reply: Reply, row: Waiting, stored: bytes) -> Judged:
        try:
            return judge(reply, row, stored, self._scope, now())
        except Exception as error:
            # Whatever a stranger's page does to a parser, it costs this page and not the crawl; the report tells.
            reason = f"cannot be read: {type(error).__name__}: {error}"
            return Judged(Visit("error", reason, reply.status, reply.bytes, reply.ms, kept=None))

    def _failed(self, row: Waiting, error: FetchFailed) -> None:
        again = error.again and row.attempts + 1 < self._options.attempts
        if again:
            with self._frontier.transaction():
                self._frontier.postpone(row, time.time() + self._backoff_s(row.attempts), str(error))
        else:
            self._finish(row, Judged(Visit("error", str(error), kept=None)))

    def _in_trouble(self, row: Waiting, reply: Reply) -> None:
        """A server that is overloaded, or broken for now. When it speaks for the whole host, the host is left alone."""
        wait_s = reply.retry_after_s or self._backoff_s(row.attempts)
        if reply.status in PRESSURE:
            self._turnstile.pause(row.host, wait_s)
        if row.attempts + 1 < self._options.attempts:
            with self._frontier.transaction():
                self._frontier.postpone(row, time.time() + wait_s, f"answered {reply.status}")
        else:
            self._finish(row, judge(reply, row, b"", self._scope, now()))

    def _backoff_s(self, attempts: int) -> float:
        return float(self._options.backoff_s * 2**attempts)

    def _finish(self, row: Waiting, judged: Judged) -> None:
        with self._frontier.transaction():
            self._frontier.finish(row, judged.visit)
            for link in judged.links:
                self._discovery.meet(link, row.url)
