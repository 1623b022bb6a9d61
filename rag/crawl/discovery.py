"""Which of the addresses that a page leads to are taken up, and why the others are not."""

from rag.crawl.addresses import is_private_literal
from rag.crawl.frontier import Frontier
from rag.crawl.judge import Link
from rag.crawl.links import host_of
from rag.crawl.options import CrawlOptions
from rag.crawl.traps import Traps, file_type_refusal
from rag.crawl.visit import Outcome


class Discovery:
    """Puts addresses into the frontier: to wait for their turn, or refused and why."""

    def __init__(self, frontier: Frontier, options: CrawlOptions) -> None:
        self._frontier = frontier
        self._scope, self._allow_private = options.scope, options.allow_private
        self._traps = Traps()

    def recall(self) -> None:
        """Counts what an interrupted crawl had taken up."""
        for url in self._frontier.asked():
            self._traps.count(url)

    def meet(self, link: Link, found_on: str) -> None:
        """Takes an address up, once in a crawl; inside a transaction."""
        if self._frontier.knows(link.url):
            return
        outcome, reason = self._refusal(link)
        if reason:
            self._frontier.refuse(link.url, found_on, outcome, reason)
        else:
            self._traps.count(link.url)
            self._frontier.add(link.url, found_on, link.depth, link.kind, link.hops)

    def _refusal(self, link: Link) -> tuple[Outcome, str]:
        if is_private_literal(host_of(link.url)) and not self._allow_private:
            return "private", f"{host_of(link.url)} is a private address"
        out_of_scope = self._scope.refusal(link.url)
        if out_of_scope:
            return "scope", out_of_scope
        wrong_file = file_type_refusal(link.url) if link.kind == "page" else ""
        return ("type", wrong_file) if wrong_file else ("trap", self._traps.refusal(link.url))
