"""A crawl: hosts take turns, each turn is one request, and each address is written down before the host's next turn."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from rag.crawl import store
from rag.crawl.discovery import Discovery
from rag.crawl.fetch import Fetcher
from rag.crawl.frontier import Frontier
from rag.crawl.judge import Link
from rag.crawl.options import CrawlOptions
from rag.crawl.turn import Turns

LONGEST_NAP_S = 1.0
LONGEST_FAREWELL_S = 10.0


class Crawl:
    """One crawl of a folder whose lock the caller holds."""

    def __init__(self, folder: Path, options: CrawlOptions, frontier: Frontier, fetcher: Fetcher) -> None:
        self.stop = asyncio.Event()
        self._folder, self._options, self._frontier = folder, options, frontier
        self._discovery = Discovery(frontier, options)
        self._turns = Turns(folder, options, frontier, fetcher, self._discovery)
        self._running: dict[str, asyncio.Task[bool]] = {}
        self._last_turn: dict[str, float] = {}
        self._hosts: set[str] = set()

    async def run(self, tick: Callable[[], bool] = lambda: True) -> str:
        """Crawls, and returns by what the crawl ended; empty when it was stopped and can go on.

        `tick` is called at least once a second; when it says False, the crawl stops.
        """
        self._begin()
        try:
            while not self.stop.is_set() and self._go_on():
                await self._nap()
                if not tick():
                    self.stop.set()
        finally:
            await self._farewell()
        if self.stop.is_set():
            self._frontier.pause()
            return ""
        return self._end()

    def _begin(self) -> None:
        self._frontier.begin(self._options.as_json())
        self._hosts = self._frontier.hosts_asked()
        self._discovery.recall()
        with self._frontier.transaction():
            for seed in self._options.seeds:
                self._discovery.meet(Link(seed, 0), "")
            for sitemap in self._options.sitemaps:
                self._discovery.meet(Link(sitemap, 0, kind="sitemap"), "")

    def _go_on(self) -> bool:
        """Begins the turns that are due; says whether there is anything to wait for."""
        self._start_turns()
        if self._running:
            return True
        return not self._full() and bool(self._frontier.waiting_hosts() or self._meet_unseen())

    def _meet_unseen(self) -> bool:
        """Takes up the pages of earlier crawls that nothing led to this time: they may be there, or gone."""
        unseen = self._frontier.unseen()
        with self._frontier.transaction():
            for url, found_on, depth in unseen:
                self._discovery.meet(Link(url, depth), found_on)
        return bool(unseen)

    def _full(self) -> str:
        """The cap that lets no further request begin; empty when there is none."""
        if self._frontier.pages_kept() + len(self._running) >= self._options.max_pages:
            return "pages"
        return "requests" if self._frontier.requests() >= self._options.requests_at_most else ""

    def _start_turns(self) -> None:
        """Begins a turn of each host that is free and ready, the longest waiting first, as far as the caps allow."""
        ready = [host for host, moment in self._frontier.waiting_hosts().items() if moment <= time.time()]
        for host in sorted(ready, key=lambda host: self._last_turn.get(host, 0.0)):
            if len(self._running) >= self._options.concurrency or self._full():
                return
            if host in self._running or self._turns.wait_s(host) or self._is_capped(host):
                continue
            self._hosts.add(host)
            self._last_turn[host] = time.monotonic()
            self._running[host] = asyncio.create_task(self._turns.of(host))

    def _is_capped(self, host: str) -> bool:
        options, reason = self._options, ""
        if host not in self._hosts and len(self._hosts) >= options.max_hosts:
            reason = f"hosts: {options.max_hosts} were asked before this one"
        elif self._frontier.pages_kept(host) >= options.pages_of_a_host:
            reason = f"pages per host: {options.pages_of_a_host} are kept of this one"
        if reason:
            with self._frontier.transaction():
                self._frontier.refuse_host(host, "cap", reason)
        return bool(reason)

    async def _nap(self) -> None:
        """Until a turn ends, a host becomes ready, or LONGEST_NAP_S have passed."""
        waits = [LONGEST_NAP_S]
        if len(self._running) < self._options.concurrency and not self._full():
            for host, moment in self._frontier.waiting_hosts().items():
                if host not in self._running:
                    waits.append(max(moment - time.time(), self._turns.wait_s(host)))
        stopping = asyncio.create_task(self.stop.wait())
        await asyncio.wait([stopping, *self._running.values()], timeout=min(waits), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        for host, turn in list(self._running.items()):
            if turn.done():
                del self._running[host]
                if not turn.result():
                    self._hosts.discard(host)

    async def _farewell(self) -> None:
        """Lets requests under way end, for a while; what is cut short waits in the frontier."""
        if not self._running:
            return
        _, late = await asyncio.wait(self._running.values(), timeout=LONGEST_FAREWELL_S)
        for turn in late:
            turn.cancel()
            with suppress(asyncio.CancelledError):
                await turn

    def _end(self) -> str:
        ended_by = self._full() if self._frontier.waiting_hosts() else ""
        if not ended_by:
            met = self._frontier.caps_met()
            ended_by = next((cap for cap in ("hosts", "pages per host") if any(one.startswith(cap) for one in met)), "")
        ended_by = ended_by or "nothing left"
        with self._frontier.transaction():
            self._frontier.keep_orphans(self._options.max_pages - self._frontier.pages_kept())
        self._frontier.end(ended_by)
        store.remove_bodies_except(self._folder, self._frontier.bodies())
        return ended_by
